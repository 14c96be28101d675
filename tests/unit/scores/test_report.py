"""What is said at the end of a run."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from easi_eval.benchmarks import ALL_KEYS, CORE_KEYS, GROUPS, VLMEVALKIT, by_key
from easi_eval.core.log_lines import telling_line
from easi_eval.scores.interval import Interval
from easi_eval.scores.report import Trouble, command_lines, effort, summary, table_lines
from easi_eval.scores.score_table import BenchmarkScore, Pool, Reading, ScoreTable, State, missing


def line(
    key: str,
    score: float = 50.0,
    failed: int = 0,
    unparsed: int | None = 3,
    flips: int | None = 0,
    seconds: float | None = None,
    tokens: int | None = None,
) -> BenchmarkScore:
    pools = {"": Pool(score, 100.0)} if by_key(key).group else {}
    return BenchmarkScore(
        key,
        Reading(score),
        n=5130,
        total=5130,
        state=State.COMPLETE,
        unparsed=unparsed,
        failed=failed,
        truncated=0,
        coin_flips=flips,
        pools=pools,
        seconds=seconds,
        tokens=tokens,
    )


def table(*rows: BenchmarkScore) -> ScoreTable:
    return ScoreTable(rows, "org/model", VLMEVALKIT)


def words(command: str) -> list[str]:
    """What a shell makes of a command that somebody pastes."""
    done = subprocess.run(
        ["sh", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True
    )
    return done.stdout.split("\0")[:-1]


FULL = table(*(line(key, failed=1, flips=12, seconds=1140.0) for key in ALL_KEYS))


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_line_of_the_table_is_wider_than_asked(width: int) -> None:
    lines = table_lines(FULL, width)
    assert max(map(len, lines)) <= width
    # head, rule, benchmarks of which SITE has two halves, rule, average
    assert len(lines) == 1 + 1 + len(ALL_KEYS) + len(GROUPS) + 1 + 1


def test_what_stands_beside_older_rows_fits_too_and_shared_notes_are_said_once() -> None:
    said = (
        "compared with leaderboard rows made with older versions: letters are now found "
        "inside sentences",
    )
    rows = [
        replace(
            line(key, failed=1, flips=12),
            comparable="note",
            notes=said if key in ("blink", "vsi_bench") else (),
        )
        for key in ALL_KEYS
    ]
    lines = summary(table(*rows), width=80)
    assert max(map(len, lines)) <= 80
    assert "comp" in table_lines(table(*rows), 80)[0].split()
    text = " ".join("\n".join(lines).split())
    assert text.count(said[0]) == 1 and f"VSI-Bench, BLINK: {said[0]}" in text
    assert "comp" not in table_lines(FULL, 80)[0].split(), "left out where nobody asked"


def test_columns_without_a_count_are_left_out() -> None:
    head = table_lines(table(line("blink")), 80)[0].split()
    assert head == ["benchmark", "score", "n", "unparsed", "state"]
    assert "flips" in table_lines(table(line("blink", flips=2)), 80)[0]


@pytest.mark.parametrize(
    ("width", "shown"),
    [(80, ["±9.0", "comp"]), (140, ["41.0", "to", "55.5", "flips", "1h05m", "comp"])],
)
def test_intervals_fit_and_titles_are_not_cut_for_them(width: int, shown: list[str]) -> None:
    sure = Interval(50.0, 3.0, 41.0, 55.5, 5130, 288, "wilson", 25.0)
    rows = [
        replace(
            line(key, failed=1, flips=12, seconds=3900.0),
            intervals={"": sure},
            truncated=5,
            comparable="note",
        )
        for key in ALL_KEYS
    ]
    lines = table_lines(table(*rows), width)
    assert max(map(len, lines)) <= width
    assert "MMSI-Video-Bench " in "\n".join(lines)
    assert set(shown) <= set(" ".join(lines).split())
    assert ("flips" in lines[0]) == (width == 140), "the files have it"


def test_the_time_is_shown_where_it_is_known() -> None:
    rows = [line("blink", seconds=3900.0), line("site_image", seconds=60.0), line("embspatial")]
    rows.append(line("site_video", seconds=120.0))
    lines = table_lines(table(*rows), 80)
    head, shown = lines[0], {each.split()[0]: each for each in lines[2:-2]}
    end = head.index("time") + len("time")
    took = {name: each[end - 6 : end].strip() for name, each in shown.items()}
    assert took == {
        "SITE": "3 min",
        "image": "60 s",
        "video": "2 min",
        "BLINK": "1h05m",
        "EmbSpatial": "-",
    }


def test_what_the_answers_took_is_one_line() -> None:
    rows = [line(key, seconds=1280.0, tokens=133_000) for key in CORE_KEYS]
    said = "46,170 questions in 3 h 12 min on 8 GPUs, 4.0/s, 1.2 M tokens"
    assert effort(table(*rows), "8 GPUs") == said
    assert said in summary(table(*rows, missing("spar_bench", "not run")), place="8 GPUs")
    assert effort(table(*rows[:1]), "") == "5,130 questions in 21 min, 4.0/s, 133,000 tokens"
    mixed = table(rows[0], line("embspatial", seconds=10.0))
    assert effort(mixed, "") == "10,260 questions in 22 min, 8.0/s"
    unknown = table(*rows[1:], line("vsi_bench"))
    assert effort(unknown, "8 GPUs") == "", "of what is not known of all, nothing is said"


def test_unknown_is_not_zero_and_missing_is_not_a_score() -> None:
    lines = table_lines(
        table(
            line("blink", unparsed=None), missing("embspatial", "not run"), line("vsi_bench", 0.0)
        ),
        80,
    )
    assert lines[2].split() == ["VSI-Bench", "0.00", "5130", "3", "complete"]
    assert lines[3].split() == ["BLINK", "50.00", "5130", "?", "complete"]
    assert lines[4].split() == ["EmbSpatial", "-", "missing"]
    assert lines[-1].split() == ["EASI-8", "average", "-", "missing"]


def test_a_partial_benchmark_says_how_much_of_it_there_is() -> None:
    row = BenchmarkScore(
        "blink",
        Reading(10.0),
        n=8,
        total=1901,
        state=State.PARTIAL,
        unparsed=0,
        truncated=0,
        coin_flips=0,
    )
    assert table_lines(table(row), 80)[2].split() == ["BLINK", "10.00", "8/1901", "0", "partial"]


def test_the_average_is_there_when_all_eight_are() -> None:
    assert table_lines(table(*(line(key) for key in CORE_KEYS)), 80)[-1].split() == [
        "EASI-8",
        "average",
        "50.00",
    ]
    assert not any(
        "needs all" in text for text in summary(table(*(line(key) for key in CORE_KEYS)))
    )


def test_the_summary_says_what_failed_why_and_how_to_retry() -> None:
    retry = [
        "python",
        "scripts/submissions/run_easi_eval.py",
        "--model",
        "org/model",
        "--submission-configs",
        '{"a": "b c"}',
        "--benchmarks",
        "embspatial",
    ]
    rows = table(line("blink"), missing("embspatial", "no result file", State.FAILED))
    lines = summary(
        rows,
        [
            Trouble(
                "embspatial",
                "scoring stopped early " * 6,
                "ValueError: bad letter " + "x" * 30,
                Path("eval_results/eval_m.log"),
            ),
            Trouble("", "disk full"),
        ],
        width=80,
        retry=retry,
        files=[Path("eval_results/easi_results.json")],
        notes=["12 coin flips"],
    )
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 80
    for said in (
        "EmbSpatial: scoring stopped early",
        "ValueError: bad letter",
        "log: eval_results/eval_m.log",
        "  disk full",
        "12 coin flips",
        "needs all of EASI-8",
        "eval_results/easi_results.json",
    ):
        assert said in text
    start = lines.index("To complete the run:") + 1
    command = "\n".join(lines[start : lines.index("", start)])
    assert words(command) == retry


def test_benchmarks_that_failed_alike_are_told_together() -> None:
    log = Path("eval_results/eval_m.log")
    alike = [
        Trouble(key, f"{key}: 20 of 20 items failed", "ValueError: no video here", log)
        for key in ("blink", "embspatial")
    ]
    rows = table(*(missing(key, "", State.FAILED) for key in ("blink", "embspatial", "mmsi_bench")))
    text = "\n".join(summary(rows, alike, width=140))
    assert (
        text.count("ValueError") == 1
        and f"all 2 benchmarks: ValueError: no video here (log: {log})" in text
    )
    text = "\n".join(
        summary(
            rows, [*alike, Trouble("mmsi_bench", "no result file", "KeyError: 'a'", log)], width=140
        )
    )
    assert (
        f"BLINK, EmbSpatial: ValueError: no video here (log: {log})" in text
        and "MMSI-Bench: no result file" in text
    )


def test_options_and_paths_are_not_broken_at_their_hyphens() -> None:
    for padding in range(60):
        lines = summary(
            FULL,
            notes=[
                f"{'x' * padding} give modelName with --submission-configs or read "
                "/some-long/path-with/hyphens-in-it"
            ],
        )
        assert sum("--submission-configs" in line for line in lines) == 1
        assert sum("/some-long/path-with/hyphens-in-it" in line for line in lines) == 1
        assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [20, 40, 80])
def test_a_command_stays_one_command_at_any_width(width: int) -> None:
    argv = [
        "easi-eval",
        "--model",
        "/a very long/path to/" + "m" * 60,
        "--model-args",
        "a=1,b='2'",
        "--rerun",
    ]
    lines = command_lines(argv, width)
    assert words("\n".join(lines)) == argv
    assert all(len(text) <= width or len(text.split("'")) > 1 for text in lines)
    assert all(text.endswith(" \\") for text in lines[:-1]) and not lines[-1].endswith("\\")


@pytest.mark.parametrize(
    "log, line",
    [
        (
            [
                "loading",
                "Traceback (most recent call last):",
                '  File "x.py", line 3',
                "torch.OutOfMemoryError: CUDA out of memory.",
                "done",
            ],
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        (
            ["Error during evaluation: 'object_rel_direction_hard_accuracy'", "bye"],
            "Error during evaluation: 'object_rel_direction_hard_accuracy'",
        ),
        (
            [
                "KeyError: 'x'",
                "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:",
                "  exitcode  : 1 (pid: 7)",
                "  error_file: <N/A>",
            ],
            "KeyError: 'x'",
        ),
        (
            ["Model M x Dataset D combination failed: no disk, skipping this combination."],
            "Model M x Dataset D combination failed: no disk, skipping this combination.",
        ),
        (["all fine", "", "last words  ", ""], "last words"),
        ([], ""),
    ],
)
def test_the_telling_line_of_a_log(log: list[str], line: str) -> None:
    assert telling_line(log) == line
