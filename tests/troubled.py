"""A model without weights that gets into trouble, for both backends: written into a user's folders like a model of their own.

The first questions asked of it (each process answers a few in peace before) are made the troubled ones, one for each
kind, and stay so for all its processes: what they did stands in the folder ``EASI_TEST_CLAIMS``.
"""

from __future__ import annotations

from pathlib import Path

KINDS = ("kill", "raise", "crowded", "greedy", "hang")

LOGIC = '''
import hashlib, json, os, signal, time
from pathlib import Path
import torch

CLAIMS = Path(os.environ["EASI_TEST_CLAIMS"])
PEACE = 4
calls = 0


def crowd():
    """Whether this is a launch that may still be followed by one with fewer workers."""
    (work,) = Path(os.environ["EASI_TEST_RUNS"]).rglob("work.json")
    return not json.loads(work.read_text())["final"]


def kind_of(name, peace):
    for kind in KINDS:
        if (CLAIMS / kind).exists() and (CLAIMS / kind).read_text() == name:
            return kind
    for kind in KINDS:
        if not peace:
            try:
                with (CLAIMS / kind).open("x") as file:
                    file.write(name)
                return kind
            except FileExistsError:
                continue
    return ""


def answer_to(text):
    global calls
    calls += 1
    name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    kind = kind_of(name, calls <= PEACE)
    with (CLAIMS / "asked").open("a") as file:
        file.write(f"{name} {kind or '-'} {os.getpid()}\\n")
    asked = sum(line.startswith(name) for line in (CLAIMS / "asked").read_text().splitlines())
    if kind == "kill" and asked == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "raise":
        raise ValueError("this picture is cursed")
    if kind == "greedy" or (kind == "crowded" and crowd()):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 TiB")
    while kind == "hang":
        time.sleep(1)
    time.sleep(0.05)
    return f"The answer is {'ABCD'[int(name, 16) % 4]}."
'''.replace("KINDS", repr(KINDS))

VLMEVALKIT = LOGIC + '''

from vlmeval.vlm.base import BaseModel


class Troubled(BaseModel):
    INTERLEAVE = True

    def generate_inner(self, message, dataset=None):
        return answer_to("\\n".join(part["value"] for part in message if part["type"] == "text"))
'''

LMMS_EVAL = LOGIC + '''

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest


MANIFEST = ModelManifest(model_id="troubled", simple_class_path="troubled_model.Troubled")


class Troubled(lmms):
    is_simple = True

    def __init__(self, pretrained="nothing", device=None, batch_size=1, max_batch_size=None):
        super().__init__()

    def generate_until(self, requests):
        return [answer_to(request.args[0]) for request in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    def generate_until_multi_round(self, requests):
        raise NotImplementedError
'''


def install(folder: Path) -> dict[str, str]:
    """Write it for both backends; the environment with which it is found. VLMEvalKit calls it ``troubled.Troubled``, lmms-eval ``troubled``."""
    own, site, claims = folder / "vlm", folder / "site", folder / "claims"
    for made in (own, site / "troubled_model-1.0.dist-info", claims):
        made.mkdir(parents=True)
    (own / "troubled.py").write_text(VLMEVALKIT)
    (site / "troubled_model.py").write_text(LMMS_EVAL)
    about = site / "troubled_model-1.0.dist-info"
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: troubled-model\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[lmms_eval.models]\ntroubled = troubled_model:MANIFEST\n")
    return {"EASI_VLM_DIR": str(own), "PYTHONPATH": str(site), "EASI_TEST_CLAIMS": str(claims)}
