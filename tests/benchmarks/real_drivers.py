"""How evenly the real drivers share the work: the whole program with a model class that sleeps.

    .venv/bin/python tests/benchmarks/real_drivers.py [--backend vlmevalkit lmms-eval] [--workers 8] [--mean 1.5] [--sigma 1.0]

The rehearsal's questions of nine benchmarks. A question takes lognormal seconds; on VLMEvalKit, whose classes are shown
the pictures, times what the queue expects of it. All workers begin together (each waits in its first call for the
others), because importing eight backends on a few cores takes minutes that say nothing of the queue. Beside it the
static split of the same questions. From the first to the last answer; 1.00 is max(total / workers, longest question).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from easi_eval.benchmarks import CORE_KEYS

PROGRAM = Path(__file__).resolve().parents[2] / "scripts" / "submissions" / "run_easi_eval.py"
KEYS = (*(key for key in CORE_KEYS if key != "site"), "omnispatial_(manual_cot)", "spar_bench")

LOGIC = '''
import hashlib, math, os, random, time
from pathlib import Path

from easi_eval.answering.cost import expected

FOLDER, WORKERS = Path(os.environ["EASI_SLEEPY"]), int(os.environ["EASI_SLEEPY_WORKERS"])
MEAN, SIGMA = float(os.environ["EASI_SLEEPY_MEAN"]), float(os.environ["EASI_SLEEPY_SIGMA"])
waited = False


def answer_to(text, cost):
    global waited
    if not waited:
        waited = True
        (FOLDER / f"came.{os.getpid()}").touch()
        while len(list(FOLDER.glob("came.*"))) < WORKERS:
            time.sleep(0.05)
    name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    seconds = MEAN * cost * math.exp(random.Random(name).gauss(0, SIGMA) - SIGMA**2 / 2)
    began = time.monotonic()
    time.sleep(seconds)
    with (FOLDER / f"told.{os.getpid()}").open("a") as file:
        file.write(f"{began} {time.monotonic()}\\n")
    return "The answer is A."
'''

VLMEVALKIT = LOGIC + '''

from vlmeval.vlm.base import BaseModel


class Sleepy(BaseModel):
    INTERLEAVE = True

    def generate_inner(self, message, dataset=None):
        texts = [part["value"] for part in message if part["type"] == "text"]
        images = len(message) - len(texts)
        return answer_to("\\n".join(part["value"] for part in message), expected(images=images, characters=sum(map(len, texts))) / 4)
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
        return [answer_to(f"{request.task_name} {request.doc_id}", 1.0) for request in requests]

    def loglikelihood(self, requests):
        raise NotImplementedError

    def generate_until_multi_round(self, requests):
        raise NotImplementedError
'''

MODELS = {"vlmevalkit": ("--model", "Sleepy"), "lmms-eval": ("--model", "sleepy", "--model-args", "pretrained=nothing", "--device", "cpu")}


@dataclass(frozen=True)
class Measured:
    backend: str
    questions: int
    workers: int
    total: float
    longest: float
    makespan: float

    @property
    def ratio(self) -> float:
        return self.makespan / max(self.total / self.workers, self.longest)


def install(folder: Path) -> dict[str, str]:
    own, site = folder / "vlm", folder / "site"
    about = site / "sleepy_model-1.0.dist-info"
    for made in (own, about):
        made.mkdir(parents=True)
    (own / "sleepy.py").write_text(VLMEVALKIT)
    (site / "sleepy_model.py").write_text(LMMS_EVAL)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sleepy-model\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[lmms_eval.models]\nsleepy = sleepy_model:MANIFEST\n")
    return {"EASI_VLM_DIR": str(own), "PYTHONPATH": str(site)}


def measure(backend: str, workers: int, mean: float, sigma: float, folder: Path, keys: tuple[str, ...] = KEYS) -> Measured:
    notes = folder / "notes"
    notes.mkdir(parents=True)
    env = {**os.environ, **install(folder / "model"), "EASI_SLEEPY": str(notes), "EASI_SLEEPY_WORKERS": str(workers),
           "EASI_SLEEPY_MEAN": str(mean), "EASI_SLEEPY_SIGMA": str(sigma)}
    done = subprocess.run([sys.executable, str(PROGRAM), "--smoke", "--backend", backend, *MODELS[backend], "--nproc", str(workers),
                           "--benchmarks", ",".join(keys), "--no-rich", "--output-dir", str(folder / "out")],
                          env=env, capture_output=True, text=True)
    spans = defaultdict(list)
    for told in notes.glob("told.*"):
        for line in told.read_text().splitlines():
            began, ended = map(float, line.split())
            spans[told.name].append((began, ended))
    every = [span for worker in spans.values() for span in worker]
    if done.returncode or len(spans) != workers:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    seconds = [ended - began for began, ended in every]
    return Measured(backend, len(every), workers, sum(seconds), max(seconds), max(end for _, end in every) - min(began for began, _ in every))


def table(rows: list[Measured], sigma: float) -> str:
    lines = ["| backend | questions | workers | sigma | total / workers, s | longest, s | first to last answer, s | ratio |", "|---|---|---|---|---|---|---|---|"]
    lines += [f"| {row.backend} | {row.questions} | {row.workers} | {sigma:g} | {row.total / row.workers:.1f} | {row.longest:.1f} "
              f"| {row.makespan:.1f} | {row.ratio:.3f} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", nargs="+", default=list(MODELS))
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--mean", type=float, default=1.5)
    parser.add_argument("--sigma", type=float, default=1.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(table([measure(backend, args.workers, args.mean, args.sigma, Path(folder) / backend) for backend in args.backend], args.sigma))


if __name__ == "__main__":
    main()
