"""lmms-eval's own launch with the arguments, the threads and the data of a worker of ours."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from easi_eval.data.local_hub.server import LocalHub
from program import RunFolder, User


def launched(
    user: User,
    run: RunFolder,
    served: Path,
    folder: Path,
    program: Sequence[str] = ("-m", "lmms_eval"),
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m lmms_eval`` instead of a run's worker, writing below ``folder``.

    ``program`` is another program that takes the same options. ``served`` is what the rehearsal's
    hub serves.
    """
    (command,) = [
        each
        for each in run.manifest["commands"]
        if "-m easi_lmms_eval" in each and "--easi-role" not in each
    ]
    words = shlex.split(command)
    words = words[words.index("env") :]  # what stands before goes to the run's own folder
    for option in ("--easi-run", "--output_path"):
        at = words.index(option)
        del words[at : at + 2]
    at = words.index(sys.executable)
    words[at + 1 : at + 3] = program
    with LocalHub(served) as running:
        words = [
            re.sub("^HF_ENDPOINT=.*", f"HF_ENDPOINT={running.endpoint}", word) for word in words
        ]
        return subprocess.run(
            [*words, "--output_path", str(folder)],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            env=user.environment(
                HF_HUB_DISABLE_XET="1", NO_PROXY="127.0.0.1", HF_TOKEN="some tasks insist on one"
            ),
        )
