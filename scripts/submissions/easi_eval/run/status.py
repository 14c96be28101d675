"""``--status``: what every run in an output folder is at, from its files alone."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.errors import EasiError
from ..core.event_log import last_launch
from ..core.events import BenchmarkScored, NodeChanged, Notice, PhaseStarted, RunEnded
from ..core.formats import duration, per_time, percent
from ..core.manifest import BenchmarkState, Manifest
from ..core.run_folder import RunPaths
from ..core.run_lock import is_locked
from ..display.progress import RunView
from ..display.run_log import progress_line
from ..engine.journal_state import Count, JournalState
from ..engine.work import ItemList, Work
from ..scores.score_table import State, sum_known

WIDTH = 80
DONE = (State.COMPLETE, State.PARTIAL)


def show_status(output_dir: Path, backend: str = "*") -> str:
    """Return one paragraph for every run in an output folder, or for one run's own folder.

    ``backend`` selects the runs of one backend.
    """
    if RunPaths(output_dir).manifest.is_file():
        return _paragraph(output_dir, time.time())
    found = sorted(path for path in output_dir.glob(f"runs/{backend}/*") if path.is_dir())
    if not found:
        return f"no runs in {output_dir}" + (f" with --backend {backend}" if backend != "*" else "")
    return "\n\n".join(_paragraph(path, time.time()) for path in found)


def _paragraph(root: Path, now: float) -> str:
    try:
        lines = _Status.of(RunPaths(root), now).lines()
    except EasiError as error:
        lines = [f"{root.name}: cannot be read", error.message]
    head, *more = [*lines, str(root)]
    return "\n".join([_wrap(head, ""), *(_wrap(line, "  ") for line in more)])


def _wrap(text: str, indent: str) -> str:
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


@dataclass(frozen=True)
class _Status:
    """What a run is at.

    Attributes:
        view: The last launch, as a display saw it; ``ended`` and ``error`` are its end and the last
            thing that went wrong.
        counts: By benchmark, those of which the questions are known.
        known: Whether there is an event of the launch.
        nodes: The last change of each machine that joined, by name; under "" that of Slurm's job.
    """

    paths: RunPaths
    manifest: Manifest
    view: RunView
    running: bool
    known: bool
    ended: RunEnded | None
    error: str
    counts: Mapping[str, Count]
    nodes: Mapping[str, NodeChanged]

    @classmethod
    def of(cls, paths: RunPaths, now: float) -> _Status:
        """Read the files of a run.

        Raises:
            EasiError: A file is damaged.
        """
        # Before the events: a run that ends now has written them all when it lets go of the lock.
        running = is_locked(paths.lock)
        manifest = Manifest.load(paths.manifest) or Manifest("", {})
        clock = _Clock(now)
        view: RunView | None = None
        ended, error, started = None, "", False
        nodes: dict[str, NodeChanged] = {}
        for clock.now, event in last_launch(paths.events):
            view = view or RunView(clock)
            view.on(event)
            match event:
                case PhaseStarted("start"):
                    started = True
                case NodeChanged(node=node) as change:
                    place = change.place or (nodes[node].place if node in nodes else "")
                    nodes[node] = replace(change, place=place)
                case Notice(text, "warning") if started:
                    error = text
                case BenchmarkScored(key, _, State.FAILED, reason):
                    error = f"{view.title(key)}: {reason}"
                case RunEnded(text):
                    ended, error = event, error if text in ("", "interrupted") else text
        clock.now = now if running else clock.now
        counts = _counts(paths, manifest.benchmarks, view, running)
        return cls(
            paths,
            manifest,
            view or RunView(clock),
            running,
            view is not None,
            ended,
            error,
            counts,
            nodes,
        )

    @property
    def state(self) -> str:
        """Whether the run goes on, and what to do if it does not."""
        if self.running:
            return f"running for {duration(self.view.elapsed)}" if self.known else "running"
        states = {state.state for state in self.manifest.benchmarks.values()}
        if states and states.issubset(DONE):
            part = State.PARTIAL in states
            return "finished with --limit; without it the rest is asked" if part else "finished"
        if self.known and self.ended is None:
            return "dead; the same command resumes it"
        if self.ended and self.ended.error == "interrupted":
            return "interrupted; the same command resumes it"
        return "not complete; the same command resumes it"

    def lines(self) -> list[str]:
        """Return what is to be said; the first line is the headline."""
        manifest, view = self.manifest, self.view
        done, total, failed = (
            sum(getattr(count, name) for count in self.counts.values())
            for name in ("done", "total", "failed")
        )
        backend = manifest.fields.get("backend", self.paths.root.parent.name)
        head = f"{manifest.modelName or self.paths.root.name} on {backend}: {self.state}"
        uncounted = [view.title(key) for key in manifest.benchmarks if key not in self.counts]
        took = sum_known(state.seconds for state in manifest.benchmarks.values())
        parts = [
            f"{done:,}/{total:,} questions ({percent(done, total)})" if total else "",
            per_time(view.all_rate) if self.running else "",
            f"ETA {duration(view.all_eta)}" if self.running and view.all_eta else "",
            f"{per_time(done / took)}, in {duration(took)}" if took and done == total else "",
            f"{failed:,} failed" if failed else "",
            f"not counted yet: {', '.join(uncounted)}" if uncounted else "",
        ]
        now = [
            f"{view.title(key)} {count.done:,}/{count.total:,}"
            for key, count in self.counts.items()
            if 0 < count.done < count.total
        ]
        lines = [head, ", ".join(filter(None, parts)), ", ".join(now)]
        if self.running and self.known:
            if view.phase != "answer":
                lines.append(progress_line(view))
            elif view.workers:
                lines.append(f"workers: {view.worker_summary}")
        lines += map(self._node_line, self.nodes.values())
        lines.append(f"last error: {self.error}" if self.error else "")
        return [line for line in lines if line]

    def _node_line(self, node: NodeChanged) -> str:
        if not node.node:
            return node.text if self.running else ""
        state = node.state
        if self.running and not state:
            state = "at work" if node.place else "preparing"
        about = ", ".join(filter(None, [f"node {node.node} ({node.host})", node.place]))
        return ": ".join(filter(None, [about, state]))


class _Clock:
    """The time of the event that is being read, then that of the status."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def _counts(
    paths: RunPaths, states: Mapping[str, BenchmarkState], view: RunView | None, running: bool
) -> dict[str, Count]:
    """Count answers: by the manifest what is complete, by events, and by the journal the rest.

    The last answers of a run that does not go on have no event, so its journal is read.
    """
    found: dict[str, Count] = {}
    open_ones = []
    for key, state in states.items():
        rows, row = state.evidence.get("rows"), view.rows.get(key) if view else None
        if state.state in DONE and isinstance(rows, int):
            failed = state.evidence.get("failed")
            found[key] = Count(rows, rows, failed if isinstance(failed, int) else 0, 0)
            continue
        if row and row.total is not None:
            found[key] = Count(row.done, row.total, row.failed, row.now)
        if not running or key not in found:
            open_ones.append(key)
    if open_ones and paths.work.exists():
        found |= _journalled(paths, open_ones)
    return {key: found[key] for key in states if key in found}


def _journalled(paths: RunPaths, keys: list[str]) -> dict[str, Count]:
    work = Work.load(paths.root)
    listed = [key for key in keys if key in work.epochs and paths.item_list(key).exists()]
    if not listed:
        return {}
    journals = JournalState.of(paths.root, work)
    journals.poll()
    return {key: journals.count(ItemList.load(paths.root, key)) for key in listed}
