"""The live view: phases, one row per benchmark, workers, downloads, and the path of the log."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
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

WIDE = 100  # terminal columns from which bars and rates are shown
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


class LiveDisplay:
    """Redraws the view on a terminal until the context is left.

    Lines that the user may want to read later are printed above the view and stay (``lasting``).
    """

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        console: Console | None = None,
    ) -> None:
        self._view = RunView(clock)
        self._lock = threading.Lock()  # rich draws in another thread
        self._console = console or Console(file=stream, highlight=False)
        self._live = Live(
            View(self._view, self._lock),
            console=self._console,
            refresh_per_second=4,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # After an error or an interrupt the last state stays on the screen.
        self._live.transient = error is None
        # The error may be that the terminal is gone; that must not hide the error itself.
        with suppress(OSError) if error is not None else nullcontext():
            self._live.stop()

    def on(self, event: Event) -> None:
        """Update the view and print the lasting lines of the event above it."""
        with self._lock:
            self._view.on(event)
        for line in lasting(event, self._view):
            self._console.print(line, soft_wrap=False, overflow="fold")


def lasting(event: Event, view: RunView) -> Iterator[Text]:
    """The lines of an event that stay on the screen."""
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

    def __init__(self, view: RunView, lock: threading.Lock) -> None:
        self._view, self._lock = view, lock

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            yield draw(self._view, options.max_width, console.size.height)


def draw(view: RunView, width: int, height: int) -> RenderableType:
    """The whole view as one renderable for a terminal of ``width`` x ``height`` characters."""
    above = _head(view, width)
    below = _foot(view)
    room = height - 4 - sum(_lines(part, width) for part in [*above, *below])
    parts: list[RenderableType] = list(above)
    if view.rows:
        parts += [Text(), _table(view, width, room)]
    return Group(*parts, Text(), *below)


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
    for name in PHASES:
        if name == "submit" and name not in view.phases_seen:
            continue
        if name == view.phase:
            steps.append(f"▸ {name}", style="bold cyan")
        elif name in view.phases_seen:
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
    wide = width >= WIDE
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, expand=wide, header_style="dim")
    table.add_column("", width=1)
    table.add_column("benchmark", overflow="fold", min_width=10)
    table.add_column("state", no_wrap=True)
    if wide:
        table.add_column("", ratio=1, min_width=10)
    table.add_column("done", justify="right", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    if wide:
        table.add_column("rate", justify="right", no_wrap=True, min_width=6)
    table.add_column("left", justify="right", no_wrap=True, min_width=6)
    table.add_column("score", justify="right", no_wrap=True, min_width=6)
    rows = list(view.rows.values())
    folded = len(rows) > room
    for row in rows:
        if not folded or view.stage(row) in (Stage.ANSWERING, Stage.SCORING):
            table.add_row(*_cells(view, row, wide))
    if folded:
        for stage_rows, mark, style, word in _folded(view, rows):
            table.add_row(
                Text(mark, style), Text(f"{len(stage_rows)} more", style), Text(word, style)
            )
    done, total, failed = view.totals
    if total and len(rows) > 1:
        cells: list[RenderableType] = ["", Text("all", "bold"), Text(percent(done, total), "bold")]
        if wide:
            cells.append(ProgressBar(total=total, completed=done, complete_style="cyan"))
        cells += [f"{done}/{total}", Text(str(failed) if failed else "", "red")]
        if wide:
            cells.append(per_time(view.all_rate))
        rest = view.all_eta
        table.add_row(
            *cells,
            "" if rest is None else f"{'>' if view.uncounted else '~'} {short_duration(rest)}",
        )
    return table


def _cells(view: RunView, row: Row, wide: bool) -> list[RenderableType]:
    stage = view.stage(row)
    mark, style = STYLES.get(stage, ("?", ""))
    eta = view.eta_of(row)
    cells: list[RenderableType] = [
        Text(mark, style),
        Text(row.title, "dim" if style == "dim" else ""),
        Text(stage, style),
    ]
    if wide:
        cells.append(
            ProgressBar(total=row.total, completed=row.done, complete_style="cyan")
            if row.total
            else ""
        )
    cells += [
        "" if row.total is None else f"{row.done}/{row.total}",
        Text(str(row.failed) if row.failed else "", "red"),
    ]
    if wide:
        cells.append(per_time(view.rate_of(row)))
    return [
        *cells,
        "" if eta is None else short_duration(eta),
        "" if row.score is None else Text(f"{row.score:.2f}", "bold"),
    ]


def _folded(view: RunView, rows: list[Row]) -> Iterator[tuple[list[Row], str, str, str]]:
    """Rows that have no room of their own, by stage: (rows, mark, style, stage)."""
    by_stage: dict[str, list[Row]] = {}
    for row in rows:
        if (stage := view.stage(row)) not in (Stage.ANSWERING, Stage.SCORING):
            by_stage.setdefault(stage, []).append(row)
    for stage, those in by_stage.items():
        mark, style = STYLES.get(stage, ("?", ""))
        yield those, mark, style, stage


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
    if view.started:
        lines.append(Text.assemble(("log      ", "dim"), str(view.started.log), overflow="fold"))
    return lines


def _lines(text: Text, width: int) -> int:
    """Number of terminal lines that a text takes at this width."""
    return len(text.wrap(_MEASURE, width, overflow="fold"))
