"""A model without weights that gets into trouble, for both backends.

It is written into a user's folders like a model of their own. Each process first answers a few
questions normally. The first questions after that are made the troubled ones, one for each kind,
and stay so for all processes. What they did is recorded in the folder ``EASI_TEST_CLAIMS``.
"""

from __future__ import annotations

from pathlib import Path

import model_classes

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


def install(folder: Path) -> dict[str, str]:
    """Write the model for both backends; returns the environment with which it is found.

    VLMEvalKit calls it ``troubled.Troubled``, lmms-eval ``troubled``.
    """
    claims = folder / "claims"
    claims.mkdir(parents=True)
    return {**model_classes.install(folder, "troubled", LOGIC), "EASI_TEST_CLAIMS": str(claims)}
