"""Writes the locks anew from the three pyproject files, for maintainers.

Run ``.venv/bin/python scripts/setup/relock.py``; arguments go on to ``uv pip compile`` (``-c FILE``
keeps versions). All packages are resolved together once, so that any choice of extras fits the
base, then for each Python. Each lock holds only what the ones before it do not, with the hashes of
all files of a version. No lock names the index that its files come from.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from index_settings import parse_pip_config, untied, uv_variables

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ("pyproject.toml", "VLMEvalKit/pyproject.toml", "lmms-eval/pyproject.toml")
PYTHONS = ("3.11", "3.12")  # on 3.13, editdistance 0.8.1 (of ms-vlmeval) has no wheel
BUILD_TOOLS = ("pip", "setuptools", "wheel", "ninja", "uv")
FLASH_ATTN = "flash-attn==2.8.3"  # no dependencies of its own that the base lacks
NEWER = "transformers==5.24.0"  # profile 5: what differs from the base, beside that
REPLACED = ("transformers", "huggingface-hub", "tokenizers")
COMPILED = "polygon3"  # has no wheel and needs a C compiler; none of the benchmarks imports it
TITLES = {
    "bootstrap": "The installer and what builds source distributions",
    "base": "The orchestrator and both backends",
    "compiled": "What needs a C compiler; only VLMEvalKit's OCR scoring imports it",
    "test": "What the tests need besides",
    "vllm": "vLLM and what it needs besides, for Python 3.11 only",
    "profile5": "transformers 5 and what it needs other than in the base, for models that need it",
    "flash-attn": "flash-attn, only tried where it can be built",
}
Entries = dict[str, frozenset[str]]


def main() -> int:
    """Resolve the packages and write all locks."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    environment = untied(os.environ) | uv_variables(parse_pip_config(listing), os.environ)
    for name in ("UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"):
        environment.pop(name, None)  # may hold only some files of a version

    def compiled(*arguments: str, given: str = "", python: str = PYTHONS[0]) -> Entries:
        return entries(compile_lock((*arguments, "--python-version", python), environment, given))

    tools = "\n".join(BUILD_TOOLS)
    with tempfile.TemporaryDirectory() as folder:
        together = Path(folder, "together.txt")
        every = compiled(*PROJECTS, "-", "--all-extras", *sys.argv[1:], given=tools)
        together.write_text("\n".join(every), "utf-8")
        agreed = ("-c", str(together))
        locks = {"bootstrap": compiled("-", *agreed, "--no-deps", given=tools)}
        by_python = [(compiled(*PROJECTS, *agreed, python=python), python) for python in PYTHONS]
        for found, python in by_python[1:]:
            if found.keys() != by_python[0][0].keys():
                others = sorted(found.keys() ^ by_python[0][0].keys())
                sys.exit(f"Python {python} needs other versions: {', '.join(others)}")
        base = {
            pin: frozenset().union(*(found[pin] for found, _ in by_python))
            for pin in by_python[0][0]
        }
        locks["compiled"] = {pin: base[pin] for pin in base if pin.startswith(f"{COMPILED}==")}
        locks["base"] = base
        for extra in ("test", "vllm"):
            locks[extra] = compiled(*PROJECTS, *agreed, "--extra", extra)
        locks["flash-attn"] = compiled("-", "--no-deps", given=FLASH_ATTN)
        kept = [pin for pin in base if not pin.startswith(tuple(f"{name}==" for name in REPLACED))]
        together.write_text("\n".join(kept), "utf-8")
        newer = compiled("-", *agreed, given=NEWER)
    # In an environment of its own, on top of the base alone.
    write("profile5", {pin: newer[pin] for pin in newer if pin not in base})
    written: set[str] = set()
    for name, lock in locks.items():
        write(name, {pin: hashes for pin, hashes in lock.items() if pin not in written})
        written |= lock.keys()
    return 0


def compile_lock(arguments: tuple[str, ...], environment: dict[str, str], given: str) -> str:
    """Return the output of ``uv pip compile``; ``given`` is what ``-`` stands for."""
    argv = [
        str(Path(sys.executable).with_name("uv")),
        *("pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header"),
        *("--no-emit-index-url", "--no-emit-find-links", "--no-python-downloads"),
        *("--python-platform", "x86_64-manylinux_2_28", *arguments),
    ]
    return subprocess.run(
        argv, input=given, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=environment
    ).stdout


def entries(lock: str) -> Entries:
    """Return the hashes by ``name==version``."""
    found = (entry.split() for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", lock) if entry.strip())
    return {pin: frozenset(word for word in rest if word != "\\") for pin, *rest in found}


def write(name: str, content: Entries) -> None:
    """Write a lock with its header, entries sorted."""
    texts = [
        f"# {TITLES[name]}. Written by scripts/setup/relock.py; "
        "installed by scripts/setup.sh with --require-hashes.\n",
        *(" \\\n    ".join((pin, *sorted(content[pin]))) + "\n" for pin in sorted(content)),
    ]
    (Path(__file__).parent / "locks" / f"{name}.lock").write_text("".join(texts), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
