"""The live view: phases, one row per benchmark, workers, downloads, and the path of the log."""

from __future__ import annotations

import io
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, redirect_stderr, suppress
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..core.events import BenchmarkScored, Event, Notice, RunStarted, Traceback
from ..core.formats import clock_time, per_time, percent, short_duration, size
from .progress import PHASES, Row, RunView, Stage

# The table's columns with their least widths, and those that a narrow terminal goes without, in
# this order. Name and number of answers always stay.
COLUMNS = {
    "": 1,
    "benchmark": 10,
    "state": 10,
    "bar": 10,
    "done": 4,
    "failed": 6,
    "rate": 6,
    "ETA": 6,
    "score": 6,
}
DISPENSABLE = ("bar", "rate", "failed", "state", "score", "ETA")
LEFT_ALIGNED = ("", "benchmark", "state", "bar")
GAP = 2  # between two columns
GPUS_EVERY = 2.0  # seconds between two questions to the driver
DOWNLOADS = 3  # downloads shown at a time
_MEASURE = Console(file=io.StringIO())  # wraps texts and prints nothing
STYLES = {
    "complete": ("✓", "green"),
    "partial": ("✓", "yellow"),
    "incomplete": ("!", "yellow"),
    "failed": ("✗", "bold red"),
    "missing": ("✗", "bold red"),
    Stage.SKIPPED: ("✓", "dim"),
    Stage.WAITING: ("·", "dim"),
    Stage.ANSWERING: ("▸", "cyan"),
    Stage.SCORING: ("▸", "magenta"),
    Stage.UNFINISHED: ("!", "yellow"),
}


class Bar(ProgressBar):
    """A progress bar whose done part stands out on dark and light backgrounds, in any palette.

    Both parts have the terminal's own text colour, the done part bold and the rest dim.
    """

    cell_len = 0  # takes what the other columns leave

    def __init__(self, done: int, total: int) -> None:
        super().__init__(
            total, done, style="dim", complete_style="bold", finished_style="bold green"
        )


Cells = dict[str, Text | Bar]  # of one line of the table, by column


class LiveDisplay:
    """Redraws the view on the terminal's alternate screen until the context is left.

    A terminal of another size wraps what was drawn on its main screen, and scrolls it where it
    cannot be erased. Lines that the user may want to read later (``lasting``, and what this process
    writes to stderr) are shown where there is room, and printed when the main screen is back.
    """

    def __init__(
        self,
        stream: TextIO,
        gpus: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
        console: Console | None = None,
    ) -> None:
        self._view = RunView(clock)
        self._lock = threading.Lock()  # rich draws in another thread
        self._gpus = gpus
        self._over = threading.Event()
        self._console = console or Console(file=stream, highlight=False)
        self._lines: list[Text] = []
        self._live = Live(
            View(self._view, self._lines, self._lock),
            console=self._console,
            screen=True,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._stderr = redirect_stderr(_ByLine(self._keep))

    def __enter__(self) -> Self:
        self._live.start()
        self._stderr.__enter__()
        threading.Thread(target=self._watch_gpus, name="use of the GPUs", daemon=True).start()
        return self

    def _watch_gpus(self) -> None:
        """Ask for the state of the GPUs, in a thread: the driver may take its time."""
        for said in self._gpus:
            self._view.gpus = said
            if self._over.wait(GPUS_EVERY):
                return
        self._view.gpus = ""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._stderr.__exit__(kind, error, trace)
        # The error may be that the terminal is gone; that must not hide the error itself.
        with suppress(OSError) if error is not None else nullcontext():
            self._live.stop()
            for line in self._lines:
                self._console.print(line, soft_wrap=True)
            if error is not None:  # the state in which the run ended
                self._console.print(draw(self._view, (), *self._console.size))

    def stopping(self) -> None:
        """Show that the run is being stopped, at the next drawing: within a quarter of a second."""
        self._view.is_stopping = True

    def on(self, event: Event) -> None:
        """Update the view and keep the lasting lines of the event."""
        with self._lock:
            self._view.on(event)
            self._lines += lasting(event, self._view)

    def _keep(self, line: str) -> None:
        self._lines.append(Text(line))


class _ByLine(io.TextIOBase):
    """A stream that passes on what is written to it line by line."""

    def __init__(self, keep: Callable[[str], None]) -> None:
        self._keep, self._rest = keep, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._keep(line)
        return len(text)


def lasting(event: Event, view: RunView) -> Iterator[Text]:
    """The lines of an event that are still on the screen after the run."""
    match event:
        case RunStarted(notes=notes, skipped=skipped):
            for note in notes:
                yield Text(note)
            for key, reason in skipped:
                yield Text.assemble(("skipped ", "dim"), view.title(key), f": {reason}")
        case Notice(text, level):
            yield Text.assemble(("warning: ", "yellow"), text) if level == "warning" else Text(text)
        case Traceback(text):
            yield Text(text, "dim")
        case BenchmarkScored(key, _, state, reason) if reason:
            _, style = STYLES.get(state, ("", ""))
            yield Text.assemble((f"{state} ", style), view.title(key), f": {reason}")


class View:
    """The renderable that rich draws; fits the size of the terminal.

    Where the height is too small, benchmarks that are not in progress are folded into one line per
    state.
    """

    def __init__(self, view: RunView, lines: Sequence[Text], lock: threading.Lock) -> None:
        self._view, self._lines, self._lock = view, lines, lock

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            yield draw(self._view, self._lines, options.max_width, console.size.height)


def draw(view: RunView, lines: Sequence[Text], width: int, height: int) -> RenderableType:
    """The whole view as one renderable for a terminal of ``width`` x ``height`` characters.

    The latest of ``lines`` are shown where the table leaves room.
    """
    above = _head(view, width)
    below = _foot(view)
    room = height - 4 - sum(_lines(part, width) for part in [*above, *below])
    parts: list[RenderableType] = list(above)
    if view.rows:
        parts += [Text(), _table(view, width, room)]
    latest = list(_latest(lines, width, room - len(view.rows) - 1))
    if latest:
        parts += [Text(), *reversed(latest)]
    return Group(*parts, Text(), *below)


def _latest(lines: Sequence[Text], width: int, room: int) -> Iterator[Text]:
    """Those of the last lines that fit into ``room`` lines of the terminal, the last one first."""
    for line in reversed(lines):
        room -= _lines(line, width)
        if room < 0:
            return
        yield line


def _head(view: RunView, width: int) -> list[Text]:
    run = view.started
    title = Text("EASI", style="bold")
    if run:
        title.append(f"  {run.model}", style="bold cyan")
        about = f"{run.backend}, {run.model_class}"
        title.append("  " if len(title) + len(about) + 2 <= width else "\n      ").append(
            about, style="dim"
        )
    steps = Text()
    for phase in PHASES:
        if phase == "submit" and phase not in view.phases_seen:
            continue
        name = "generate" if phase == "answer" else phase
        if phase == view.phase:
            steps.append(f"▸ {name}", style="bold cyan")
        elif phase in view.phases_seen:
            steps.append(f"✓ {name}", style="green")
        else:
            steps.append(f"· {name}", style="dim")
        steps.append("  ")
    steps.append(clock_time(view.elapsed))
    lines = [title, steps]
    if view.detail:
        lines.append(Text(f"  {view.detail}", style="dim", overflow="fold"))
    return lines


def _table(view: RunView, width: int, room: int) -> Table:
    rows = list(view.rows.values())
    folded = len(rows) > room
    lines = [
        _cells(view, row)
        for row in rows
        if not folded or view.stage(row) in (Stage.ANSWERING, Stage.SCORING)
    ]
    lines += _folded(view, rows) if folded else ()
    if len(rows) > 1 and view.totals[1]:
        lines.append(_all(view))
    shown = _fitting(lines, width)
    table = Table(
        box=None, padding=(0, GAP, 0, 0), pad_edge=False, expand="bar" in shown, header_style="dim"
    )
    for name in shown:
        table.add_column(
            "" if name == "bar" else name,
            justify="left" if name in LEFT_ALIGNED else "right",
            no_wrap=name != "benchmark",
            overflow="fold",
            min_width=COLUMNS[name],
            ratio=1 if name == "bar" else None,
        )
    for cells in lines:
        table.add_row(*(cells.get(name, "") for name in shown))
    return table


def _fitting(lines: Sequence[Cells], width: int) -> list[str]:
    """The columns that fit into ``width`` with the whole names of the benchmarks."""
    widths = {
        name: max([least, *(cells[name].cell_len for cells in lines if name in cells)])
        for name, least in COLUMNS.items()
    }
    shown = list(COLUMNS)
    for name in DISPENSABLE:
        if sum(widths[each] + GAP for each in shown) - GAP > width:
            shown.remove(name)
    return shown


def _cells(view: RunView, row: Row) -> Cells:
    stage = view.stage(row)
    mark, style = STYLES.get(stage, ("?", ""))
    eta = view.eta_of(row)
    return {
        "": Text(mark, style),
        "benchmark": Text(row.title, "dim" if style == "dim" else ""),
        "state": Text(stage, style),
        "bar": Bar(row.done, row.total) if row.total else Text(),
        "done": Text("" if row.total is None else f"{row.done}/{row.total}"),
        "failed": Text(str(row.failed) if row.failed else "", "red"),
        "rate": Text(per_time(view.rate_of(row))),
        "ETA": Text("" if eta is None else short_duration(eta)),
        "score": Text("" if row.score is None else f"{row.score:.2f}", "bold"),
    }


def _all(view: RunView) -> Cells:
    """The last row: all benchmarks together, with the estimated rate and ETA."""
    done, total, failed = view.totals
    rate, eta = view.all_rate, view.all_eta
    more = ">" if view.uncounted else "~"
    return {
        "benchmark": Text("all", "bold"),
        "state": Text(percent(done, total), "bold"),
        "bar": Bar(done, total),
        "done": Text(f"{done}/{total}"),
        "failed": Text(str(failed) if failed else "", "red"),
        "rate": Text(f"~{per_time(rate)}" if rate else ""),
        "ETA": Text("" if eta is None else f"{more}{short_duration(eta)}"),
    }


def _folded(view: RunView, rows: Sequence[Row]) -> Iterator[Cells]:
    """One line per stage for the rows that have no room of their own."""
    stages = Counter(view.stage(row) for row in rows)
    for stage, count in stages.items():
        if stage not in (Stage.ANSWERING, Stage.SCORING):
            mark, style = STYLES.get(stage, ("?", ""))
            yield {
                "": Text(mark, style),
                "benchmark": Text(f"{count} more {stage}", style),
            }


def _foot(view: RunView) -> list[Text]:
    lines: list[Text] = []
    fetching = list(view.data.values())
    for data in fetching[:DOWNLOADS]:
        of = f" of {size(data.total)} ({percent(data.done, data.total)})" if data.total else ""
        lines.append(
            Text.assemble(
                ("fetching ", "dim"), f"{data.what}  {size(data.done)}{of}", overflow="fold"
            )
        )
    if len(fetching) > DOWNLOADS:
        lines.append(Text(f"         and {len(fetching) - DOWNLOADS} more", "dim"))
    if view.workers:
        lines.append(Text.assemble(("workers  ", "dim"), view.worker_summary, overflow="fold"))
    if view.gpus:
        lines.append(Text.assemble(("gpus     ", "dim"), view.gpus, overflow="fold"))
    if view.started:
        lines.append(Text.assemble(("log      ", "dim"), str(view.started.log), overflow="fold"))
    if view.is_stopping:
        lines.append(Text(view.stopping, "bold"))
    return lines


def _lines(text: Text, width: int) -> int:
    """Number of terminal lines that a text takes at this width."""
    return len(text.wrap(_MEASURE, width, overflow="fold"))
