"""Model classes of both backends that sleep as long as a file says, and the environment in which the program finds them."""

from __future__ import annotations

from pathlib import Path

from many_questions import MARKER

LOGIC = f'''
import json, os, re, time
from pathlib import Path

TOLD, CAME = Path(os.environ["EASI_SLEEPY_TOLD"]), Path(os.environ["EASI_SLEEPY_CAME"])
WORKERS = int(os.environ["EASI_SLEEPY_WORKERS"])
SECONDS = json.loads(Path(os.environ["EASI_SLEEPY_SECONDS"]).read_text())
waited = False


def answer_to(text):
    global waited
    if not waited:
        waited = True
        (CAME / f"came.{{os.getpid()}}").touch()
        while len(list(CAME.glob("came.*"))) < WORKERS:
            time.sleep(0.05)
    name = re.search(r"{MARKER}", text)[1]
    began = time.monotonic()
    time.sleep(SECONDS[name])
    with (TOLD / f"told.{{os.getpid()}}").open("a") as file:
        file.write(f"{{name}} {{began}} {{time.monotonic()}} {{time.process_time()}}\\n")
    return "The answer is A."
'''

VLMEVALKIT = LOGIC + '''

from vlmeval.vlm.base import BaseModel


class Sleepy(BaseModel):
    INTERLEAVE = True

    def generate_inner(self, message, dataset=None):
        return answer_to("\\n".join(part["value"] for part in message if part["type"] == "text"))
'''

LMMS_EVAL = LOGIC + '''

from lmms_eval.api.model import lmms
from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest(model_id="sleepy", simple_class_path="sleepy_model.Sleepy")


class Sleepy(lmms):
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

MODELS = {"vlmevalkit": ("--model", "Sleepy"), "lmms-eval": ("--model", "sleepy", "--model-args", "pretrained=nothing")}


def install(folder: Path) -> dict[str, str]:
    """Write both classes below ``folder``; returns the variables that lead to them.

    They also need EASI_SLEEPY_SECONDS (a file: seconds by the name in a question's marker), EASI_SLEEPY_TOLD (a folder:
    each process notes name, begin and end of each answer on the system's monotonic clock, and its processor time),
    EASI_SLEEPY_CAME and EASI_SLEEPY_WORKERS (a folder: the first answer waits until so many processes are there).
    """
    own, site = folder / "vlm", folder / "site"
    about = site / "sleepy_model-1.0.dist-info"
    for made in (own, about):
        made.mkdir(parents=True, exist_ok=True)
    (own / "sleepy.py").write_text(VLMEVALKIT)
    (site / "sleepy_model.py").write_text(LMMS_EVAL)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sleepy-model\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[lmms_eval.models]\nsleepy = sleepy_model:MANIFEST\n")
    return {"EASI_VLM_DIR": str(own), "PYTHONPATH": str(site)}
