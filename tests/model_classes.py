"""A model class without weights for both backends, from one function.

It lies in a user's folders like a class of their own.
"""

from __future__ import annotations

from pathlib import Path

VLMEVALKIT = """

from vlmeval.vlm.base import BaseModel


class CLASS(BaseModel):
    INTERLEAVE = True

    def generate_inner(self, message, dataset=None):
        return answer_to("\\n".join(part["value"] for part in message if part["type"] == "text"))
"""

LMMS_EVAL = """

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest(model_id="NAME", simple_class_path="NAME_model.CLASS")


class CLASS(lmms):
    is_simple = True

    def __init__(self, pretrained="nothing", device=None, batch_size=1, max_batch_size=None):
        super().__init__()

    def generate_until(self, requests):
        return [answer_to(request.args[0]) for request in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    def generate_until_multi_round(self, requests):
        raise NotImplementedError
"""


def install(folder: Path, name: str, logic: str) -> dict[str, str]:
    """Write the class below ``folder``; returns the variables that lead to it.

    ``logic`` defines ``answer_to(text)``, from a question's text to an answer. lmms-eval calls the
    class ``name``, VLMEvalKit ``name.Name``; ``name`` is one word in small letters.
    """
    own, site = folder / "vlm", folder / "site"
    about = site / f"{name}_model-1.0.dist-info"
    for made in (own, about):
        made.mkdir(parents=True, exist_ok=True)
    cls = name.capitalize()
    (own / f"{name}.py").write_text(logic + VLMEVALKIT.replace("CLASS", cls))
    (site / f"{name}_model.py").write_text(
        logic + LMMS_EVAL.replace("CLASS", cls).replace("NAME", name)
    )
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-model\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[lmms_eval.models]\n{name} = {name}_model:MANIFEST\n")
    return {"EASI_VLM_DIR": str(own), "PYTHONPATH": str(site)}
