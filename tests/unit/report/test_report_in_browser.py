"""The report as a browser shows it: search, filters, keys, hostile texts, 50,000 questions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import CUT_OFF, Page, browser
from easi_eval.benchmarks import ALL_KEYS
from easi_eval.report.page import write_report
from easi_eval.report.shell import LIMIT
from easi_eval.report.subject import REPORT
from reports import record, subject_of

HOSTILE = (
    "</script><script>window.hit = 1</script>",
    "<img src=x onerror='window.hit = 2'>",
    "</pre></div><iframe src='javascript:parent.hit=3'></iframe>",
    "line\u2028separator\u2029 and \u202eturned",
    "half \ud800 a character \udfff",
    "\x00\x07\x1b[31m control \x85",
    "<!-- ]]> <![CDATA[ --><style>*{display:none}</style>",
    "$model ${script} &lt;b&gt; \\u003cb\\u003e",
    "data:text/html,<script>alert(1)</script>",
)
KEYS = ALL_KEYS[:2]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with an answer of every kind and hostile texts in every place."""
    first, second = KEYS
    kinds = [
        record(first, 0, score=1.0, answer="A", extracted="A", question_type="red_kind"),
        record(first, 1, question_type="blue_kind", question="Where is the needle?"),
        record(
            first, 2, parsed=False, extracted=None, answer="cannot say", question_type="red_kind"
        ),
        record(first, 3, failed=True, parsed=None, extracted=None, answer=""),
        record(first, 4, score=0.4, extracted="7", target="8"),
    ]
    hostile = [
        record(
            second,
            number,
            answer=text,
            extracted=text,
            target=text,
            question_type=text,
            question=text,
            cluster=text,
            item=f"{number}{text}",
        )
        for number, text in enumerate(HOSTILE)
    ]
    folder = tmp_path_factory.mktemp("small")
    subject = subject_of(folder, {first: kinds, second: hostile}, model=HOSTILE[0])
    assert write_report(subject) == ""
    return folder / REPORT


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 50,000 questions."""
    rng, words = random.Random(1), ["left", "right", "chair", "behind", "sofa", "the", "lamp"]
    records = {
        key: [
            record(
                key,
                number,
                answer=" ".join(rng.choices(words, k=12)),
                question=" ".join(rng.choices(words, k=40)),
                score=float(rng.random() < 0.5),
            )
            for number in range(25_000)
        ]
        for key in KEYS
    }
    records[KEYS[1]][-1]["answer"] = "the only xylophone"
    folder = tmp_path_factory.mktemp("large")
    assert write_report(subject_of(folder, records)) == ""
    return folder / REPORT


def shown(page: Page) -> int:
    return int(page.run("found.length"))


def test_filters_by_outcome_benchmark_and_category(page: Page, small: Path) -> None:
    page.open(small)
    assert shown(page) == 5 + len(HOSTILE)
    for kind, count in (("f", 1), ("u", 1), ("w", 1 + len(HOSTILE)), ("p", 1), ("r", 1)):
        page.run(f"document.querySelector('#outcomes [data-outcome={kind}]').click()")
        assert shown(page) == count
    page.run("document.querySelector('#outcomes button').click()")
    page.run("document.getElementById('benchmark').value = 0; fillCategories(); filter()")
    assert shown(page) == 5
    titles = page.run("[...document.getElementById('category').options].map(one => one.text)")
    assert {"Red kind", "Blue kind", "Kind"} <= set(titles)
    page.run(
        f"document.getElementById('category').value = {titles.index('Red kind') - 1}; filter()"
    )
    assert shown(page) == 2
    assert page.run("document.getElementById('count').textContent") == (
        f"2 of {5 + len(HOSTILE)} questions"
    )


def test_why_nothing_was_read_is_said_in_the_words_of_the_filter(page: Page, small: Path) -> None:
    page.open(small)
    for kind, read in (("f", "failed"), ("u", "unparsed"), ("r", "A"), ("p", "7")):
        page.run(f"document.querySelector('#outcomes [data-outcome={kind}]').click()")
        shown = page.run("[...document.querySelector('.q').children].map(one => one.textContent)")
        assert shown[4] == read
        assert f"read as{read}" in page.run("document.getElementById('detail').textContent")
    page.run("document.querySelector('#outcomes button').click(); choose(1)")  # says B, read as B
    assert page.run("document.getElementById('q1').children[4].textContent") == "B"
    page.run("data.read.texts[data.read.at[1]] = 'not recorded'; choose(1)")
    assert page.run("document.getElementById('q1').children[4].textContent") == "“B”"
    assert "read asnot recorded" in page.run("document.getElementById('detail').textContent")
    heads = page.run("[...document.querySelector('.heads').children].map(one => one.textContent)")
    assert heads == ["", "benchmark", "category", "truth", "read as", "answer"]


def test_search_and_keys(page: Page, small: Path) -> None:
    page.open(small)
    page.press("/")
    page.write("NEEDLE")
    assert shown(page) == 1
    assert "Where is the needle?" in page.run("document.getElementById('detail').textContent")
    page.press("Escape")
    assert shown(page) == 5 + len(HOSTILE)
    for key, place in (
        ("ArrowDown", 1),
        ("j", 2),
        ("k", 1),
        ("End", 4 + len(HOSTILE)),
        ("Home", 0),
    ):
        page.press(key)
        assert page.run("chosen") == place, key
        active = page.run("document.getElementById('list').getAttribute('aria-activedescendant')")
        assert page.run(f"document.getElementById('{active}').ariaSelected") == "true"


def test_hostile_texts_do_nothing(page: Page, small: Path) -> None:
    page.messages.clear()
    page.open(small)
    for number in range(5, 5 + len(HOSTILE)):
        page.run(f"choose({number})")
        text = page.run("document.querySelector('#detail pre:last-of-type').textContent")
        visible = HOSTILE[number - 5][:4].strip("\x00\x07\x1b")
        assert visible in text
    assert page.run("window.hit") is None
    tags = page.run("[...document.querySelectorAll('*')].map(one => one.tagName)")
    assert not {"IFRAME", "OBJECT", "EMBED"} & set(tags) and tags.count("STYLE") == 1
    assert tags.count("SCRIPT") == 2  # the pictures and the program; the data are gone
    assert page.messages == [f"request {small.as_uri()}"]
    assert page.run("document.querySelector('h1').textContent") == HOSTILE[0]


def test_50_000_questions(page: Page, large: Path) -> None:
    assert large.stat().st_size <= LIMIT
    page.open(large)
    assert shown(page) == 50_000
    assert page.run("document.querySelectorAll('.q').length") < 100
    page.press("/")
    page.write("xylophone")
    assert shown(page) == 1
    page.press("Escape")
    page.press("End")
    assert page.run("chosen") == 49_999
    assert "the only xylophone" in page.run(
        "document.querySelector('.q[aria-selected=true]').textContent"
    )
    assert page.run("document.querySelectorAll('.q').length") < 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_colour_schemes(page: Page, small: Path, scheme: str) -> None:
    """Texts and marks stand out from their ground by WCAG's ratio for small text."""
    page.look(scheme=scheme)
    page.open(small)
    contrasts = page.run(
        """(() => {
          const light = colour => {
            const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(Number)
              .map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const ground = light(getComputedStyle(document.body).backgroundColor);
          const texts = "p, td, th, h1, h2, a, .mark, .o, .muted, button, dt, dd";
          return [...document.querySelectorAll(texts)]
            .map(one => light(getComputedStyle(one).color))
            .map(text => (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05));
        })()"""
    )
    assert len(contrasts) > 50 and min(contrasts) >= 4.5
    dark = page.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")


@pytest.mark.parametrize("width", [700, 390])
def test_a_narrow_screen_shows_all_without_scrolling_sideways(
    page: Page, small: Path, width: int
) -> None:
    page.look(width=width)
    page.open(small)
    assert page.run(CUT_OFF) == []
