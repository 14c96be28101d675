"""What belongs into the environment, and how far an existing one differs from it.

It reads files and changes none but the stamp. Standard library only.
"""

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
BOOTSTRAP = "requirements-bootstrap.lock"  # uv itself, and what builds source distributions
FLASH_ATTN = "requirements-flash-attn.lock"
PROJECTS = {"easi-eval": ".", "easi-vlmevalkit": "VLMEvalKit", "easi-lmms-eval": "lmms-eval"}
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)


def normal(name: str) -> str:
    """Return a distribution's name in the normalised form by which indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock_text: str) -> dict[str, str]:
    """Return the version by normalised name for every ``name==version`` line of a lock."""
    return {normal(name): version for name, version in _PIN.findall(lock_text)}


def installed(site_packages: Path) -> dict[str, str]:
    """Return the version by normalised name of every package whose installation finished.

    A metadata folder without RECORD is from an installation that was cut off.
    """
    found = {}
    for folder in site_packages.glob("*.dist-info"):
        name, _, version = folder.name.removesuffix(".dist-info").rpartition("-")
        if (folder / "RECORD").exists():
            found[normal(name)] = version
    return found


@dataclass(frozen=True)
class Recipe:
    """What an environment is to hold.

    Attributes:
        root: The repository.
        venv: The environment's folder.
        extras: Names of further locks (``requirements-<extra>.lock``).
    """

    root: Path
    venv: Path
    extras: tuple[str, ...] = ()

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.venv / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """The environment's folder of packages."""
        return self.venv / "lib" / "python3.11" / "site-packages"

    @property
    def locks(self) -> tuple[Path, ...]:
        """The lock files, in the order of installation."""
        names = (
            BOOTSTRAP,
            "requirements.lock",
            *(f"requirements-{extra}.lock" for extra in self.extras),
        )
        return tuple(self.root / name for name in names)

    def pins(self) -> dict[str, str]:
        """Return the pinned version by normalised name over all locks."""
        return {
            name: version
            for lock in self.locks
            for name, version in pins(lock.read_text("utf-8")).items()
        }

    def digest(self) -> str:
        """Return a digest that changes when a lock or a project's ``pyproject.toml`` does."""
        total = hashlib.sha256()
        for path in (
            *self.locks,
            *(self.root / folder / "pyproject.toml" for folder in PROJECTS.values()),
        ):
            total.update(f"{path.relative_to(self.root)}\0".encode() + path.read_bytes() + b"\0")
        return total.hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What the last set-up left in the environment.

    Attributes:
        ready: False from the first write of a set-up until all packages are installed.
        venv: The environment's folder.
        root: The repository that it was made for.
        digest: ``Recipe.digest`` of that set-up.
        extras: Its extras.
        left_out: Packages that were left out on this machine, with the reason.
        flash_attn: One line on the outcome of the flash-attn build.
        schema: Version of this format.
    """

    ready: bool
    venv: str
    root: str
    digest: str
    extras: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    flash_attn: str = ""
    schema: int = SCHEMA

    def write(self, venv: Path) -> None:
        """Write the stamp atomically."""
        target = venv / STAMP
        temporary = target.with_name(f"{STAMP}.{os.getpid()}.part")
        temporary.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", "utf-8")
        temporary.replace(target)


def read_stamp(venv: Path) -> Stamp | None:
    """Return the environment's stamp; None if there is none or if it is not of this schema."""
    try:
        content = json.loads((venv / STAMP).read_text("utf-8"))
        if content.get("schema") != SCHEMA:
            return None
        return Stamp(**{**content, "extras": tuple(content["extras"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


class Need(enum.Enum):
    """What must be done to an environment."""

    NOTHING = "nothing"
    UPDATE = "update"  # install on top of what is there
    REBUILD = "rebuild"  # empty the folder first
    REFUSE = "refuse"  # not ours to touch


@dataclass(frozen=True)
class Verdict:
    """What must be done to an environment, and the reason in words."""

    need: Need
    why: str = ""


def runs(python: Path) -> bool:
    """Return whether that interpreter starts and is a Python 3.11.

    Its base installation may have been removed or upgraded.
    """
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
    """Decide what must be done to ``recipe.venv``.

    Only ``default_venv`` may be emptied whatever it holds. Another folder that is neither an
    environment nor made by this script is refused.
    """
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
    # A local version such as +cu128 is a build of the pinned version.
    other = [
        f"{name} {there[name]} (pinned {pin})"
        for name, pin in sorted(recipe.pins().items())
        if name in there and pin not in (there[name], there[name].partition("+")[0])
    ]
    if other:
        return Verdict(
            Need.UPDATE,
            f"other than pinned: {', '.join(other[:5])}{' …' if len(other) > 5 else ''}",
        )
    return Verdict(Need.NOTHING)
