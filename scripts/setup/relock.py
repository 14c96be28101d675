"""Writes the locks anew from the three pyproject files, for maintainers.

Run ``.venv/bin/python scripts/setup/relock.py``. All packages are resolved together once, so that
any choice of extras fits the base. Each lock then holds only what the ones before it do not. The
hashes are those of the files for Linux on x86-64. No lock names the index that its files come from.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from index_settings import parse_pip_config, settings_from_pip, untied, uv_environment

ROOT = Path(__file__).resolve().parents[2]
PROJECTS = ("pyproject.toml", "VLMEvalKit/pyproject.toml", "lmms-eval/pyproject.toml")
BUILD_TOOLS = ("pip", "setuptools", "wheel", "uv")
FLASH_ATTN = ("flash-attn==2.8.3", "ninja")  # no dependencies of its own that the base lacks
HEADER = (
    "# {title}. Written by scripts/setup/relock.py; "
    "installed by scripts/setup.sh with --require-hashes.\n"
)


def main() -> int:
    """Resolve the packages and write all locks."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    environment = untied(os.environ) | uv_environment(
        settings_from_pip(parse_pip_config(listing)), os.environ
    )
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        together = scratch / "together.txt"
        together.write_text(
            compile_lock([*PROJECTS, "-"], ["--all-extras"], environment, BUILD_TOOLS), "utf-8"
        )
        agreed = ["-c", str(together)]
        tools = entries(compile_lock(["-"], [*agreed, "--no-deps"], environment, BUILD_TOOLS))
        base = entries(compile_lock(list(PROJECTS), agreed, environment))
        extras = {
            extra: entries(compile_lock(list(PROJECTS), [*agreed, "--extra", extra], environment))
            for extra in ("test", "vllm")
        }
        flash = entries(compile_lock(["-"], ["--no-deps"], environment, FLASH_ATTN))
    write(
        "requirements-bootstrap.lock", "The installer and what builds source distributions", tools
    )
    write("requirements.lock", "The orchestrator and both backends", without(base, tools))
    write(
        "requirements-test.lock",
        "What the tests need besides requirements.lock",
        without(extras["test"], base | tools),
    )
    write(
        "requirements-vllm.lock",
        "vLLM and what it needs besides requirements.lock",
        without(extras["vllm"], base | tools),
    )
    write("requirements-flash-attn.lock", "flash-attn, only tried where it can be built", flash)
    return 0


def compile_lock(
    sources: Sequence[str],
    more: Sequence[str],
    environment: dict[str, str],
    names: Sequence[str] = (),
) -> str:
    """Return the output of ``uv pip compile``.

    Args:
        sources: Files to resolve; ``-`` stands for ``names``.
        more: Further options.
        environment: All environment variables of uv.
        names: Requirements passed on standard input.
    """
    argv = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "compile",
        "--quiet",
        "--python-version",
        "3.11",
        "--python-platform",
        "x86_64-manylinux_2_28",
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-emit-find-links",
        "--no-annotate",
        "--no-header",
        *more,
        *sources,
    ]
    return subprocess.run(
        argv,
        input="\n".join(names),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
    ).stdout


def entries(lock: str) -> dict[str, str]:
    """Return the entries of a lock, each with its hashes, by ``name==version``."""
    found = (entry for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", lock) if entry.strip())
    return {entry.split(maxsplit=1)[0]: entry for entry in found}


def without(some: dict[str, str], others: dict[str, str]) -> dict[str, str]:
    """Return the entries of ``some`` that are not in ``others``."""
    return {pin: entry for pin, entry in some.items() if pin not in others}


def write(name: str, title: str, content: dict[str, str]) -> None:
    """Write a lock with its header, entries sorted."""
    (ROOT / name).write_text(
        HEADER.format(title=title) + "".join(content[pin] for pin in sorted(content)), "utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
