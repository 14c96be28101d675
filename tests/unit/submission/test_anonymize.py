"""Absolute paths and secrets leave no file; everything else stays as it is, to the byte."""

from __future__ import annotations

import hashlib
import io
import random
from pathlib import Path
from xml.sax.saxutils import escape

import openpyxl
import pytest

from easi_eval.core.redact import Redactor
from easi_eval.submission.archive.anonymize import Replacements, Scrubber

SECRET = "very-secret-value"
SCRUBBER = Scrubber(
    Redactor([SECRET]),
    [
        ("output-dir", Path("/tmp/run out")),
        ("home", Path("/home/u")),
        ("hf-home", Path("/home/u/.cache/hf")),
    ],
)


@pytest.mark.parametrize(
    "text, cleared",
    [
        (
            "['/data/hub/datasets--org--d/snapshots/0a1b/x/1.png', '/x/y/z.png']",
            "['datasets--org--d/snapshots/0a1b/x/1.png', '[path]/y/z.png']",
        ),
        ("HF_HOME=/home/u/.cache/hf/x HOME=/home/u", "HF_HOME=[hf-home]/x HOME=[home]"),
        ("/tmp/run out/runs/x.json", "[output-dir]/runs/x.json"),
        ("/home/u2/a/b", "[path]/b"),
        ("/home/u2", "[path]"),
        ("/data/a/b/c", "[path]/b/c"),
        ("in /home/u.", "in [home]."),
        ("/home/u.old/x/y/z", "[path]/y/z"),
        ("file:///home/u/x", "file://[home]/x"),
        ("key:/a/b/c --o=/scratch/me/out", "key:[path]/b/c --o=[path]/me/out"),
        (
            r'"error": "Traceback\n/opt/x/lib/y.py, line 3"',
            r'"error": "Traceback\n[path]/lib/y.py, line 3"',
        ),
        (r"C:\\Users\\me\\x.png", "[path]/me/x.png"),
        (f"token {SECRET}.", "token [redacted]."),
        ("hf_" + "a" * 30, "[redacted]"),
    ],
)
def test_they_are_replaced(text: str, cleared: str) -> None:
    found = Replacements()
    assert SCRUBBER.text(text, found) == cleared
    assert found.paths + found.secrets > 0 and str(found)
    assert SCRUBBER.text(cleared) == cleared


@pytest.mark.parametrize(
    "text",
    [
        "and/or, 1/2/3, km/h, w/o",
        "https://a.b/c/d?e=/f",
        "x/y/z.jpg",
        "../a/b",
        "~/a/b",
        "./a/b",
        "<answer>/a</answer>",
        "{HF_HOME}/a/b",
        "/ a / b",
        "a /b",
        "",
        "the ratio is 3/4 / 5/6",
        "I/O and TCP/IP/UDP",
    ],
)
def test_other_slashes_stay(text: str) -> None:
    found = Replacements()
    assert SCRUBBER.text(text, found) == text and not found.paths + found.secrets


def copied(folder: Path, name: str, data: bytes) -> tuple[bytes, Replacements]:
    (folder / name).write_bytes(data)
    before, after, found = SCRUBBER.copy(folder / name, folder / "copy")
    cleared = (folder / "copy").read_bytes()
    assert before == hashlib.sha256(data).hexdigest()
    assert after == hashlib.sha256(cleared).hexdigest()
    return cleared, found


def test_a_file_without_any_keeps_its_bytes(tmp_path: Path) -> None:
    data = b"a\r\nb\xff\xfe\x0b\x00c\xe2\x80\xa8d"
    assert copied(tmp_path, "x.csv", data) == (data, Replacements())
    cleared, found = copied(tmp_path, "x.csv", data + b" /home/u/x")
    assert cleared == data + b" [home]/x" and str(found) == "1 absolute path replaced"


def test_a_workbook_keeps_its_cells_and_changes_the_same_way_each_time(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    rows = [
        ["index", "path", "prediction"],
        [1, "['/home/u/a & b.png']", "1 < 2 & /b/c/d"],
        [2, "x/y", f"  {SECRET}\n"],
        [3.5, None, True],
    ]
    for row in rows:
        book.active.append(row)
    made = io.BytesIO()
    book.save(made)
    data = made.getvalue()
    cleared, found = copied(tmp_path, "x.xlsx", data)
    assert (found.paths, found.secrets) == (2, 1) and copied(tmp_path, "x.xlsx", data)[0] == cleared
    read = [
        list(row)
        for row in openpyxl.load_workbook(io.BytesIO(cleared)).active.iter_rows(values_only=True)
    ]
    assert read == [
        rows[0],
        [1, "['[home]/a & b.png']", "1 < 2 & [path]/c/d"],
        [2, "x/y", "  [redacted]\n"],
        [3.5, None, True],
    ]
    plain, nothing = copied(tmp_path, "x.xlsx", cleared)
    assert plain == cleared and nothing == Replacements()


PIECES = (
    *("/home/u", "/home/u/.cache/hf", "/data/a/b", "/x", "/", "a/b/c", "file://", "https://"),
    *(
        "datasets--o--d/",
        "C:\\\\Users\\\\me",
        ":\\",
        "\\n",
        "\n",
        "\r\n",
        "\r",
        "\u2028",
        "\x0b",
        " ",
        "  ",
    ),
    *(SECRET, "hf_" + "a" * 20, "sk-" + "b" * 20, "ghp_" + "c" * 24, "github_pat_" + "d" * 24),
    *("AIza" + "e" * 32, "eyJ" + "f" * 12 + "." + "g" * 12 + ".h", "Bearer ", "BEARER\u00a0"),
    *("api_key", "apikey", "judge-key", "auth_token", "AccessToken", "hf-token", "PASSWORD"),
    *("client_secret", "to\u212aen", '"', "'", ": ", "=", ",", "s3cretvalue", "u:pa55word@host/x"),
    *(
        "key",
        "token",
        "é",
        "<",
        ">",
        "&",
        "&amp;",
        "(",
        "monkey: ",
        ".",
        "-",
        "_",
        "\udcff",
        "w" * 30,
    ),
)


def test_the_fast_search_misses_nothing() -> None:
    """A file is scrubbed as if every line was read; drawn from what patterns are made of."""
    drawn = random.Random(7)
    changed = 0
    for _ in range(20_000):
        text = "".join(drawn.choice(PIECES) for _ in range(drawn.randrange(1, 9)))
        slow, fast = Replacements(), Replacements()
        wanted = "".join(SCRUBBER.text(line, slow) for line in text.splitlines(keepends=True))
        data = text.encode("utf-8", "surrogateescape")
        assert SCRUBBER.lines(data, fast) == wanted.encode("utf-8", "surrogateescape"), text
        assert fast == slow, text
        changed += wanted != text
        plain = text.replace("\n", " ").replace("\r", " ")
        unit = f"<t a='/x/y/z'>{escape(plain)}</t><t>".encode("utf-8", "surrogateescape")
        cleared = f"<t a='/x/y/z'>{escape(SCRUBBER.text(plain))}</t><t>"
        found = Replacements()
        assert SCRUBBER.xml(unit, found) == cleared.encode("utf-8", "surrogateescape"), plain
    assert changed > 5_000
