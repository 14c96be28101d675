"""What all pages have in common: one file with style, program and the question browser."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from .questions import Blocks, Columns, pack

LIMIT = 5_000_000  # bytes of a page
_SPARE = 1000
_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shell:
    """A page without the data of its questions. All texts are HTML.

    Attributes:
        title: Its title.
        parts: What the navigation leads to: title by id.
        body: Its sections.
        questions: Title of the list of questions.
        contents: Says what of the questions is in the page.
        inputs: Digest of what it is made of.
        pictures: Thumbnails as JSON.
        name: What kind of page it is.
    """

    title: str
    parts: Mapping[str, str]
    body: str
    questions: str
    contents: Callable[[Blocks], str]
    inputs: str = ""
    pictures: str = "{}"
    name: str = "EASI report"


def template(name: str) -> Template:
    """Return a template of this folder."""
    return Template((_HERE / f"{name}.html").read_text(encoding="utf-8"))


def assemble(shell: Shell, columns: Columns, extra: Mapping[str, object]) -> bytes:
    """Return the page with as much of the questions as fits into LIMIT.

    ``extra`` is further data for the question browser.
    """
    style, script = ((_HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    parts = {**shell.parts, "questions": shell.questions}
    values = {
        "title": shell.title,
        "name": shell.name,
        "inputs": shell.inputs,
        "nav": "".join(f'<a href="#{name}">{title}</a>' for name, title in parts.items()),
        "body": shell.body,
        "questions": shell.questions,
        "pictures": shell.pictures,
        "style": style,
        "script": script,
        # The content policy lets nothing else run, whatever an answer holds.
        "style_hash": _sha256(style),
        "script_hash": _sha256(script),
    }
    page = template("page")
    empty = dict.fromkeys(("facts", "texts", "details", "contents"), "")
    fixed = len(page.substitute(values, **empty).encode()) + _SPARE
    packed = pack(columns, 3 * (LIMIT - fixed) // 4, extra)
    blocks = {"facts": packed.columns, "texts": packed.answers, "details": packed.details}
    coded = {name: base64.b64encode(data).decode() for name, data in blocks.items()}
    return page.substitute(values, **coded, contents=shell.contents(packed)).encode()


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
