"""Check the program on a machine with GPUs and print one table (``bash scripts/gpu_check.sh``).

Without a network, about ten minutes: checkpoints of random weights, as large as Qwen2.5-VL-7B and
Qwen3.5-9B, on the rehearsal's questions. With ``--published`` a real model follows, on EASI-8 with
both backends, beside its published row. ``--tiny`` takes tiny checkpoints, to try the check itself.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import torch

import model_classes
from easi_eval.benchmarks import headline_keys
from easi_eval.core.profiles import BASE, NEWER, interpreter
from easi_eval.engine.processes.gpu_use import gpu_use
from program import Results, RunFolder, run_folders

ROOT = HERE.parents[1]
PROGRAM = ROOT / "scripts" / "submissions" / "run_easi_eval.py"
ROWS = PROGRAM.parent / "easi_eval" / "benchmarks" / "published_rows.tsv"
PUBLISHED = "Qwen/Qwen3-VL-2B-Instruct"
CLOSE, NEAR = 2.5, 5.0  # points between our score and a published one
FAMILIES = {"qwen2_5_vl": BASE, "qwen3_5": NEWER}
KINDS = {"images": "blink", "32-frame video": "vsi_bench"}
TABLE_KEYS = headline_keys()
ATTENTIONS = ("flash_attention_2", "sdpa")
NO_PREFETCH = HERE.parent / "no_prefetch"
FEW, MORE = 4, 20  # questions of the two runs that a rate is computed from

# A question of it takes one and a half times the memory of one GPU, spread over those it sees.
GREEDY = """
import torch

def answer_to(text):
    count = torch.cuda.device_count()
    share = int(1.5 * torch.cuda.get_device_properties(0).total_memory / count)
    held = [torch.empty(share, dtype=torch.uint8, device=f"cuda:{i}") for i in range(count)]
    return f"The answer is {'ABCD'[len(held) % 4]}."
"""


def evaluate(out: Path, model: Path | str, *options: str, **variables: str) -> tuple[float, str]:
    """Run the program; return its seconds and what it said."""
    argv = [sys.executable, str(PROGRAM), "--no-rich", "--output-dir", str(out), "--model"]
    began = time.monotonic()
    done = subprocess.run(
        [*argv, str(model), *options],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )
    if done.returncode not in (0, 1):  # 1: not all of EASI-8 is complete
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    return time.monotonic() - began, done.stdout


def rate(folder: Path, model: Path | str, key: str, *options: str, **variables: str) -> float:
    """Questions per second, from two runs of different lengths, so that loading does not count.

    NaN if the longer run was not the longer one: a tiny model is too quick to be measured.
    """
    seconds = [
        evaluate(
            folder / str(limit),
            model,
            "--smoke",
            "--benchmarks",
            key,
            "--limit",
            str(limit),
            *options,
            **variables,
        )[0]
        for limit in (FEW, MORE)
    ]
    more = seconds[1] - seconds[0]
    return (MORE - FEW) / more if more > 0 else math.nan


def watched(action: Callable[[], object], gpus: int) -> str:
    """Carry out ``action``; return the GPUs' memory and use as last seen while they worked."""
    seen, over = [""], threading.Event()

    def watch() -> None:
        for said in gpu_use(gpus) if gpus else ():
            if re.search(r"[1-9]\d* %", said):
                seen.append(said)
            if over.wait(1):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    action()
    over.set()
    watcher.join()
    return seen[-1] or "not seen"


def attention(folder: RunFolder) -> str:
    """The attention that the workers' models used."""
    return ", ".join(
        sorted({each["made_with"].get("attention", "?") for each in folder.records("loaded")})
    )


def check_family(family: str, profile: str, place: Path, gpus: int, tiny: bool) -> list[list[str]]:
    """Build a checkpoint, run it on all GPUs, and compare its rates with the backend's own loop."""
    model, rows = place / f"{family}-random", []
    builder = [interpreter(profile), str(HERE / "large_checkpoints.py"), family, str(model)]
    subprocess.run([*builder, *(["--tiny"] if tiny else [])], check=True)
    workers, out = str(max(gpus, 1)), place / f"{family}-all"

    def run() -> None:
        keys = ",".join(KINDS.values())
        evaluate(
            out, model, "--smoke", "--benchmarks", keys, "--limit", str(MORE), "--nproc", workers
        )

    use = watched(run, gpus)
    (folder,) = run_folders(out, "vlmevalkit")
    told = {answer["worker"] for answer in folder.answers}
    rows.append([f"{family}: workers that answered", f"{len(told)} of {workers}; {use}"])
    rows.append([f"{family}: attention", attention(folder)])
    for kind, key in KINDS.items():
        ours = rate(place / f"{family}-{key}-ours", model, key)
        stock = rate(place / f"{family}-{key}-stock", model, key, "--plain")
        alone = rate(place / f"{family}-{key}-alone", model, key, PYTHONPATH=str(NO_PREFETCH))
        rows.append([f"{family}: {kind}, ours / stock", ratio(ours, stock)])
        rows.append([f"{family}: {kind}, prompts prepared ahead / not", ratio(ours, alone)])
    return [*rows, check_attention(family, model, place)]


def check_attention(family: str, model: Path, place: Path) -> list[str]:
    """Compare flash-attn with sdpa in the generic class, which takes either."""
    what = f"{family}: images, {' / '.join(ATTENTIONS)}"
    if find_spec("flash_attn") is None:
        return [what, "skipped: flash-attn is not installed"]
    rates = [
        rate(
            place / f"{family}-{name}",
            "easi_vlm",
            KINDS["images"],
            "--backend",
            "lmms-eval",
            "--model-args",
            f"pretrained={model},attn_implementation={name}",
        )
        for name in ATTENTIONS
    ]
    return [what, ratio(*rates)]


def ratio(one: float, other: float) -> str:
    """Two rates and the first over the second."""
    return f"{one:.2f} / {other:.2f} questions/s, {one / other:.2f}"


def check_ladder(place: Path, gpus: int) -> list[str]:
    """Let every question run out of the memory of one GPU."""
    what = "out of memory on one GPU, then on two"
    if not gpus:
        return [what, "skipped: no GPU"]
    variables = model_classes.install(place / "greedy", "greedy", GREEDY)
    keys = ("--benchmarks", KINDS["images"], "--limit", "2")
    evaluate(place / "ladder", "Greedy", "--smoke", *keys, "--nproc", str(gpus), **variables)
    (folder,) = run_folders(place / "ladder", "vlmevalkit")
    failed = [each for each in folder.records("answer") if each["failure"]]
    expected = 0 if gpus > 1 else 2
    verdict = "as expected" if len(failed) == expected else f"expected {expected}"
    return [what, f"{len(failed)} of 2 failed ({verdict})"]


def check_published(place: Path, gpus: int) -> list[list[str]]:
    """Evaluate a real model on EASI-8 with both backends, beside its published row."""
    published, rows = published_row(PUBLISHED), list[list[str]]()
    for backend, model in (
        ("vlmevalkit", [PUBLISHED]),
        ("lmms-eval", ["qwen3_vl", "--model-args", f"pretrained={PUBLISHED}"]),
    ):
        out = place / f"published-{backend}"
        evaluate(out, model[0], *model[1:], "--backend", backend, "--nproc", str(max(gpus, 1)))
        for key in TABLE_KEYS:
            ours = Results(out).table[(key, "")]["score"]
            rows.append([f"{PUBLISHED}, {backend}: {key}", compared(ours, published[key])])
    return rows


def published_row(model: str) -> dict[str, str]:
    """Return the published scores of a model of the hub, 0-100, by benchmark."""
    lines = (line for line in ROWS.read_text("utf-8").splitlines() if not line.startswith("#"))
    name = model.rpartition("/")[2]
    return next(row for row in csv.DictReader(lines, delimiter="\t") if row["model"] == name)


def compared(ours: str, published: str) -> str:
    """Our score, the published one, their difference and what to think of it."""
    if not ours:
        return f"missing / {published}"
    difference = float(ours) - float(published)
    verdict = next(
        (word for most, word in ((CLOSE, "close"), (NEAR, "near")) if abs(difference) <= most),
        "FAR",
    )
    return f"{float(ours):.1f} / {published}, {difference:+.1f}: {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--published", action="store_true", help="a real model too; needs a network"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny checkpoints")
    parser.add_argument("--folder", type=Path, help="where the checkpoints (35 GB) and runs go")
    asked = parser.parse_args()
    gpus = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(each) for each in range(gpus)) or "no GPU"
    print(f"| {names}; torch {torch.__version__} | |\n|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=asked.folder, prefix="easi-gpu-") as folder:
        place = Path(folder)
        for family, profile in FAMILIES.items():
            show(check_family(family, profile, place, gpus, asked.tiny))
        show([check_ladder(place, gpus)])
        if asked.published:
            show(check_published(place, gpus))


def show(rows: list[list[str]]) -> None:
    """Print rows of the table."""
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
