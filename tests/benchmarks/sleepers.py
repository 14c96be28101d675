"""Model classes of both backends that sleep as long as a file says.

Also the environment in which the program finds them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from many_questions import MARKER

# the benchmarks are started as programs
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import model_classes

LOGIC = f'''
import json, os, re, socket, time
from pathlib import Path

HOST = socket.gethostname()
SLOWER = json.loads(os.environ.get("EASI_SLEEPY_SLOWER", "{{}}")).get(HOST, 1)
TOLD, CAME = Path(os.environ["EASI_SLEEPY_TOLD"]), Path(os.environ["EASI_SLEEPY_CAME"])
WORKERS = int(os.environ["EASI_SLEEPY_WORKERS"])
SECONDS = json.loads(Path(os.environ["EASI_SLEEPY_SECONDS"]).read_text())
waited = False


def answer_to(text):
    global waited
    name = re.search(r"{MARKER}", text)[1]  # a question of ours, not the one asked after loading
    if not waited:
        waited = True
        (CAME / f"came.{{os.getpid()}}").touch()
        while len(list(CAME.glob("came.*"))) < WORKERS:
            time.sleep(0.05)
    began = time.monotonic()
    with (TOLD / f"asked.{{HOST}}.{{os.getpid()}}").open("a") as file:
        file.write(f"{{name}} {{began}}\\n")
    time.sleep(SLOWER * SECONDS[name])
    with (TOLD / f"told.{{os.getpid()}}").open("a") as file:
        file.write(f"{{name}} {{began}} {{time.monotonic()}} {{time.process_time()}}\\n")
    return "The answer is A."
'''

MODELS = {
    "vlmevalkit": ("--model", "Sleepy"),
    "lmms-eval": ("--model", "sleepy", "--model-args", "pretrained=nothing"),
}


def install(folder: Path) -> dict[str, str]:
    """Write both classes below ``folder``; returns the variables that lead to them.

    The classes also need these variables:

    - EASI_SLEEPY_SECONDS: a file with the seconds by the name in a question's marker.
    - EASI_SLEEPY_TOLD: a folder in which each process notes name and begin of each question, and
      after its answer name, begin and end on the system's monotonic clock, and its processor time.
    - EASI_SLEEPY_CAME and EASI_SLEEPY_WORKERS: a folder and a number; the first answer waits until
      that many processes have arrived.

    EASI_SLEEPY_SLOWER may say, by the name of a machine, how many times as long it takes.
    """
    return model_classes.install(folder, "sleepy", LOGIC)
