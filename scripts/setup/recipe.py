"""What belongs into the environment, and how far an existing one is from it. Reads files, changes nothing; standard library only."""

from __future__ import annotations

import enum
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

STAMP = "easi-setup.json"
SCHEMA = 1
BOOTSTRAP = "requirements-bootstrap.lock"  # uv itself and what building a source distribution needs
FLASH_ATTN = "requirements-flash-attn.lock"
PROJECTS = {"easi-eval": ".", "easi-vlmevalkit": "VLMEvalKit", "easi-lmms-eval": "lmms-eval"}
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock_text: str) -> dict[str, str]:
    """Normalised name -> version of every ``name==version`` line of a lock."""
    return {normal(name): version for name, version in _PIN.findall(lock_text)}


def installed(site_packages: Path) -> dict[str, str]:
    """Normalised name -> version of what has finished metadata there. A folder without RECORD was cut off while being written."""
    found = {}
    for folder in site_packages.glob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        if (folder / "RECORD").exists():
            found[normal(name)] = version
    return found


@dataclass(frozen=True)
class Recipe:
    """``extras`` are names of further locks (``requirements-<extra>.lock``)."""

    root: Path
    venv: Path
    extras: tuple[str, ...] = ()

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return self.venv / "lib" / "python3.11" / "site-packages"

    @property
    def locks(self) -> tuple[Path, ...]:
        names = (
            BOOTSTRAP,
            "requirements.lock",
            *(f"requirements-{extra}.lock" for extra in self.extras),
        )
        return tuple(self.root / name for name in names)

    def pins(self) -> dict[str, str]:
        return {
            name: version
            for lock in self.locks
            for name, version in pins(lock.read_text("utf-8")).items()
        }

    def digest(self) -> str:
        """Changes when a lock or one of the three projects does."""
        total = hashlib.sha256()
        for path in (
            *self.locks,
            *(self.root / folder / "pyproject.toml" for folder in PROJECTS.values()),
        ):
            total.update(f"{path.relative_to(self.root)}\0".encode() + path.read_bytes() + b"\0")
        return total.hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What the last set-up left in the environment; ``ready`` is false from its first write to its last step."""

    ready: bool
    venv: str
    root: str
    digest: str
    extras: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(
        default_factory=dict
    )  # package -> why it was left out on this machine
    flash_attn: str = ""  # what came of it, one line
    schema: int = SCHEMA

    def write(self, venv: Path) -> None:
        target = venv / STAMP
        temporary = target.with_name(f"{STAMP}.{os.getpid()}.part")
        temporary.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", "utf-8")
        temporary.replace(target)


def read_stamp(venv: Path) -> Stamp | None:
    """None if there is none or it is not of this schema."""
    try:
        content = json.loads((venv / STAMP).read_text("utf-8"))
        if content.get("schema") != SCHEMA:
            return None
        return Stamp(**{**content, "extras": tuple(content["extras"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class Need(enum.Enum):
    NOTHING = "nothing"
    UPDATE = "update"  # install on top of what is there
    REBUILD = "rebuild"  # empty the folder first
    REFUSE = "refuse"  # not ours to touch


@dataclass(frozen=True)
class Verdict:
    need: Need
    why: str = ""


def runs(python: Path) -> bool:
    """Whether that interpreter starts and is a 3.11 (its base may have been removed or upgraded)."""
    probe = [
        str(python),
        "-I",
        "-c",
        "import sys, encodings; sys.exit(sys.version_info[:2] != (3, 11))",
    ]
    try:
        return (
            subprocess.run(
                probe, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def assess(recipe: Recipe, default_venv: Path) -> Verdict:
    """What must be done to ``recipe.venv``. A folder elsewhere that is neither an environment nor ours is refused, not emptied."""
    venv = recipe.venv
    if venv.exists() and not venv.is_dir():
        return Verdict(Need.REFUSE, f"{venv} is not a folder")
    if not venv.is_dir() or not any(venv.iterdir()):
        return Verdict(Need.REBUILD, "there is no environment yet")
    stamp = read_stamp(venv)
    works = runs(recipe.python)
    if stamp is None:
        if venv == default_venv:
            return Verdict(Need.REBUILD, "the environment was not finished by this script")
        if not (venv / "pyvenv.cfg").is_file():
            return Verdict(Need.REFUSE, f"{venv} holds something that is no Python environment")
        if works:
            return Verdict(Need.UPDATE, "the environment was made by something else")
        return Verdict(Need.REBUILD, "its Python does not start")
    if not works:
        return Verdict(Need.REBUILD, "its Python does not start")
    if not stamp.ready:
        return Verdict(Need.REBUILD, "an earlier set-up did not finish")
    if stamp.venv != str(venv):
        return Verdict(Need.REBUILD, f"the environment was moved here from {stamp.venv}")
    if stamp.root != str(recipe.root):
        return Verdict(Need.UPDATE, f"it was made for {stamp.root}")
    if not set(recipe.extras) <= set(stamp.extras):
        return Verdict(Need.UPDATE, "more was asked for than is installed")
    if stamp.digest != recipe.digest():
        return Verdict(Need.UPDATE, "the pinned packages have changed")
    missing = sorted(
        {*recipe.pins(), *PROJECTS} - {*installed(recipe.site_packages), *stamp.left_out}
    )
    if missing:
        return Verdict(
            Need.UPDATE, f"missing: {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
        )
    there = installed(recipe.site_packages)
    other = [
        f"{name} {there[name]} (pinned {pin})"
        for name, pin in sorted(recipe.pins().items())
        if name in there and pin not in (there[name], there[name].partition("+")[0])
    ]  # +cu128 is a build of the same version
    if other:
        return Verdict(
            Need.UPDATE,
            f"other than pinned: {', '.join(other[:5])}{' …' if len(other) > 5 else ''}",
        )
    return Verdict(Need.NOTHING)
