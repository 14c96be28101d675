"""The merged state of a run's journals: which questions have an outcome, which workers died over what, how far each benchmark is."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .journal import Answer, Aside, Header, Hung, Leased, Line, Loaded, Phase, Returned, Tail
from .work import JOURNAL_FOLDER, ItemList, Key, Work

SOLO_DEATHS = 2  # a question in hand in so many deaths is asked last and alone


@dataclass(frozen=True)
class Count:
    """How far one benchmark is. ``done`` includes the ``failed`` ones; ``now`` are the answers of this launch.

    ``spent`` and ``cost`` are seconds and expected times of what was answered, ``spent_now`` those seconds in this
    launch; ``cost_left`` is expected of what has no outcome.
    """

    done: int
    total: int
    failed: int
    now: int
    spent: float = 0.0
    spent_now: float = 0.0
    cost: float = 0.0
    cost_left: float = 0.0


class Begun:
    """What the worker of one file has in hand: steps of its leases, the one it is at first."""

    def __init__(self) -> None:
        self._steps: deque[list[Key]] = deque()
        self.header: Header | None = None
        self.phase = ""

    @property
    def at(self) -> Sequence[Key]:
        return self._steps[0] if self._steps else ()

    def lease(self, record: Leased) -> None:
        if record.now:
            self._steps.extendleft(reversed(record.steps()))
        else:
            self._steps.extend(record.steps())

    def end(self, key: Key) -> None:
        """It was answered or returned; nearly always it is of the first step."""
        for step in self._steps:
            if key in step:
                step.remove(key)
                if not step:
                    self._steps.remove(step)
                return


class Book:
    """The merged state of all journals of a run, brought up to date by ``poll``.

    ``launch`` None: failures count whenever they happened; otherwise only those of that launch. What lacked memory
    before ``stage`` of the launch, which may be raised, is to be asked again. ``skip`` is the name of the caller's own
    file, whose unfinished questions tell of no death.
    """

    def __init__(
        self,
        folder: Path,
        epochs: Mapping[str, int],
        launch: int | None = None,
        skip: str = "",
        stage: int = 0,
    ) -> None:
        self.stage = stage
        self._tail = Tail(folder)
        self._epochs, self._launch, self._skip = dict(epochs), launch, skip
        self._best: dict[Key, tuple[tuple[object, ...], Answer]] = {}
        self._begun: dict[str, Begun] = {}  # by file of this launch
        self._hung: Counter[Key] = Counter()
        self._aside: dict[Key, Aside] = {}  # the one of the latest stage
        self._deaths: Counter[Key] | None = None
        self.phases: dict[str, Phase] = {}  # worker -> the latest
        self._made_with: dict[str, Mapping[str, str]] = {}  # by file

    @classmethod
    def of(cls, run_root: Path, work: Work, skip: str = "") -> Book:
        return cls(run_root / JOURNAL_FOLDER, work.epochs, work.launch, skip, work.stage)

    def poll(self) -> list[Answer | Phase | Returned]:
        """Take in what is new and return what is of this launch (of all, if none was given).
        Raises EasiError for a damaged line that is not the last of its file.
        """
        news: list[Answer | Phase | Returned] = []
        for line in self._tail.poll():
            self._take(line)
            if isinstance(line.record, Answer | Phase | Returned) and (
                self._launch is None or line.file in self._begun
            ):
                news.append(line.record)
        return news

    def __len__(self) -> int:
        """How many questions have an outcome."""
        return len(self._best)

    def __contains__(self, key: Key) -> bool:
        return key in self._best

    def get(self, key: Key) -> Answer | None:
        found = self._best.get(key)
        return found[1] if found else None

    def made_with(self, keys: Iterable[Key]) -> list[Mapping[str, str] | None]:
        """What the outcomes of these questions come from, each kind once; None: of workers that did not say."""
        files = dict.fromkeys(self._best[key][0][3] for key in keys if key in self._best)
        kinds: list[Mapping[str, str] | None] = []
        for made in (self._made_with.get(str(file)) for file in files):
            if made not in kinds:
                kinds.append(made)
        return kinds

    @property
    def loaded(self) -> list[Mapping[str, str]]:
        """What the workers of this launch said that they answer with, each kind once."""
        kinds: list[Mapping[str, str]] = []
        for file, made in self._made_with.items():
            if file in self._begun and made not in kinds:
                kinds.append(made)
        return kinds

    @property
    def at_work(self) -> list[Header]:
        """The attempts of this launch that have not said that they are done."""
        return [
            begun.header for begun in self._begun.values() if begun.header and begun.phase != "done"
        ]

    def settled(self, key: Key) -> bool:
        """Whether the workers of this stage need not ask it: it has an outcome, or waits for a stage with more memory."""
        return key in self._best or (key in self._aside and self._aside[key].stage >= self.stage)

    @property
    def aside(self) -> dict[Key, str]:
        """Questions that no worker of this stage had the memory for, and what was raised."""
        return {
            key: aside.reason
            for key, aside in self._aside.items()
            if key not in self._best and aside.stage >= self.stage
        }

    @property
    def answers(self) -> dict[Key, Answer]:
        return {key: answer for key, (_, answer) in self._best.items()}

    def deaths(self, key: Key) -> int:
        """How many other attempts of this launch are at this question, or died over it."""
        if self._deaths is None:
            self._deaths = Counter(
                at for file, begun in self._begun.items() if file != self._skip for at in begun.at
            )
        return self._deaths[key]

    def attempt(self, worker: str, began: float) -> Begun | None:
        """What the attempt of a worker that began at ``began`` wrote, if it got so far as to write anything."""
        own = [
            begun
            for begun in self._begun.values()
            if begun.header and begun.header.worker == worker and begun.header.at >= began
        ]
        return min(own, key=lambda begun: begun.header.at if begun.header else 0.0) if own else None

    def suspect(self, key: Key) -> bool:
        """Whether it is to be asked alone: so many died with it in hand, or one was silent, that it may be the cause."""
        return self._hung[key] > 0 or self.deaths(key) >= SOLO_DEATHS

    def hangs(self, key: Key) -> int:
        """How many attempts of this launch were killed because they were silent over this question."""
        return self._hung[key]

    def count(self, items: ItemList) -> Count:
        outcomes = [
            (cost, self.get((items.key, item)))
            for item, cost in zip(items.ids, items.expected(), strict=True)
        ]
        found = [answer for _, answer in outcomes if answer]
        told = [(cost, answer) for cost, answer in outcomes if answer and answer.failure is None]
        return Count(
            done=len(found),
            total=len(items.ids),
            failed=len(found) - len(told),
            now=sum(answer.launch == self._launch for answer in found),
            spent=sum(answer.seconds for _, answer in told),
            spent_now=sum(answer.seconds for _, answer in told if answer.launch == self._launch),
            cost=sum(cost for cost, _ in told),
            cost_left=sum(cost for cost, answer in outcomes if not answer),
        )

    def _take(self, line: Line) -> None:
        record = line.record
        self._deaths = None
        begun = self._begun.get(line.file)
        if isinstance(record, Header):
            if record.launch == self._launch:
                self._begun[line.file] = begun = Begun()
                begun.header = record
        elif isinstance(record, Phase):
            known = self.phases.get(record.worker)
            if known is None or known.at <= record.at:
                self.phases[record.worker] = record
            if begun is not None:
                begun.phase = record.phase
        elif isinstance(record, Loaded):
            self._made_with[line.file] = record.made_with
        elif isinstance(record, Answer):
            if begun is not None:
                begun.end(record.key)
            self._keep(record, line)
        elif begun is not None:
            self._follow(begun, record)

    def _follow(self, begun: Begun, record: Leased | Returned | Aside | Hung) -> None:
        """What one of this launch's workers did beside answering."""
        match record:
            case Leased():
                begun.lease(record)
            case Hung(keys):
                self._hung.update(keys)
            case Returned(keys):
                for key in keys:
                    begun.end(key)
            case Aside(keys):
                for key in keys:
                    begun.end(key)
                    if key not in self._aside or self._aside[key].stage <= record.stage:
                        self._aside[key] = record

    def _keep(self, answer: Answer, line: Line) -> None:
        failed = answer.failure is not None
        if answer.epoch != self._epochs.get(answer.benchmark):
            return
        if failed and self._launch is not None and answer.launch != self._launch:
            return
        # A success beats a failure. Then the earliest lease, so that a worker that lost its lease and
        # answered nevertheless changes nothing; of failures the latest launch has the telling reason.
        rank = (
            failed,
            -answer.launch if failed else answer.launch,
            answer.fence,
            line.file,
            line.number,
        )
        known = self._best.get(answer.key)
        if known is None or rank < known[0]:
            self._best[answer.key] = rank, answer


def pending(run_root: Path, work: Work) -> bool:
    """Whether any question of ``work`` has no outcome. The saved lists of questions decide; a missing one is pending."""
    book = Book.of(run_root, work)
    book.poll()
    for assignment in work.benchmarks:
        if not ItemList.path(run_root, assignment.key).exists():
            return True
        items = ItemList.load(run_root, assignment.key)
        if not items.fits(assignment) or not all((items.key, item) in book for item in items.ids):
            return True
    return False
