"""Both displays say everything of note, and the live one fits its terminal."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from easi_eval.benchmarks import BENCHMARKS
from easi_eval.core.events import (
    BenchmarkScored,
    DataProgress,
    Event,
    Notice,
    PhaseStarted,
    Progress,
    RunStarted,
    WorkerPhase,
)
from easi_eval.display import make_display
from easi_eval.display.live import LiveDisplay, draw
from easi_eval.display.plain import PlainDisplay
from easi_eval.display.progress import Rate, RunView, Stage
from program import wait_until

MODEL = "an-organisation/a-rather-long-model-name-8B-Instruct"
LOG = Path(
    "/home/somebody/projects/a-deep/folder/eval_results/eval_a-rather-long-model-name-8B-Instruct_20251122_021500.log"
)
STARTED = RunStarted(
    MODEL,
    "vlmevalkit",
    "Qwen2VLChat",
    tuple((bench.key, bench.title) for bench in BENCHMARKS),
    (("blink", "already complete"),),
    Path("eval_results/runs/x"),
    LOG,
    ("a note about [brackets]",),
)


MAIN_SCREEN = "\x1b[?1049l"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def middle_of_a_run(clock: Clock) -> Iterable[Event]:
    """Every state at once, with the widest numbers that occur."""
    yield STARTED
    yield PhaseStarted("prepare")
    yield DataProgress(
        "an-organisation/a-data-set-with-a-long-name/videos.zip", 3_600_000_000, 94_000_000_000
    )
    yield PhaseStarted("start", "8 workers")
    for number in range(8):
        yield WorkerPhase(f"w{number}", "answering" if number else "loading the model")
    yield PhaseStarted("answer")
    keys = [bench.key for bench in BENCHMARKS if bench.key != "blink"]
    for key in keys[:-1]:
        yield Progress(key, 0, 10000, 0, 0)
    clock.now += 10000
    yield Progress(keys[0], 10000, 10000, 9999, 10000)
    yield BenchmarkScored(keys[0], 43.211, "complete")
    yield Progress(keys[1], 10000, 10000, 0, 10000)
    yield BenchmarkScored(keys[1], None, "failed", "KeyError: 'answer'")
    yield Progress(keys[2], 10000, 10000, 0, 10000)
    clock.now += 100
    yield Progress(keys[3], 9000, 10000, 1234, 1)
    clock.now += 5000


def timed(
    key: str, done: int, total: int, now: int, seconds: float = 1.0, cost: float = 1.0
) -> Progress:
    """Progress of a benchmark whose answers take ``seconds`` each where ``cost`` was expected."""
    return Progress(
        key, done, total, 0, now, done * seconds, now * seconds, done * cost, (total - done) * cost
    )


def view_of(events: Callable[[Clock], Iterable[Event]]) -> RunView:
    clock = Clock()
    view = RunView(clock)
    for event in events(clock):
        view.on(event)
    return view


def drawn(view: RunView, width: int, height: int = 50) -> list[str]:
    console = Console(
        width=width, height=height, record=True, file=io.StringIO(), force_terminal=True
    )
    console.print(draw(view, (), width, height))
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("width", [80, 100, 140, 200])
def test_nothing_is_cut(width: int) -> None:
    lines = drawn(view_of(middle_of_a_run), width)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    assert "…" not in text
    for bench in BENCHMARKS:
        assert sum(bench.title in line for line in lines) >= 1, bench.title
    assert MODEL in text
    assert str(LOG) in "".join(lines).replace(" ", "")
    row = next(line for line in lines if "VSI-Bench" in line).split()
    assert row[:3] == ["✓", "VSI-Bench", "complete"] and row[-3:] == [
        "10000/10000",
        "9999",
        "43.21",
    ]
    states = [
        bench.title
        + "|"
        + next(line for line in lines if f" {bench.title} " in line)
        .split(bench.title)[1]
        .split()[0]
        for bench in BENCHMARKS
    ]
    assert {state.split("|")[1] for state in states} == {
        "complete",
        "failed",
        "scoring",
        "generating",
        "waiting",
        "skipped",
    }
    answering = next(line for line in lines if " generating " in line and "9000/10000" in line)
    assert "1234" in answering
    assert "58d" in answering.replace(" ", "") or "59d" in answering.replace(" ", "")


def test_wide_terminals_get_bars_and_rates() -> None:
    narrow, wide = drawn(view_of(middle_of_a_run), 80), drawn(view_of(middle_of_a_run), 140)
    assert not any("━" in line for line in narrow) and any("━" in line for line in wide)
    assert any("0.7/h" in line for line in wide)


@pytest.mark.parametrize("height", [17, 20, 24, 30])
def test_a_low_terminal_still_shows_what_runs(height: int) -> None:
    lines = drawn(view_of(middle_of_a_run), 80, height)
    assert len(lines) <= height
    assert any("9000/10000" in line for line in lines)
    assert any("workers" in line for line in lines)
    if height < 24:
        assert any("more" in line and "waiting" in line for line in lines)


def test_a_log_path_that_wraps_at_words_does_not_overflow_the_terminal() -> None:
    # "log" stays alone on its line, and the path takes two more
    view = view_of(middle_of_a_run)
    for height in range(17, 50):
        assert len(drawn(view, 80, height)) <= height


def test_before_anything_is_known() -> None:
    assert any("EASI" in line for line in drawn(RunView(Clock()), 80))


def test_downloads_are_shown_while_they_last() -> None:
    view = RunView(Clock())
    for event in (
        STARTED,
        PhaseStarted("prepare"),
        DataProgress("a.zip", 5, None),
        DataProgress("b.zip", 1_500_000, 3_000_000),
    ):
        view.on(event)
    assert any("b.zip  1.5 MB of 3.0 MB (50 %)" in line for line in drawn(view, 80))
    view.on(DataProgress("b.zip", 3_000_000, 3_000_000))
    assert not any("b.zip" in line for line in drawn(view, 80))
    assert any("a.zip  5 B" in line for line in drawn(view, 80))


def test_live_display_leaves_notes_failures_and_a_clean_terminal() -> None:
    clock, stream = Clock(), io.StringIO()
    console = Console(width=80, height=40, file=stream, force_terminal=True, color_system=None)
    with LiveDisplay(stream, clock=clock, console=console) as display:
        for event in middle_of_a_run(clock):
            display.on(event)
        display.on(Notice("the hub is slow", "warning"))
    text = stream.getvalue()
    for line in (
        "a note about [brackets]",
        "skipped BLINK: already complete",
        "failed MMSI-Bench: KeyError: 'answer'",
        "warning: the hub is slow",
    ):
        assert line in text.partition(MAIN_SCREEN)[2]
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is back"
    assert text.count("\x1b[?1049h") == text.count(MAIN_SCREEN) == 1, "and the main screen"


def test_an_interrupt_leaves_the_last_view(capsys: pytest.CaptureFixture[str]) -> None:
    def shown(error: type[BaseException] | None) -> str:
        clock, stream = Clock(), io.StringIO()
        console = Console(width=80, height=40, file=stream, force_terminal=True, color_system=None)
        try:
            with LiveDisplay(stream, clock=clock, console=console) as display:
                for event in middle_of_a_run(clock):
                    display.on(event)
                if error:
                    raise error
        except KeyboardInterrupt:
            pass
        return stream.getvalue()

    after = {error: shown(error).partition(MAIN_SCREEN)[2] for error in (None, KeyboardInterrupt)}
    assert "workers" not in after[None] and "workers" in after[KeyboardInterrupt]
    assert "a note about [brackets]" in after[None] and "a note" in after[KeyboardInterrupt]


def test_the_latest_lines_are_shown_where_there_is_room() -> None:
    view = view_of(middle_of_a_run)
    lines = [Text(f"line {number} {'of words ' * 20}") for number in range(30)]
    for height in range(17, 60):
        console = Console(width=80, height=height, file=io.StringIO(), record=True)
        console.print(draw(view, lines, 80, height))
        shown = console.export_text().splitlines()
        assert len(shown) <= height and any("workers" in line for line in shown)
        found = [int(line.split()[1]) for line in shown if line.startswith("line ")]
        assert found == list(range(30 - len(found), 30))
    assert len(found) > 5


def test_what_is_written_to_stderr_is_kept_for_the_main_screen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stream = io.StringIO()
    console = Console(width=80, height=40, file=stream, force_terminal=True, color_system=None)
    with LiveDisplay(stream, clock=Clock(), console=console):
        print("a warning of\na library", file=sys.stderr)
    print("later", file=sys.stderr)
    assert "a warning of\na library\n" in stream.getvalue().partition(MAIN_SCREEN)[2]
    assert capsys.readouterr().err == "later\n"


def test_a_stop_is_said_at_once_whatever_else_is_drawn() -> None:
    """Also while another thread draws: a signal handler says it, which may not wait."""
    stream = io.StringIO()
    console = Console(width=80, height=40, file=stream, force_terminal=True, color_system=None)
    with LiveDisplay(stream, clock=Clock(), console=console) as display:
        display.on(WorkerPhase("w0", "answering"))
        with display._lock:
            display.stopping()
        wait_until(lambda: "Stopping; waiting for the workers to end" in stream.getvalue(), 60)


def test_plain_says_a_stop_past_the_buffer(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as stream:
        stream.write("half a line, still in the buffer")
        display = PlainDisplay(stream, Clock())
        display.stopping()
        assert (tmp_path / "out").read_text() == "[0:00:00] Stopping\n"
    PlainDisplay(io.StringIO()).stopping()  # no file: nothing to say it to


def test_gpus_are_shown_while_their_driver_tells() -> None:
    """A generator stands for the driver: it answers once and then fails."""
    stream, told = io.StringIO(), threading.Event()

    def driver() -> Iterator[str]:
        yield "0: 71/80 GiB, 98 %; 1: 3/80 GiB, 0 %"
        told.set()

    console = Console(width=80, height=40, file=stream, force_terminal=True, color_system=None)
    with LiveDisplay(stream, driver(), Clock(), console) as display:
        wait_until(lambda: "gpus     0: 71/80 GiB, 98 %; 1: 3/80 GiB, 0 %" in stream.getvalue(), 60)
        assert told.wait(60)
        wait_until(lambda: not display._view.gpus, 60)
    assert not any("gpus" in line for line in drawn(display._view, 80))


def plain(events: Callable[[Clock], Iterable[Event]], encoding: str = "utf-8") -> list[str]:
    clock, raw = Clock(), io.BytesIO()
    with PlainDisplay(io.TextIOWrapper(raw, encoding=encoding), clock) as display:
        for event in events(clock):
            display.on(event)
        return raw.getvalue().decode(encoding).splitlines()


def test_plain_says_the_same() -> None:
    text = "\n".join(plain(middle_of_a_run))
    for part in (
        MODEL,
        str(LOG),
        "skipped BLINK: already complete",
        "a note about [brackets]",
        "fetching an-organisation",
        "3.6 GB of 94.0 GB, 3 %",
        "starting: 8 workers",
        "w0: loading the model",
        "w1: generating",
        "VSI-Bench: 10000/10000 questions (100 %), 9999 failed",
        "complete VSI-Bench 43.21",
        "failed MMSI-Bench: KeyError: 'answer'",
        "9000/10000 questions (90 %), 1234 failed",
    ):
        assert part in text, part
    assert not any(ord(char) < 32 or char == "\x1b" for char in text.replace("\n", ""))


def test_plain_is_quiet() -> None:
    """An hour with an answer every tenth of a second and eight workers: a page, not a book."""

    def hour(clock: Clock) -> Iterable[Event]:
        yield STARTED
        for phase in ("importing the backend", "loading the model", "answering"):
            for worker in range(8):
                yield WorkerPhase(f"w{worker}", phase)
        yield PhaseStarted("answer")
        for done in range(1, 36001):
            clock.now += 0.1
            yield Progress("vsi_bench", done, 36000, 0, done)

    lines = plain(hour)
    progress = [line for line in lines if " questions (" in line]
    assert 60 < len(progress) < 240
    assert "36000/36000 (100 %)" in progress[-1]
    assert sum("loading the model" in line for line in lines) == 1
    assert "10.0/s, ETA 30 min" in next(
        line for line in progress if "(50 %)" in line
    ) or "10/s, ETA 30 min" in next(line for line in progress if "(50 %)" in line)


def test_plain_does_not_flood_when_all_is_quick() -> None:
    def quick(clock: Clock) -> Iterable[Event]:
        yield STARTED
        yield PhaseStarted("answer")
        for bench in BENCHMARKS:
            for done in range(1, 17):
                clock.now += 0.01
                yield Progress(bench.key, done, 16, 0, done)

    assert len([line for line in plain(quick) if "answered" in line]) <= 2 * len(BENCHMARKS)


def test_plain_tells_of_restarted_workers() -> None:
    def restart(clock: Clock) -> Iterable[Event]:
        for phase in (
            "loading the model",
            "answering",
            "gone",
            "loading the model",
            "answering",
            "gone",
        ):
            yield WorkerPhase("w0", phase)

    assert [line.split("] ")[1] for line in plain(restart)] == [
        "w0: loading the model",
        "w0: generating",
        "w0: gone",
        "w0 again: loading the model",
        "w0: gone",
    ]


def test_plain_survives_a_poor_encoding() -> None:
    assert plain(lambda clock: [Notice("ünï\ncode 😀")], "ascii") == [
        "[0:00:00] \\xfcn\\xef code \\U0001f600"
    ]


def test_a_pipe_gets_the_plain_display() -> None:
    assert isinstance(make_display(False, io.StringIO()), PlainDisplay)


def test_rate_looks_at_the_recent_past() -> None:
    rate = Rate(0.0)
    assert rate.at(5.0) is None
    for second in range(1, 1001):
        rate.add(float(second), second)
    assert rate.at(1000.0) == pytest.approx(1.0)
    for second in range(1001, 1401):
        rate.add(float(second), 1000 + (second - 1000) * 5)
    assert rate.at(1400.0) == pytest.approx(5.0, rel=0.01)
    assert rate.at(1520.0) == pytest.approx(2.5, rel=0.05), "silence lowers it"


def test_the_eta_knows_that_videos_take_longer() -> None:
    """Two workers: the images took 1 s each, expected were 2 s; so a video should take 10 s."""
    clock = Clock()
    view = RunView(clock)
    view.on(PhaseStarted("answer"))
    view.on(timed("videos", 0, 20, 0, cost=20.0))
    for done in range(1, 41):
        clock.now += 0.5
        view.on(timed("images", done, 40, done, cost=2.0))
    assert view.all_eta == pytest.approx(100.0), (
        "200 s of work for two; by numbers alone it would be 10 s"
    )
    for done in range(1, 11):
        clock.now += 10
        view.on(timed("videos", done, 20, done, 20.0, 20.0))
    assert view.all_eta == pytest.approx(100.0), "20 s each, as measured"


def test_the_time_left_is_what_is_left_divided_by_the_rate_beside_it() -> None:
    """Images at 2/s, then videos at 1/10 s; another benchmark is over with questions left."""
    clock = Clock()
    view = RunView(clock)
    for event in (
        PhaseStarted("answer"),
        timed("videos", 0, 20, 0, cost=20.0),
        timed("broken", 5, 1000, 5),
        BenchmarkScored("broken", None, "failed", "KeyError"),
    ):
        view.on(event)
    steps = [("images", done, 40, 0.5, 2.0) for done in range(1, 41)]
    steps += [("videos", done, 20, 10.0, 20.0) for done in range(1, 20)]
    for key, done, total, took, cost in steps:
        clock.now += took
        view.on(timed(key, done, total, done, took, cost))
        if sum(row.now for row in view.rows.values()) < 10:
            assert view.all_eta is None, "too few answers to tell"
            continue
        assert view.all_rate and view.all_eta
        done_all, total_all, _ = view.totals
        assert (total_all - done_all) / view.all_rate == pytest.approx(view.all_eta)
        assert total_all == 65, "what is no longer asked is not left"
        row = view.row(key)
        if rate := view.rate_of(row):
            assert row.left / rate == pytest.approx(view.eta_of(row))
    line = next(line for line in drawn(view, 140) if line.lstrip().startswith("all"))
    assert line.split()[-3:] == ["~6.0/min", "~10", "s"]


def test_the_first_answers_do_not_promise_an_early_end() -> None:
    """Twelve workers, a minute per question.

    The first twelve answers come within one second, a minute after the questions were asked.
    """
    clock = Clock()
    view = RunView(clock)
    for event in (
        PhaseStarted("start", "12 workers"),
        *(WorkerPhase(f"w{number}", "answering") for number in range(12)),
    ):
        view.on(event)
    clock.now += 60
    view.on(PhaseStarted("answer"))
    for done in range(1, 13):
        clock.now += 0.1
        view.on(timed("videos", done, 1212, done, 60.0, 5.0))
    assert view.all_rate == pytest.approx(12 / 61.2) and view.all_eta == pytest.approx(100 * 61.2)
    row = view.row("videos")
    assert view.rate_of(row) == pytest.approx(12 / 61.2)


def test_workers_that_are_started_again_have_a_rate_of_their_own() -> None:
    clock = Clock()
    view = RunView(clock)
    view.on(PhaseStarted("answer"))
    clock.now += 10
    view.on(timed("a", 10, 40, 10))
    view.on(PhaseStarted("start", "1 worker"))
    clock.now += 900
    view.on(timed("a", 10, 40, 10))
    assert view.all_eta is None
    view.on(WorkerPhase("w0", "answering"))
    clock.now += 20
    view.on(timed("a", 20, 40, 20))
    assert (
        view.phase == "answer"
        and view.all_rate == pytest.approx(0.5)
        and view.all_eta == pytest.approx(40)
    )


def test_eta_of_a_resumed_benchmark_counts_this_run_only() -> None:
    clock = Clock()
    view = RunView(clock)
    for event in (STARTED, timed("vsi_bench", 500, 1000, 0), PhaseStarted("answer")):
        view.on(event)
    clock.now += 100
    view.on(timed("vsi_bench", 600, 1000, 100))
    row = view.row("vsi_bench")
    assert view.stage(row) == Stage.ANSWERING
    assert view.eta_of(row) == pytest.approx(400)
    assert view.uncounted and view.all_eta == pytest.approx(400)
    view.on(PhaseStarted("score"))
    assert view.stage(row) == Stage.UNFINISHED and view.eta_of(row) is None


@pytest.mark.parametrize("width", [44, 50, 59, 60, 70, 80, 100])
def test_a_narrow_terminal_keeps_whole_names_and_counts(width: int) -> None:
    view = view_of(middle_of_a_run)
    lines = drawn(view, width)
    assert max(map(len, lines)) <= width
    for row in view.rows.values():
        (line,) = (line for line in lines if f" {row.title} " in f"{line} ")
        assert row.total is None or f" {row.done}/{row.total}" in line


def test_columns_go_in_the_order_of_their_use() -> None:
    headers = {
        width: next(
            line for line in drawn(view_of(middle_of_a_run), width) if "benchmark" in line
        ).split()
        for width in (40, 50, 60, 80, 140)
    }
    assert headers[40] == ["benchmark", "done"]
    assert headers[50] == ["benchmark", "done", "ETA"]
    assert headers[60] == ["benchmark", "done", "ETA", "score"]
    assert headers[80] == ["benchmark", "state", "done", "failed", "ETA", "score"]
    assert headers[140] == ["benchmark", "state", "done", "failed", "rate", "ETA", "score"]


@pytest.mark.parametrize("no_color", [False, True])
def test_the_done_part_of_a_bar_is_never_fainter_than_the_rest(no_color: bool) -> None:
    """Neither has a colour of its own, which might be that of the background."""
    console = Console(
        width=140,
        height=50,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        no_color=no_color,
    )
    view = RunView(Clock())
    view.on(timed("a", 10, 40, 10))
    segments = [
        segment
        for segment in console.render(draw(view, (), 140, 50))
        if "━" in segment.text and segment.style
    ]
    done, *rest = [segment.style for segment in segments if segment.style]
    assert done.bold and not done.dim and done.color is None and done.bgcolor is None
    assert len(rest) == (0 if no_color else 1)
    assert all(style.dim and style.color is None and style.bgcolor is None for style in rest)
