"""What an environment holds, compared with what is pinned. It only looks."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

PROJECTS = {"easi-eval": ".", "easi-vlmevalkit": "VLMEvalKit", "easi-lmms-eval": "lmms-eval"}
OLDEST, TOO_NEW = (3, 11), (3, 13)
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_PROBE = (
    "import sys, encodings, sysconfig as s; print(s.get_path('include')); "
    f"sys.exit(not {OLDEST} <= sys.version_info < {TOO_NEW})"
)


class State(NamedTuple):
    """What is in the environment's folder.

    Attributes:
        includes: Where its Python's headers would be; None if no Python that fits starts there.
        versions: Version by normalised name of every package that is whole.
        damaged: Names of packages that lack files: an installation that was cut off, or worse.
    """

    includes: Path | None = None
    versions: Mapping[str, str] = {}
    damaged: frozenset[str] = frozenset()


def normal(name: str) -> str:
    """Return a distribution's name in the normalised form by which indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: Path) -> dict[str, str]:
    """Return the version by normalised name for every ``name==version`` line of a lock."""
    return {normal(name): version for name, version in _PIN.findall(lock.read_text("utf-8"))}


def look(venv: Path) -> State:
    """Return the state of an environment, which need not exist."""
    versions: dict[str, str] = {}
    damaged = set()
    for folder in metadata(venv):
        name, _, version = folder.name[: -len(".dist-info")].rpartition("-")
        name = normal(name)
        if name in versions or not is_whole(folder):
            damaged.add(name)
        versions[name] = version
    whole = {name: version for name, version in versions.items() if name not in damaged}
    return State(includes(venv / "bin" / "python"), whole, frozenset(damaged))


def includes(python: Path) -> Path | None:
    """Return the folder of an interpreter's headers; None if it does not start or fit."""
    try:
        probe = subprocess.run(
            [str(python), "-I", "-c", _PROBE], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Path(probe.stdout.strip()) if probe.returncode == 0 else None


def is_whole(folder: Path) -> bool:
    """Return whether all files of an installed package are there in their full size.

    Compiled files and scripts in ``bin`` are not looked at: the first are written by anyone, the
    size of the second depends on where the environment was made.
    """
    site = folder.parent
    try:
        with (folder / "RECORD").open(encoding="utf-8", newline="") as record:
            for name, _, size in csv.reader(record):
                if not name.endswith(".pyc") and not name.startswith(("..", "__editable__")):
                    found = os.stat(f"{site}/{name}").st_size  # noqa: PTH116 -- called 50,000 times
                    if size and found != int(size) and ".dist-info/" not in name:
                        return False
    except (OSError, ValueError):
        return False
    return True


def origin(venv: Path, project: str) -> Path | None:
    """Return the folder that a project of ours was installed from, if it exists."""
    for folder in metadata(venv, project):
        try:
            url = json.loads((folder / "direct_url.json").read_text("utf-8"))["url"]
        except (OSError, ValueError, KeyError):
            continue
        found = Path(unquote(urlsplit(url).path))
        return found if found.is_dir() else None
    return None


def stale_projects(venv: Path, root: Path) -> list[str]:
    """Return a text for each project not installed from ``root`` as its pyproject.toml is now."""
    texts = []
    for name, folder in PROJECTS.items():
        if origin(venv, name) != root / folder:
            texts.append(f"{name} is not installed from {root}")
            continue
        installed = metadata(venv, name)[0] / "direct_url.json"
        if installed.stat().st_mtime < (root / folder / "pyproject.toml").stat().st_mtime:
            texts.append(f"the pyproject.toml of {name} has changed")
    return texts


def version_of(venv: Path, name: str) -> str:
    """Return the version of one package, "" if it is not installed."""
    found = metadata(venv, name)
    return found[0].name[: -len(".dist-info")].rpartition("-")[2] if found else ""


def metadata(venv: Path, name: str = "*") -> list[Path]:
    """Return the metadata folders of the installed packages, or of one."""
    escaped = name.replace("-", "_")
    return sorted(venv.glob(f"lib/python3.*/site-packages/{escaped}-*.dist-info"))


def differing(wanted: Mapping[str, str], state: State) -> list[str]:
    """Return a text for each package that is not there as pinned."""
    texts = []
    for name, pin in sorted(wanted.items()):
        version = state.versions.get(name)
        if name in state.damaged:
            texts.append(f"{name} lacks files")
        elif version is None:
            texts.append(f"{name} is missing")
        # A local version such as +cu128 is a build of the pinned version.
        elif pin not in (version, version.partition("+")[0]):
            texts.append(f"{name} {version} (pinned {pin})")
    return texts
