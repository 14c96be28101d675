"""Which versions of the libraries that answer are installed, told from the names of their metadata folders: milliseconds."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

# Engines that run in a worker's own process, and what else decides the digits of an answer.
ENGINES = ("vllm", "sglang", "lmdeploy")
DECISIVE = ("transformers", "torch", "flash-attn", "peft", *ENGINES)
ALWAYS_RECORDED = ("torch", "transformers", "accelerate", "datasets", "huggingface_hub", "decord")
RECORDED = (*DECISIVE, "tokenizers")  # where they are installed
MOST_NAMED = 6
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_METADATA = re.compile(r"(.+?)-(\d[^-]*)(?:-.*)?\.(?:dist|egg)-info")


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache  # asked for several times in a run
def installed(path: tuple[str, ...]) -> Mapping[str, str]:
    """Normalised name -> version of every distribution on ``path``; the first folder that has one wins, as in an import."""
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
    """Major and minor version, ``4.57`` of ``4.57.6``; "" where there is none to tell."""
    match = re.match(r"\d+\.\d+", version)
    return match[0] if match else ""


def pinned(repository: Path, locks: str = "requirements.lock") -> dict[str, str]:
    """Normalised name -> version in the committed locks that fit the pattern; empty outside a checkout."""
    return {
        normal(name): version
        for lock in sorted(repository.glob(locks))
        for name, version in _PIN.findall(lock.read_text("utf-8"))
    }


def other_than_pinned(pins: Mapping[str, str], versions: Mapping[str, str]) -> list[str]:
    """``transformers 5.0.0 (pinned 4.57.6)`` for each package that is installed in another version."""
    return [
        f"{name} {versions[name]} (pinned {pins[name]})"
        for name in sorted(pins.keys() & versions.keys())
        if pins[name] not in (versions[name], versions[name].partition("+")[0])
    ]  # +cu128 is a build of the same version


def lock_note(repository: Path, versions: Mapping[str, str]) -> tuple[str, ...]:
    """One line if what is installed is not what the locks pin."""
    differing = other_than_pinned(pinned(repository, "requirements*.lock"), versions)
    # What decides answers is named first.
    differing.sort(key=lambda said: said.split()[0] not in DECISIVE)
    more = len(differing) - MOST_NAMED
    rest = f" and {more} more (bash scripts/setup.sh --check names them)" if more > 0 else ""
    return (
        (f"other versions than pinned: {', '.join(differing[:MOST_NAMED])}{rest}",)
        if differing
        else ()
    )


def decisive(versions: Mapping[str, str]) -> dict[str, str]:
    """Those of ``versions`` that can change an answer; what is not known is left out."""
    return {
        name: version
        for name, version in versions.items()
        if name in DECISIVE and version[:1].isdigit()
    }


def mixed(makings: Sequence[Mapping[str, str]]) -> list[str]:
    """``transformers 4.57.3, 4.57.6`` for each name of which ``makings`` know several values; unknown differs from nothing."""
    names = dict.fromkeys(name for making in makings for name in making)
    values = {
        name: sorted({making[name] for making in makings if making.get(name)}) for name in names
    }
    return [f"{name} {', '.join(known)}" for name, known in values.items() if len(known) > 1]
