"""Which versions of the libraries that affect answers are installed.

They are read from the names of metadata folders, which takes milliseconds.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

# Engines that run in a worker's process, and all libraries whose version may change an answer.
ENGINES = ("vllm", "sglang", "lmdeploy")
DECISIVE = ("transformers", "torch", "flash-attn", "peft", *ENGINES)
ALWAYS_RECORDED = ("torch", "transformers", "accelerate", "datasets", "huggingface_hub", "decord")
RECORDED = (*DECISIVE, "tokenizers")  # where they are installed
MOST_NAMED = 6
LOCKS = "scripts/setup/locks"
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_METADATA = re.compile(r"(.+?)-(\d[^-]*)(?:-.*)?\.(?:dist|egg)-info")


def normal(name: str) -> str:
    """Return a distribution's name in the normalised form of package indexes (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache  # called several times in a run
def installed(path: tuple[str, ...]) -> Mapping[str, str]:
    """Return normalised name -> version of every distribution on ``path``.

    The first folder that has a distribution counts, as for an import.
    """
    found: dict[str, str] = {}
    for folder in path:
        try:
            names = [each.name for each in Path(folder or ".").iterdir()]
        except OSError:  # a zip file, or a folder that is not there
            continue
        matches = map(_METADATA.fullmatch, sorted(names))
        found = {**{normal(match[1]): match[2] for match in matches if match}, **found}
    return found


def short(version: str) -> str:
    """Return major and minor version, ``4.57`` for ``4.57.6``; "" if there is none."""
    match = re.match(r"\d+\.\d+", version)
    return match[0] if match else ""


def pinned(repository: Path, *locks: str) -> dict[str, str]:
    """Return normalised name -> version from lock files of a checkout, the last one winning.

    ``locks`` are patterns of their names. Empty outside a checkout.
    """
    return {
        normal(name): version
        for pattern in locks
        for lock in sorted((repository / LOCKS).glob(pattern))
        for name, version in _PIN.findall(lock.read_text("utf-8"))
    }


def other_than_pinned(pins: Mapping[str, str], versions: Mapping[str, str]) -> list[str]:
    """Return a text for each package whose version is not the pinned one.

    For example ``transformers 5.0.0 (pinned 4.57.6)``.
    """
    # A local version such as +cu128 is a build of the same version.
    return [
        f"{name} {versions[name]} (pinned {pins[name]})"
        for name in sorted(pins.keys() & versions.keys())
        if pins[name] not in (versions[name], versions[name].partition("+")[0])
    ]


def lock_note(repository: Path, versions: Mapping[str, str], profile: str) -> tuple[str, ...]:
    """Return one line if installed versions differ from those that the lock files pin."""
    own = [f"profile{profile}.lock"] if profile else []
    differing = other_than_pinned(pinned(repository, "[!p]*.lock", *own), versions)
    # The list is cut, so those that may change an answer come first.
    differing.sort(key=lambda said: said.split()[0] not in DECISIVE)
    more = len(differing) - MOST_NAMED
    rest = f" and {more} more (bash scripts/setup.sh --check names them)" if more > 0 else ""
    return (
        (f"versions differ from the pinned ones: {', '.join(differing[:MOST_NAMED])}{rest}",)
        if differing
        else ()
    )


def decisive(versions: Mapping[str, str]) -> dict[str, str]:
    """Return those of ``versions`` that can change an answer, without unknown ones."""
    return {
        name: version
        for name, version in versions.items()
        if name in DECISIVE and version[:1].isdigit()
    }


def mixed(makings: Sequence[Mapping[str, str]]) -> list[str]:
    """Return a text for each library with several versions in ``makings``.

    For example ``transformers 4.57.3, 4.57.6``. An unknown version does not count as different.
    """
    names = dict.fromkeys(name for making in makings for name in making)
    values = {
        name: sorted({making[name] for making in makings if making.get(name)}) for name in names
    }
    return [f"{name} {', '.join(known)}" for name, known in values.items() if len(known) > 1]


def module_file(name: str) -> Path | None:
    """The file of a module, found without importing its parents; None if there is none."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not rest and spec.origin:
        return Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        for path in (Path(folder, *rest).with_suffix(".py"), Path(folder, *rest, "__init__.py")):
            if path.is_file():
                return path
    return None
