"""``report.html``: one file that shows a run, offline.

It is written beside the result files and kept until one of its inputs changes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from pathlib import Path

from .. import __version__
from ..backends.evidence import Evidence
from ..benchmarks import GROUPS, part_title
from ..core.atomic_files import digest, write_atomic
from ..core.backend_facts import BACKEND_FACTS
from ..core.errors import EasiError
from ..core.redact import Redactor
from ..scores.report import SCALE, effort
from ..scores.score_table import AVERAGE, BenchmarkScore, title_of
from . import weak_spots
from .answer_charts import Lengths, answers_html
from .categories import types_of
from .evaluated import questions_of
from .questions import CANDIDATES, WHOLE, AnswerFacts, Blocks, Columns
from .score_section import notes_html, published_html, scores_html
from .shell import Shell, assemble, template
from .subject import REPORT, Subject, html, points, readable, type_titles
from .thumbnails import thumbnails
from .trust import against_chance, checks, checks_html, verdict

SCHEMA = 5
EASI8 = (
    "EASI is the leaderboard of Holistic Evaluation of Multimodal LLMs on Spatial Intelligence, "
    "EASI-8 the mean of its eight main benchmarks; SITE, of two halves, is one of them."
)
# What the manifest keeps for programs: a number of a format, and what the versions say too.
_NOT_TOLD = ("identity version", "transformers", "backend version")


@dataclass
class Gathered:
    """What was read of a run's questions.

    Attributes:
        columns: The questions.
        types: Number of questions by benchmark and type.
        lengths: Of the answers, by benchmark: in tokens if all are known, else in characters.
        tokens: Whether the lengths are in tokens.
    """

    columns: Columns = field(default_factory=Columns)
    types: dict[str, Counter[str]] = field(default_factory=dict)
    lengths: list[Lengths] = field(default_factory=list)
    tokens: bool = True


def write_report(subject: Subject) -> str:
    """Write the report into the run's folder and the output folder, if it is not there yet.

    Returns:
        Why it could not be written, as a note for the user; "" if it was. A report never fails a
        run.
    """
    path = subject.paths.root / REPORT
    try:
        inputs = _inputs(subject)
        text = _known(path, inputs)
        if not text:
            text = make(subject, inputs)
            write_atomic(path, text)
        if _known(subject.output_dir / REPORT, inputs) != text:
            write_atomic(subject.output_dir / REPORT, text)
    except (EasiError, OSError) as error:
        return f"{REPORT} could not be written: {error}"
    except Exception as error:  # a mistake in the report must not cost a run
        return f"{REPORT} could not be made: {error!r}"
    return ""


def _known(path: Path, inputs: str) -> bytes:
    """Return the report made earlier from the same inputs; empty if there is none."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    same = f'name="easi-inputs" content="{inputs}"'.encode() in data[:500]
    return data if same and data.endswith(b"</html>\n") else b""


def _inputs(subject: Subject) -> str:
    """Return the digest of all that the report is made of."""
    folders = {row.key: subject.paths.output(row.key) for row in subject.table.rows if row.n}
    found = {key: Evidence.load(folder) for key, folder in folders.items()}
    return digest(
        {
            "program": __version__,
            "schema": SCHEMA,
            "scores": asdict(subject.table),
            "manifest": asdict(subject.manifest),
            "rehearsal": subject.rehearsal,
            "files": {key: dict(one.files) for key, one in found.items() if one},
        }
    )


def make(subject: Subject, inputs: str) -> bytes:
    """Return the page.

    Raises:
        EasiError: A file of the run cannot be read.
    """
    from .journal_facts import told

    said = told(subject.paths, subject.manifest)
    gathered = _gather(subject, said)
    keys = [key for key, _ in gathered.columns.spans]
    unit = "tokens" if gathered.tokens else "characters"
    notes = notes_html(subject)
    values = {
        **_head(subject),
        "scores": scores_html(subject),
        "notes": f'<ul class="notes">{notes}</ul>' if notes else "",
        "published": _published(subject),
        "categories": _categories(subject, _sizes(subject, gathered.types)),
        "answers": answers_html(subject, gathered.lengths, unit, said, keys),
        "made": _made(subject),
    }
    parts = {
        "summary": "Summary",
        "scores": "Scores",
        "categories": "Weak spots",
        "answers": "Answers",
        "made": "How it was made",
    }
    return assemble(
        Shell(
            html(subject.table.model),
            parts,
            template("run").substitute(values),
            "Questions",
            lambda packed: _contents(gathered.columns, packed),
            inputs,
            _pictures(subject, gathered.columns),
        ),
        gathered.columns,
        _extra(subject, gathered),
    )


# ---- questions -----------------------------------------------------------------------------------


def _gather(subject: Subject, said: Mapping[str, Mapping[str, AnswerFacts]]) -> Gathered:
    """Read the questions of all benchmarks, one after the other."""
    gathered = Gathered()
    shown = [row for row in subject.table.rows if row.n]
    counted = {row.key: [one.tokens for one in said.get(row.key, {}).values()] for row in shown}
    gathered.tokens = all(counts and None not in counts for counts in counted.values())
    for score in shown:
        rows = questions_of(subject.reader, score, subject.paths)
        gathered.types[score.key] = Counter(rows["question_type"].tolist())
        gathered.lengths.append(_lengths(score, gathered.tokens, counted, rows["answer"].tolist()))
        gathered.columns.add(
            score.key,
            rows,
            said.get(score.key, {}),
            type_titles(score.key, types_of(subject, score.key)),
            CANDIDATES // len(shown),
        )
    return gathered


def _lengths(
    score: BenchmarkScore,
    tokens: bool,
    counted: Mapping[str, Sequence[int | None]],
    answers: Sequence[str],
) -> Lengths:
    values = [one or 0 for one in counted[score.key]] if tokens else [len(text) for text in answers]
    return Lengths(score.key, values, score.truncated)


def _sizes(subject: Subject, types: Mapping[str, Counter[str]]) -> dict[tuple[str, str], int]:
    """Return the number of questions of each sub-score that is about some types of questions."""
    members = {group.key: group.members for group in GROUPS}
    return {
        (score.key, part): sum(
            types[key][kind]
            for key in members.get(score.key, (score.key,))
            if key in types
            for kind in kinds
        )
        for score in subject.table.headlines
        for part, kinds in types_of(subject, score.key).items()
        if kinds
    }


def _extra(subject: Subject, gathered: Gathered) -> dict[str, object]:
    """Return what the browser filters by, and where each benchmark's files are."""
    spans = gathered.columns.spans
    keys = [key for key, _ in spans]
    names = [row.key for row in subject.table.headlines]
    names += [key for key in keys if key not in names]
    filters = []
    for name in names:
        places = weak_spots.spans_of(name, keys)
        if places:
            there = set().union(*(gathered.types[keys[place]] for place in places))
            filters.append(
                {
                    "key": name,
                    "title": title_of(name),
                    "spans": places,
                    "parts": [*_parts(subject, name, there)],
                }
            )
    base = subject.paths.root
    with_folder = [
        (key, title_of(key), count, _below(subject.paths.output(key), subject.output_dir, base))
        for key, count in spans
    ]
    return {"spans": with_folder, "filters": filters}


def _below(path: Path, *folders: Path) -> str:
    for folder in folders:
        if path.is_relative_to(folder):
            return f"{path.relative_to(folder).as_posix()}/"
    return f"{path.name}/"


def _parts(subject: Subject, name: str, there: set[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the choices of the category filter: name, words and types of questions."""
    parts = types_of(subject, name) if name in _known_parts(subject) else {}
    titles = type_titles(name, parts)
    single: set[str] = set()
    for part, kinds in parts.items():
        if kinds and there.intersection(kinds):
            yield part, part_title(name, part), [titles[kind] for kind in kinds]
            single |= set(kinds) if len(kinds) == 1 else set()
    for kind in sorted(there - single):
        if kind:
            title = titles.get(kind) or readable(kind)
            yield "", title, [title]


def _known_parts(subject: Subject) -> set[str]:
    return {row.key for row in (*subject.table.headlines, *subject.table.rows)}


def _pictures(subject: Subject, columns: Columns) -> str:
    """Return thumbnails by name, as JSON that is safe in HTML; benchmarks take turns."""
    turns = zip_longest(*(own.items() for own in columns.pictures.values()))
    wanted = {name: where for turn in turns for name, where in filter(None, turn)}
    made = thumbnails(wanted.values(), subject.media)
    named = {name: made[where] for name, where in wanted.items() if where in made}
    return json.dumps(named).replace("<", "\\u003c")


def _contents(columns: Columns, packed: Blocks) -> str:
    """Say what of the questions is in the page, and where the rest is."""
    count = len(columns)
    if not count:
        return "No benchmark has results yet."
    said = f"All {count:,} questions are listed here. "
    lacking = []
    if packed.shortened:
        whose = "" if packed.shown == WHOLE else " (of right ones)"
        head, tail = packed.shown
        lacking.append(
            f"{packed.shortened:,} answers are shortened to their first {head} and last {tail} "
            f"characters{whose}"
        )
    if packed.unasked:
        lacking.append(f"{packed.unasked:,} are without the text of the question")
    if lacking:
        said += (
            f"To keep this file small, {' and '.join(lacking)}, those answered right first. "
            "The files that each question names have everything."
        )
    return html(said)


# ---- the rest ------------------------------------------------------------------------------------


def _head(subject: Subject) -> dict[str, str]:
    table, manifest, kind = subject.table, subject.manifest, BACKEND_FACTS[subject.reader.name]
    launched = [launch["started"][:10] for launch in manifest.launches if "started" in launch]
    about = [
        f"on {kind.versioned(str(manifest.fields.get('backend version', '')))}",
        " to ".join(dict.fromkeys((launched[0], launched[-1]))) if launched else "",
        f"run {table.identity[:8]}",
    ]
    key, title, score = AVERAGE, "EASI-8 average", table.easi8_average
    if score is None and len(table.headlines) == 1:
        key, score = table.headlines[0].key, table.headlines[0].reading.overall
        title = title_of(key)
    said = [f"{html(title)}<strong>{points(score)}</strong>"]
    if interval := subject.span(key):
        said.append(f"<p>95 % interval {interval}</p>")
    said.append(against_chance(subject, key))
    if score is None:
        lacking = html(", ".join(title_of(each) for each in table.lacking()))
        said.append(f'<p class="muted">It also needs {lacking}.</p>')
    asked = sum(row.n for row in table.rows)
    took = _effort(subject) or f"{asked:,} questions"
    count = f"{len(table.headlines)} benchmarks, " if len(table.headlines) > 1 else ""
    said.append(f'<p class="muted">{count}{html(took)}</p>')
    found = checks(subject)
    return {
        "model": html(table.model),
        "about": html(" · ".join(filter(None, about))),
        "average": "".join(said),
        "verdict": verdict(found),
        "checks": checks_html(found),
        "scale": html(f"{EASI8} {SCALE}"),
    }


def _effort(subject: Subject) -> str:
    places = [launch["place"] for launch in subject.manifest.launches if "place" in launch]
    return effort(subject.table, " and ".join(dict.fromkeys(places)))


def _published(subject: Subject) -> str:
    table = published_html(subject)
    if not table:
        return ""
    return (
        "<details><summary>Published scores of other models "
        '<span class="muted">for the benchmarks that compare</span></summary>'
        f"{table}"
        '<p class="muted">As their authors published them, in no order of merit.</p></details>'
    )


def _categories(subject: Subject, sizes: Mapping[tuple[str, str], int]) -> str:
    weakest = weak_spots.weakest_html(subject, sizes)
    if not weakest:
        return '<p class="muted">There are no scores by category.</p>'
    return f"{weakest}<h3>All categories</h3>{weak_spots.categories_html(subject, sizes)}"


def _made(subject: Subject) -> str:
    """Return command, versions, revisions and machines."""
    manifest, line = subject.manifest, Redactor.from_environ().line
    command = manifest.last_command
    others = [one for one in manifest.commands if one != command]
    parts = [
        "<p>This command makes these results, or continues them:</p>"
        f'<button type="button" class="copy">Copy</button><pre>{html(line(command))}</pre>'
        if command
        else ""
    ]
    facts = {
        **{
            readable(name): _said(value)
            for name, value in manifest.fields.items()
            if value and name not in _NOT_TOLD
        },
        "Machines": "; ".join(manifest.machines),
        "Identity of the settings": manifest.identity,
    }
    parts.append(_facts({name: line(value) for name, value in facts.items()}))
    parts.append("<h3>Versions</h3>" + _facts(manifest.versions))
    if manifest.revisions:
        parts.append("<h3>Revisions of data and model</h3>" + _facts(manifest.revisions))
    if others:
        listed = "".join(f"<p>{_role(each)}</p><pre>{html(line(each))}</pre>" for each in others)
        parts.append(
            "<details><summary>Earlier commands, and those of its processes</summary>"
            f"{listed}</details>"
        )
    files = ("easi_scores.md", "easi_scores.csv", "easi_results.json", "easi_results.zip")
    links = ", ".join(f'<a href="{name}">{name}</a>' for name in files)
    parts.append(f'<p class="muted">Beside this page: {links}</p>')
    return "".join(parts)


def _role(command: str) -> str:
    if "--easi-run" not in command:
        return "The backend, or this program with other options"
    return "Scoring" if "--easi-role score" in command else "Answering"


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={inner}" for name, inner in value.items())
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _facts(facts: Mapping[str, object]) -> str:
    pairs = "".join(
        f"<dt>{html(name)}</dt><dd>{html(value)}</dd>" for name, value in facts.items() if value
    )
    return f'<dl class="facts">{pairs}</dl>'
