"""``report.html`` of finished runs: what it says, when it is made, and that it costs no run."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from PIL import Image

from easi_eval.backends import make_backend
from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS, LMMS_EVAL, by_key, headline_keys
from easi_eval.config import RunConfig
from easi_eval.core.backend_facts import BACKEND_FACTS
from easi_eval.core.manifest import Manifest
from easi_eval.data.needs import HubSettings
from easi_eval.engine.journal import Answer, Journal
from easi_eval.report.categories import categories
from easi_eval.report.page import write_report
from easi_eval.report.subject import REPORT, Subject
from easi_eval.report.thumbnails import find, media_roots, thumbnails
from easi_eval.report.trust import against_chance, checks, checks_html
from easi_eval.report.weak_spots import categories_html, weakest_html
from easi_eval.scores.intervals import with_intervals
from easi_eval.scores.report import summary
from easi_eval.scores.score_table import AVERAGE, ScoreTable, title_of
from easi_eval.scores.table import markdown_text, records
from finished import finish
from reports import record, subject_of

KEY = ALL_KEYS[0]


def text_of(page: Path) -> str:
    """The words of a page's body, without tags."""
    body = page.read_text(encoding="utf-8").partition("<main>")[2].partition("<script")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


@pytest.fixture(scope="module", params=["vlmevalkit", "lmms-eval"])
def subject(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """A finished run of EASI-8 with genuine result files and a journal."""
    folder = tmp_path_factory.mktemp(request.param)
    out, model = folder / "out", folder / "Some Model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "qwen2_5_vl"}', encoding="utf-8")
    named = (
        {"model": "qwen2_5_vl", "model_args": f"pretrained={model}"}
        if request.param == LMMS_EVAL
        else {"model": str(model)}
    )
    cfg = RunConfig(**named, backend=request.param, output_dir=out, device="cpu")
    run = finish(cfg)
    backend = make_backend(cfg.backend, HubSettings())
    with Journal(run.paths.journal, "w0", 1) as journal:
        journal.phase("answering")
        scores = []
        for number, (key, score) in enumerate(run.scores.items()):
            bench = by_key(key)
            files = backend.outputs(bench, run.paths.output(key))
            rows = backend.rows(bench, files)
            scores.append(with_intervals(score, bench, bench.source(cfg.backend, files.task), rows))
            for item in rows["item"]:
                journal.answer(
                    Answer(key, item, 0, "A", 0.5, 3, "stop", worker="w0", at=1e9 + number)
                )
    manifest = Manifest.load(run.paths.manifest)
    assert manifest is not None
    table = ScoreTable(tuple(scores), "Some/Model", cfg.backend, manifest.identity)
    return Subject(table, manifest, run.paths, out, backend)


def test_a_finished_run(subject: Subject) -> None:
    assert write_report(subject) == ""
    page = subject.output_dir / REPORT
    assert page.read_bytes() == (subject.paths.root / REPORT).read_bytes()
    said = text_of(page)
    average = subject.table.easi8_average
    assert average is not None and f"{average:.2f}" in said
    for row in subject.table.headlines:
        assert f"{row.reading.overall:.2f}" in said
    for expected in ("Can these scores be trusted?", "Where the model is weakest", "Some/Model"):
        assert expected in said
    assert subject.manifest.commands[0] in said.replace("&#x27;", "'").replace("&quot;", '"')
    weakest = subject.table.row("viewspatial")
    assert weakest is not None
    assert f"by the same measure: ViewSpatial, {weakest.reading.overall:.2f} (chance" in said
    interval, chance = subject.interval(AVERAGE), subject.chance(AVERAGE)
    assert interval and chance and interval[0] <= chance <= interval[1]
    card = said.partition("Can these scores be trusted?")[0]
    assert f"95 % interval {interval[0]:.1f} to {interval[1]:.1f}" in card
    assert f"No better than chance: guessing gives {chance:.2f}." in card
    assert "of 8 benchmarks were asked" in said and "9 benchmarks" not in said  # SITE is one
    shown = page.read_text(encoding="utf-8")
    assert shown.count("<table") == shown.count("<thead>") > len(subject.table.headlines)
    for row in subject.table.rows:  # the colours of the timeline
        swatch = re.escape(f'"></i>{title_of(row.key)}</span>')
        assert re.search(rf'<i class="key k\d+{swatch}', shown), row.key
    kind = BACKEND_FACTS[subject.reader.name]
    assert f"on {kind.versioned(str(subject.manifest.fields['backend version']))} · " in said
    assert "w0" in said and "Where the time went" not in said  # these scores have no times


def test_the_weakest_category_is_named_as_far_as_its_questions_tell(subject: Subject) -> None:
    own = [one for one in categories(subject) if one.ranked]
    sizes = {(one.key, one.part): 100 for one in own}
    last = min(own, key=lambda one: one.value)
    shown = weakest_html(subject, sizes)
    assert shown.startswith("<p>Weakest category, ") and "in grey" not in shown
    assert '<tr class="muted">' not in shown
    assert "Eval:" not in shown  # 3DSRBench's sets are the same categories, read in another way
    for one in categories(subject):
        if not one.ranked:
            n = subject.table.intervals[one.key][one.part].n
            row = categories_html(subject, sizes).partition(f'data-part="{one.part}"')[2]
            assert f">{n:,}</td></tr>" in row[: row.index("</tr>") + 5]
    sizes[last.key, last.part] = 3
    shown = weakest_html(subject, sizes)
    assert shown.startswith("<p>Weakest category of 30 questions or more, ") and "in grey" in shown
    assert '<tr class="muted">' in categories_html(subject, sizes)
    shown = weakest_html(subject, dict.fromkeys(sizes, 3))
    assert re.match(
        r"<p>Every category has fewer than 30 questions, too few to call one weak\. Lowest, "
        r"measured against chance: [A-Z][^.]* of \w[\w-]*, -?\d+\.\d\d",
        shown,
    )
    assert "in grey" not in shown and '<tr class="muted">' not in shown


def test_a_score_above_or_below_chance_is_called_so(subject: Subject) -> None:
    (row,) = [row for row in subject.table.rows if row.key == "mmsi_bench"]
    for low, high, said in (
        (30.0, 40.0, "Above chance: guessing gives 25.00."),
        (20.0, 40.0, "No better than chance: guessing gives 25.00."),
        (5.0, 9.0, "Below chance: guessing gives 25.00."),
    ):
        interval = dataclasses.replace(row.intervals[""], low=low, high=high, chance=25.0)
        changed = dataclasses.replace(row, intervals={"": interval})
        table = dataclasses.replace(subject.table, rows=(changed,))
        assert said in against_chance(dataclasses.replace(subject, table=table), row.key)


def test_its_figures_are_those_of_the_score_table(subject: Subject) -> None:
    assert write_report(subject) == ""
    page = (subject.output_dir / REPORT).read_text(encoding="utf-8")
    table = page.partition('<table class="scores">')[2].partition("</table>")[0]
    shown = re.findall(r'<td class="num[^>]*>([^<]*)</td>', table)
    for line in records(subject.table):
        if not line["part"] or line["part"] in ALL_KEYS:  # a headline, or a half of SITE
            assert f"{float(line['score']):.2f}" in shown
            assert f"{float(line['low']):.1f} to {float(line['high']):.1f}" in shown
            assert not line["chance"] or f"{float(line['chance']):.2f}" in shown


def test_intervals_are_the_same_everywhere_and_on_the_scale(subject: Subject) -> None:
    """Sub-scores of SITE have so few questions here that theirs are wider than all scores."""
    assert write_report(subject) == ""
    page = (subject.output_dir / REPORT).read_text(encoding="utf-8")
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in page.split("<tr")]
    told = [
        [cell.strip() for cell in row.split("|")]
        for row in markdown_text(subject.table).splitlines()
    ]
    few = 0
    for line in records(subject.table):
        if not line["score"] or not line["n"]:
            continue
        assert bool(line["low"]) == bool(line["high"]) == bool(line["error"])
        if line["low"]:
            low, high = float(line["low"]), float(line["high"])
            assert high <= 100 and high - low <= 100
            shown = f"{low:z.1f} to {high:z.1f}"
        else:
            few += 1
            shown = "too few questions"
        score = f"{float(line['score']):.2f}"
        assert any(score in row and shown in row for row in told), line
        if "/" not in line["part"]:  # the page has no categories of a half of SITE
            assert any(score in row and shown in row for row in cells), line
    assert few
    screen = "\n".join(summary(subject.table, width=200))
    average = subject.table.average_interval
    assert average is not None and f"{average.low:z.1f} to {average.high:z.1f}" in screen


def test_it_is_kept_until_an_input_changes(subject: Subject) -> None:
    assert write_report(subject) == ""
    page = subject.paths.root / REPORT
    made = page.stat().st_mtime_ns
    (subject.output_dir / REPORT).unlink()
    assert write_report(subject) == "" and page.stat().st_mtime_ns == made
    assert (subject.output_dir / REPORT).read_bytes() == page.read_bytes()
    changed = dataclasses.replace(subject, rehearsal=True)
    assert write_report(changed) == "" and page.stat().st_mtime_ns != made
    assert "Rehearsal" in text_of(page)
    page.write_bytes(page.read_bytes()[:-20])  # cut off
    assert write_report(changed) == "" and page.read_bytes().endswith(b"</html>\n")


def test_what_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / REPORT).mkdir()
    said = write_report(subject_of(tmp_path, {KEY: [record(KEY, 0)]}))
    assert said.startswith(f"{REPORT} could not be written: ") and "\n" not in said


def test_published_rows_stand_beside_comparable_benchmarks_alone(tmp_path: Path) -> None:
    first, second = [key for key in headline_keys(CORE_KEYS) if key in CORE_KEYS][:2]
    subject = subject_of(tmp_path, {key: [record(key, 0)] for key in (first, second)})
    assert write_report(subject) == "" and "Published" not in text_of(tmp_path / REPORT)
    rows = tuple(
        dataclasses.replace(row, comparable="yes" if row.key == first else "note")
        for row in subject.table.rows
    )
    table = dataclasses.replace(subject.table, rows=rows)
    assert write_report(dataclasses.replace(subject, table=table)) == ""
    page = (tmp_path / REPORT).read_text(encoding="utf-8")
    published = page.partition("Published scores")[2].partition("</details>")[0]
    assert "Qwen3-VL-8B-Instruct" in published and by_key(first).title in published
    assert by_key(second).title not in published


def test_thumbnails_come_from_known_folders_alone(tmp_path: Path) -> None:
    data, outside = tmp_path / "datasets", tmp_path / "elsewhere.png"
    frames = data / "images" / "VSI-Bench" / "scene.mp4"
    frames.mkdir(parents=True)
    for path in (frames / "frame-1.jpg", data / "images" / "7_1.png", outside):
        Image.new("RGB", (900, 600), "red").save(path)
    (data / "broken.png").write_bytes(b"no picture")
    roots = media_roots(data, tmp_path / "hf", tmp_path / "hub")
    assert find("scene.mp4", roots) == frames / "frame-1.jpg"
    assert find("images/7", roots) == data / "images" / "7_1.png"
    for name in (str(outside), "../elsewhere.png", "images/../../elsewhere.png", "a\0b", "gone"):
        assert find(name, roots) is None, name
    assert set(thumbnails(["scene.mp4", "broken.png", "gone"], roots)) == {"scene.mp4"}


def test_chance_is_inside_an_interval_or_above_it(subject: Subject) -> None:
    """A score that is certainly worse than a guess is not called one at chance."""
    rows = [dataclasses.replace(row, truncated=0) for row in subject.table.rows]
    place = next(at for at, row in enumerate(rows) if row.key == "mmsi_bench")
    below = dataclasses.replace(rows[place].intervals[""], low=1.0, high=9.0, chance=25.0)
    intervals = {**rows[place].intervals, "": below}
    rows[place] = dataclasses.replace(rows[place], intervals=intervals, truncated=None)
    table = dataclasses.replace(subject.table, rows=tuple(rows))
    found = {check.name: check for check in checks(dataclasses.replace(subject, table=table))}
    said = found["No better than guessing"].found
    assert said.endswith("MMSI-Bench: below chance")
    assert "MMSI-Bench" not in said.partition(": cannot be told apart from chance")[0]
    cut = found["Cut off answers"]
    assert cut.verdict == "look" and cut.found.endswith("not recorded: MMSI-Bench")


def test_a_category_that_is_all_wrong_over_many_questions_is_pointed_out(subject: Subject) -> None:
    (row,) = [row for row in subject.table.rows if row.key == "mmsi_bench"]
    part, *others = row.reading.parts
    for value, n, told in (
        (0.0, 100, True),
        (100.0, 250, True),
        (0.0, 99, False),
        (9.0, 100, False),
    ):
        parts = {part: value, **dict.fromkeys(others, 40.0)}
        intervals = {**row.intervals, part: dataclasses.replace(row.intervals[part], n=n)}
        reading = dataclasses.replace(row.reading, parts=parts)
        changed = dataclasses.replace(row, reading=reading, intervals=intervals)
        table = dataclasses.replace(subject.table, rows=(changed,))
        found = checks(dataclasses.replace(subject, table=table))
        suspicious = [check for check in found if check.name == "All wrong or all right"]
        assert bool(suspicious) == told, (value, n)
        for check in suspicious:
            assert check.verdict == "look" and check.found.startswith("1 category scores exactly 0")
            link = f'<a href="#questions" data-key="mmsi_bench" data-part="{part}">'
            assert link in checks_html([check])


@pytest.mark.parametrize(
    ("verdict", "average"),
    [
        ("yes", "and so is the average"),
        ("note", "the average only with that note"),
        ("no", "the average is not"),
    ],
)
def test_the_average_compares_only_as_its_benchmarks_do(
    subject: Subject, verdict: str, average: str
) -> None:
    rows = tuple(
        dataclasses.replace(row, comparable=verdict if row.key == "blink" else "yes")
        for row in subject.table.rows
    )
    table = dataclasses.replace(subject.table, rows=rows)
    found = {one.name: one for one in checks(dataclasses.replace(subject, table=table))}
    assert found["Comparable"].found.endswith(f"; {average}")
