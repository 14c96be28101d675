"""Read the result files of VLMEvalKit (ms-vlmeval 0.0.20).

Files are found by their exact names.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...benchmarks import VLMEVALKIT, Benchmark, Source
from ...core.errors import EasiError
from ...scores.outputs import JUDGED, Outputs, newest_files
from ...scores.scorer_notes import ScorerNotes, notes_file
from .sheets import AGAIN, parse_number, read_delimited

SETTINGS = ("vanilla", "flip_eval", "circ_eval", "flip_circ_eval")
# Judges whose names the package shortens in file names (image_mcq.py, evaluate_heuristic).
JUDGE_FILES = {"chatgpt-0125": "openai", "gpt-4-0125": "gpt4"}


def _patterns(source: Source) -> tuple[re.Pattern[str], str]:
    """Return a pattern for the score file and a template for the names of the per-question files.

    The pattern has a group ``model`` and, if the name contains it, a group ``tag`` for the
    extraction method. The template is filled with these groups and ``task`` to get a regular
    expression.
    """
    name = re.escape(source.task)
    if source.layout == "settings":
        return re.compile(rf"(?P<model>.+)_{name}_results\.tsv"), r"{model}_{task}_result\.xlsx"
    if source.family == "mcq":
        # The per-question file has the judge's name in its name, the score file does not.
        return re.compile(
            rf"(?P<model>.+)_{name}_acc\.csv"
        ), r"{model}_{task}_.+_result\.(xlsx|tsv)"
    # MMSI-Video also writes *_subset_acc.csv, after the main file.
    tag = r"(?P<tag>extract_matching|llm_.+)(?<!_subset)"
    return re.compile(rf"(?P<model>.+)_{name}_{tag}_acc\.csv"), r"{model}_{task}_{tag}\.xlsx"


def score_files(bench: Benchmark, folder: Path) -> list[tuple[Path, str, str]]:
    """Return every score file of one benchmark below ``folder``, newest first.

    Each entry is the path, the model's name and the tag of the extraction method ("" if the name
    has none).
    """
    source = bench.source(VLMEVALKIT)
    pattern = _patterns(source)[0]
    matches = [
        (path, pattern.fullmatch(path.name))
        for path in newest_files(sorted(folder.rglob(f"*{source.task}*")))
    ]
    return [
        (path, match["model"], match.groupdict().get("tag", "")) for path, match in matches if match
    ]


def find_vlmevalkit_outputs(
    bench: Benchmark, folder: Path, judge: str = "", *, whole: bool = True
) -> Outputs:
    """Return the newest score file of one benchmark and the files that belong to it.

    These are the per-question file beside it and, in our own runs, the exact answers. Files in a
    ``JUDGED`` folder below are ignored. VLMEvalKit writes no score file for 3DSRBench if a question
    failed that is part of a set; then there is only the per-question file.

    Args:
        bench: The benchmark.
        folder: The folder to search, including its subfolders.
        judge: ``extract_matching``, ``exact_matching`` or the name of a judge model; "" accepts
            any.
        whole: Whether the per-question file must be there.

    Raises:
        EasiError: A file is missing; the message names it.
    """
    source = bench.source(VLMEVALKIT)
    pattern, template = _patterns(source)
    want = {
        "": "",
        "exact_matching": "extract_matching",
        "extract_matching": "extract_matching",
    }.get(judge, f"llm_{judge}")
    below = (
        sorted(
            path
            for path in folder.rglob(f"*{source.task}*")
            if JUDGED not in path.relative_to(folder).parts
        )
        if folder.is_dir()
        else []
    )
    for path in newest_files(below):
        match = pattern.fullmatch(path.name)
        found = match.groupdict() if match else {}
        if not match or (want and found.get("tag", want) != want):
            continue
        if not whole:
            return _outputs(bench, folder, (path,), ())
        names = {
            "task": re.escape(source.task),
            **{name: re.escape(text) for name, text in found.items()},
        }
        rows = re.compile(template.format(**names))
        beside = [
            other
            for other in newest_files(below)
            if rows.fullmatch(other.name) and other.parent == path.parent
        ]
        if judge and "tag" not in found and source.layout != "settings":
            beside = [
                other
                for other in beside
                if f"_{JUDGE_FILES.get(judge, judge)}_result." in other.name
            ]
        if not beside:
            raise EasiError(
                f"{path} has no per-question file beside it",
                hint="scoring stopped early; see the log",
            )
        lossless = path.with_name(f"{found['model']}_{source.task}.jsonl")
        return _outputs(
            bench, folder, (path,), (beside[0], lossless) if lossless.is_file() else (beside[0],)
        )
    if source.layout == "settings" and not whole:
        return _outputs(bench, folder, (), ())
    if source.layout == "settings":
        for path in newest_files(below):
            match = re.fullmatch(
                template.format(model="(?P<model>.+)", task=re.escape(source.task)), path.name
            )
            lossless = path.with_name(f"{match['model']}_{source.task}.jsonl") if match else path
            if match and lossless.is_file() and ScorerNotes.of(path, folder).failed:
                return _outputs(bench, folder, (), (path, lossless))
    what = f"{bench.title} scored by {judge}" if judge else bench.title
    raise EasiError(
        f"{folder} holds no scores of {what} (no file named {pattern.pattern})",
        hint="scoring did not finish; see the log",
    )


def _outputs(
    bench: Benchmark, folder: Path, scores: tuple[Path, ...], rows: tuple[Path, ...]
) -> Outputs:
    notes = notes_file(next(iter((*scores, *rows)), folder / "none"), folder)
    return Outputs(
        bench.key, folder, scores, rows, (notes,) if notes else (), bench.source(VLMEVALKIT).task
    )


def aggregate(path: Path, layout: str) -> dict[str, float | None]:
    """Return every number of a score file by key, in the file's own scale.

    ``layout`` is one of ``benchmarks.LAYOUTS``.
    """
    header, rows = read_delimited(path, "," if layout == "comma" else "\t")
    if layout == "key_value":
        if header != ["metric", "value"]:
            raise EasiError(f"{path} starts with {header} instead of metric and value", hint=AGAIN)
        return {name: parse_number(text, f"{path}, {name}") for name, text in rows}
    if layout == "settings":
        by = {row[0]: row for row in rows}
        lacking = [name for name in SETTINGS if name not in by]
        if lacking:
            raise EasiError(f"{path} has no row {', '.join(lacking)}", hint=AGAIN)
        return {
            f"{setting}|{name}": parse_number(text, f"{path}, {setting}")
            for setting, row in by.items()
            for name, text in zip(header[1:], row[1:], strict=True)
        }
    wanted = 2 if layout == "wide_last_row" else 1
    if len(rows) != wanted:
        raise EasiError(f"{path} has {len(rows)} rows of numbers, not {wanted}", hint=AGAIN)
    labels = ("split",) if layout == "comma" else ()
    return {
        name: parse_number(text, f"{path}, {name}")
        for name, text in zip(header, rows[-1], strict=True)
        if name not in labels
    }
