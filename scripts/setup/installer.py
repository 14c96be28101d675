"""Runs the pinned uv, which pip fetches, with pip's settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from environment import State, includes, pins
from index_settings import parse_pip_config, untied, uv_variables

ROOT = Path(__file__).resolve().parents[2]
LOCKS = Path(__file__).resolve().parent / "locks"
DOWNLOADED = "3.11"  # the Python that EASI_PYTHON=download fetches
NO_PYTHON = (
    f"install one, or: uv python install {DOWNLOADED} "
    "(EASI_PYTHON=download bash scripts/setup.sh does it)"
)
_CHATTER = re.compile(
    r"\s*([-+~] |Using |Resolved |Checked |Audited |Built |Building |Prepared |Installed "
    r"|Downloading |Downloaded |Uninstalled |Bytecode |Creating |Activate |$)"
)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


class SetupError(Exception):
    """A failed set-up: what went wrong and what to do, one line each."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Uv(NamedTuple):
    """uv with the variables it runs with."""

    program: str
    variables: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, variables: Mapping[str, str] | None = None) -> Uv:
        """Return the uv of a folder; it fetches no Python unless told to."""
        environ = untied(os.environ) if variables is None else variables
        return cls(str(folder / "bin" / "uv"), {**environ, "UV_PYTHON_DOWNLOADS": "manual"})

    def run(self, *arguments: str) -> None:
        """Run it with these arguments."""
        run([self.program, *arguments], self.variables)

    def install(self, venv: Path, *arguments: str) -> None:
        """Install packages. What the user has installed besides stays, so this is not a sync."""
        # No build takes the newest tools of the day: those in the environment are pinned.
        fixed = ("--no-deps", "--no-build-isolation")
        self.run("pip", "install", "--python", str(venv / "bin" / "python"), *fixed, *arguments)


def run(argv: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run an installer; on a terminal it shows its progress, else lines without credentials.

    Raises:
        SetupError: It failed.
    """
    piped = None if sys.stderr.isatty() else subprocess.PIPE
    with subprocess.Popen(
        argv,
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=piped,
        stderr=piped and subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=ROOT,
        close_fds=False,
    ) as process:
        for line in process.stdout or ():
            if not _CHATTER.match(line):
                say("  " + _CREDENTIALS.sub("***", line.rstrip()))
    if process.returncode:
        raise SetupError(
            "the packages could not be installed (the reason is above)",
            "check the network and pip's settings (pip config list), "
            "then run the same command again",
        )


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def find_uv(venv: Path, state: State, scratch: Path) -> Uv:
    """Return the pinned uv: that of the environment, else one that pip fetches.

    Raises:
        SetupError: There is no pip, or it cannot fetch uv.
    """
    pip = find_pip(scratch)
    # Settings that would send uv to another place.
    environ = {**untied(os.environ), "PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0"}
    listing = subprocess.run(
        [*pip, "config", "list"], stdout=subprocess.PIPE, text=True, env=environ
    )
    variables = {**environ, **uv_variables(parse_pip_config(listing.stdout), environ)}
    lock = LOCKS / "bootstrap.lock"
    if state.includes and state.versions.get("uv") == pins(lock)["uv"]:
        return Uv.of(venv, variables)
    entry = re.search(r"(?ms)^uv==.*?(?=^\w|\Z)", lock.read_text("utf-8"))
    assert entry
    only_uv, target = scratch / "uv.lock", scratch / "uv"
    only_uv.write_text(entry[0], "utf-8")
    how = ("-qq", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    run([*pip, "install", *how, "--target", str(target), "-r", str(only_uv)], environ)
    return Uv.of(target, variables)


def find_pip(scratch: Path) -> tuple[str, ...]:
    """Return the command of this Python's pip, else of the one that its ensurepip provides."""
    helper = scratch / "pip"
    for python, make_it in ((sys.executable, ()), (str(helper / "bin" / "python"), ("venv",))):
        if make_it and not succeeds(sys.executable, "-m", "venv", str(helper)):
            break
        if succeeds(python, "-s", "-m", "pip", "--version"):
            return (python, "-s", "-m", "pip")
    raise SetupError(
        f"{sys.executable} has no pip",
        "apt install python3-pip python3-venv (or: python3 -m ensurepip), then again",
    )


def succeeds(*argv: str) -> bool:
    """Return whether a command exits with 0."""
    return subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0


def find_python(uv: Uv) -> str:
    """Return the Python to build with: that of EASI_PYTHON, else this one or one that uv finds.

    Raises:
        SetupError: There is none that fits.
    """
    asked = os.environ.get("EASI_PYTHON")
    if asked == "download":
        uv.run("python", "install", DOWNLOADED)
        return DOWNLOADED
    if asked:
        return asked
    if includes(Path(sys.executable)):
        return sys.executable
    argv = [uv.program, "python", "find", "--no-project", "--system", ">=3.11,<3.13"]
    found = subprocess.run(argv, env=dict(uv.variables), capture_output=True, text=True)
    if found.returncode:
        raise SetupError("no Python 3.11 or 3.12 here", NO_PYTHON)
    return found.stdout.strip()
