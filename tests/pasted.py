"""Commands as a person pastes them into bash, in a folder that looks like a clone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from own_entries import OWN_ENTRIES
from program import MARK, REPOSITORY, User, marked


@dataclass(frozen=True)
class Said:
    code: int
    text: str  # of both streams


@dataclass(frozen=True)
class Clone:
    """The folder, with the tests' environment in ``.venv``.

    The program in it has entries for data as small as the tests' own; both backends' projects are
    copies, because their commands write into them.
    """

    folder: Path
    user: User

    @classmethod
    def make(cls, root: Path) -> Clone:
        folder = root / "EASI-upstream"
        program = folder / "scripts" / "submissions" / "run_easi_eval.py"
        program.parent.mkdir(parents=True)
        program.symlink_to(OWN_ENTRIES)
        for name in ("VLMEvalKit", "lmms-eval"):
            left_out = shutil.ignore_patterns("__pycache__", "*.egg-info", "outputs", "logs")
            shutil.copytree(REPOSITORY / name, folder / name, ignore=left_out)
        for name in ("setup", "setup.sh", "env.sh"):
            (folder / "scripts" / name).symlink_to(REPOSITORY / "scripts" / name)
        (folder / ".venv").symlink_to(sys.prefix)
        return cls(folder, User(root / "user", secrets=False))

    def paste(
        self, command: str, look: Callable[[list[int]], object] | None = None, **changes: str
    ) -> Said:
        """Run it in a new shell, with the environment activated.

        ``look`` is called again and again with the processes of the command while it runs.
        """
        mark = uuid.uuid4().hex
        screen = self.user.root / f"{mark}.txt"
        with screen.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", f"source .venv/bin/activate\n{command}"],
                cwd=self.folder,
                env=self.user.environment(**changes, **{MARK: mark}),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while look is not None and process.poll() is None:
                look([pid for pid, _ in marked(mark)])
                time.sleep(0.2)
            process.wait(800)
        finally:
            for pid, _ in marked(mark):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait()
        return Said(process.returncode, screen.read_text(encoding="utf-8", errors="replace"))
