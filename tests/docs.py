"""README and guides as text, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAM = "python scripts/submissions/run_easi_eval.py"
DOCS = "scripts/docs"
REFERENCE, RESULTS = f"{DOCS}/reference.md", f"{DOCS}/results.md"
GUIDES = (
    *(path.relative_to(REPOSITORY).as_posix() for path in sorted((REPOSITORY / DOCS).glob("*.md"))),
    "scripts/setup/README.md",
    "VLMEvalKit/README.md",
    "lmms-eval/README.md",
    "tests/README.md",
    "scripts/submissions/easi_eval/README.md",
)
READMES = ("README.md", *GUIDES)


def text(name: str = "README.md") -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def fenced(markdown: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", markdown, re.MULTILINE | re.DOTALL)


def commands(shell: str) -> Iterator[list[str]]:
    """The words of each command of a script.

    Continued lines and quotes over several lines are joined.
    """
    pending = ""
    for line in shell.replace("\\\n", " ").splitlines():
        pending += line + "\n"
        try:
            words = shlex.split(pending, comments=True)
        except ValueError:  # a quote is still open
            continue
        pending = ""
        if words:
            yield words
    assert not pending, f"a quote is never closed: {pending}"


def launches(shell: str) -> list[list[str]]:
    """The arguments of every launch of the program."""
    return [words[2:] for words in commands(shell) if words[:2] == PROGRAM.split()]
