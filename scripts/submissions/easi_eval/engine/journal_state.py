"""The merged state of a run's journals.

It tells which questions have an outcome, over which questions workers died, and how far each
benchmark is.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.run_folder import RunPaths
from .journal import Answer, Aside, Header, Hung, Leased, Line, Loaded, Phase, Returned, Tail
from .work import ItemList, Key, Work

SOLO_DEATHS = 2  # after so many deaths over a question it is asked last and alone


@dataclass(frozen=True)
class Count:
    """How far one benchmark is.

    Attributes:
        done: Questions with an outcome, failed ones included.
        now: Outcomes of this launch.
        spent: Seconds that the answers took; failed questions are left out.
        spent_now: The part of ``spent`` that belongs to this launch.
        cost: Expected time of the questions in ``spent``, in the unit of ``Item.cost``.
        cost_left: Expected time of the questions without an outcome.
    """

    done: int
    total: int
    failed: int
    now: int
    spent: float = 0.0
    spent_now: float = 0.0
    cost: float = 0.0
    cost_left: float = 0.0


class InHand:
    """The questions that one attempt of a worker holds, in the steps in which it answers them.

    A step is the group of questions that are answered in one call.
    """

    def __init__(self) -> None:
        self._steps: deque[list[Key]] = deque()
        self.header: Header | None = None
        self.phase = ""

    @property
    def at(self) -> Sequence[Key]:
        """The questions of the current step; empty if the worker holds none."""
        return self._steps[0] if self._steps else ()

    def lease(self, record: Leased) -> None:
        """Add the questions of a lease, before the others if the worker begins with them."""
        if record.now:
            self._steps.extendleft(reversed(record.steps()))
        else:
            self._steps.extend(record.steps())

    def end(self, key: Key) -> None:
        """Remove a question that was answered or returned.

        It is nearly always in the first step, so the search is short.
        """
        for step in self._steps:
            if key in step:
                step.remove(key)
                if not step:
                    self._steps.remove(step)
                return


class JournalState:
    """The merged state of all journals of a run; ``poll`` brings it up to date.

    Args:
        folder: Folder of the journals.
        epochs: The epoch of each benchmark; answers of another epoch are ignored.
        launch: Number of the launch whose failures count; None: failures of all launches count.
        stage: Stage of the launch (``Work.stage``). Questions that lacked memory in an earlier
            stage are asked again. The attribute may be raised later.
        texts: Whether the texts of answers are kept; without, they are empty.

    Attributes:
        phases: The latest phase of each worker.
    """

    def __init__(
        self,
        folder: Path,
        epochs: Mapping[str, int],
        launch: int | None = None,
        stage: int = 0,
        texts: bool = True,
    ) -> None:
        self.stage, self._texts = stage, texts
        self._tail = Tail(folder)
        self._epochs, self._launch = dict(epochs), launch
        self._best: dict[Key, tuple[tuple[object, ...], Answer]] = {}  # rank and answer
        self._in_hand: dict[str, InHand] = {}  # by file, of this launch only
        self._hung: Counter[Key] = Counter()
        self._aside: dict[Key, Aside] = {}  # the one of the latest stage
        self._deaths: Counter[Key] | None = None
        self.phases: dict[str, Phase] = {}  # worker -> the latest
        self._made_with: dict[str, Mapping[str, str]] = {}  # by file
        self._launches: dict[str, int] = {}  # by file
        self._began: dict[int, float] = {}  # launch -> when its first worker began to answer
        # When the benchmarks that this work leaves out were answered, and in which launch.
        self._elsewhere: list[tuple[float, int, str]] = []

    @classmethod
    def of(cls, run_root: Path, work: Work) -> JournalState:
        """The state of a run at the launch, stage and epochs of ``work``."""
        return cls(RunPaths(run_root).journal, work.epochs, work.launch, work.stage)

    def poll(self) -> list[Answer | Phase | Returned]:
        """Read what was appended to the journals.

        Returns:
            The new records of this launch, or of all launches if none was given.

        Raises:
            EasiError: A line other than the last one of its file is damaged.
        """
        return [*self.news()]

    def news(self) -> Iterator[Answer | Phase | Returned]:
        """Do what ``poll`` does, and yield the records one by one."""
        for line in self._tail.poll():
            self._take(line)
            if isinstance(line.record, Answer | Phase | Returned) and (
                self._launch is None or line.file in self._in_hand
            ):
                yield line.record

    def __len__(self) -> int:
        """How many questions have an outcome."""
        return len(self._best)

    def __contains__(self, key: Key) -> bool:
        return key in self._best

    def get(self, key: Key) -> Answer | None:
        """The outcome of a question, or None."""
        found = self._best.get(key)
        return found[1] if found else None

    def made_with(self, keys: Iterable[Key]) -> list[Mapping[str, str] | None]:
        """What the outcomes of these questions were made with, each distinct value once.

        None stands for workers that did not record it.
        """
        files = dict.fromkeys(self._best[key][0][3] for key in keys if key in self._best)
        kinds: list[Mapping[str, str] | None] = []
        for made in (self._made_with.get(str(file)) for file in files):
            if made not in kinds:
                kinds.append(made)
        return kinds

    @property
    def loaded(self) -> list[Mapping[str, str]]:
        """What the workers of this launch answer with, each distinct value once."""
        kinds: list[Mapping[str, str]] = []
        for file, made in self._made_with.items():
            if file in self._in_hand and made not in kinds:
                kinds.append(made)
        return kinds

    @property
    def at_work(self) -> list[Header]:
        """The attempts of this launch that did not record that they are done."""
        return [
            in_hand.header
            for in_hand in self._in_hand.values()
            if in_hand.header and in_hand.phase != "done"
        ]

    def settled(self, key: Key) -> bool:
        """Whether the workers of this stage need not ask a question.

        It has an outcome, or it waits for a stage with more memory per worker.
        """
        return key in self._best or (key in self._aside and self._aside[key].stage >= self.stage)

    @property
    def aside(self) -> dict[Key, str]:
        """Questions that lack memory in this stage, with the error of the worker that tried."""
        return {
            key: aside.reason
            for key, aside in self._aside.items()
            if key not in self._best and aside.stage >= self.stage
        }

    @property
    def answers(self) -> dict[Key, Answer]:
        """The outcomes of all questions."""
        return {key: answer for key, (_, answer) in self._best.items()}

    def deaths(self, key: Key) -> int:
        """How many attempts of this launch are at this question or died over it."""
        if self._deaths is None:
            self._deaths = Counter(at for in_hand in self._in_hand.values() for at in in_hand.at)
        return self._deaths[key]

    def attempt(self, worker: str, began: float) -> InHand | None:
        """The questions of a worker's attempt; None if it has not written a journal.

        Args:
            worker: Name of the worker.
            began: Unix time at which the attempt was started.
        """
        own = [
            in_hand
            for in_hand in self._in_hand.values()
            if in_hand.header and in_hand.header.worker == worker and in_hand.header.at >= began
        ]
        return (
            min(own, key=lambda in_hand: in_hand.header.at if in_hand.header else 0.0)
            if own
            else None
        )

    def suspect(self, key: Key) -> bool:
        """Whether a question is to be asked last and alone, because it may kill workers.

        That is so after ``SOLO_DEATHS`` deaths over it, or one hang.
        """
        return self._hung[key] > 0 or self.deaths(key) >= SOLO_DEATHS

    def hangs(self, key: Key) -> int:
        """How many attempts of this launch were killed because they hung at this question."""
        return self._hung[key]

    def count(self, items: ItemList) -> Count:
        """How far the benchmark with these questions is."""
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

    def answering_time(self, benchmark: str) -> float | None:
        """Seconds of the clock in which a benchmark was answered; None if they are not recorded.

        Each outcome takes the time since the one before it, of any benchmark and worker of its
        launch; the first one since a worker began to answer. So the times of all benchmarks add up
        to the time in which the run was answering.
        """
        seconds = 0.0
        before: dict[int, float] = dict(self._began)
        answers = (answer for _, answer in self._best.values())
        outcomes = [(answer.at, answer.launch, answer.benchmark) for answer in answers]
        for at, launch, name in sorted(outcomes + self._elsewhere):
            if name == benchmark:
                if not at or launch not in before:
                    return None
                seconds += max(at - before[launch], 0.0)
            before[launch] = at or before.get(launch, 0.0)
        return seconds

    def _take(self, line: Line) -> None:
        """Take in one line of a journal."""
        record = line.record
        self._deaths = None
        in_hand = self._in_hand.get(line.file)
        if isinstance(record, Header):
            self._launches[line.file] = record.launch
            if record.launch == self._launch:
                self._in_hand[line.file] = in_hand = InHand()
                in_hand.header = record
        elif isinstance(record, Phase):
            known = self.phases.get(record.worker)
            if known is None or known.at <= record.at:
                self.phases[record.worker] = record
            if in_hand is not None:
                in_hand.phase = record.phase
            if record.phase == "answering":
                launch = self._launches[line.file]
                self._began[launch] = min(record.at, self._began.get(launch, record.at))
        elif isinstance(record, Loaded):
            self._made_with[line.file] = record.made_with
        elif isinstance(record, Answer):
            if in_hand is not None:
                in_hand.end(record.key)
            self._keep(record, line)
        elif in_hand is not None:
            self._follow(in_hand, record)

    def _follow(self, in_hand: InHand, record: Leased | Returned | Aside | Hung) -> None:
        """Update what a worker of this launch holds, after a record that is no answer."""
        match record:
            case Leased():
                in_hand.lease(record)
            case Hung(keys):
                self._hung.update(keys)
            case Returned(keys):
                for key in keys:
                    in_hand.end(key)
            case Aside(keys):
                for key in keys:
                    in_hand.end(key)
                    if key not in self._aside or self._aside[key].stage <= record.stage:
                        self._aside[key] = record

    def _keep(self, answer: Answer, line: Line) -> None:
        """Keep an answer if it is better than the known one."""
        failed = answer.failure is not None
        if answer.benchmark not in self._epochs:
            self._elsewhere.append((answer.at, answer.launch, answer.benchmark))
        if answer.epoch != self._epochs.get(answer.benchmark):
            return
        if failed and self._launch is not None and answer.launch != self._launch:
            return
        # A success beats a failure. Of two successes the earlier lease wins, so that an answer of a
        # worker that had lost its lease changes nothing. Of two failures the later launch wins: its
        # reason is the current one.
        rank = (
            failed,
            -answer.launch if failed else answer.launch,
            answer.fence,
            line.file,
            line.number,
        )
        known = self._best.get(answer.key)
        if known is None or rank < known[0]:
            if answer.text and not self._texts:
                object.__setattr__(answer, "text", "")  # replace() takes as long as reading
            self._best[answer.key] = rank, answer


def pending(run_root: Path, work: Work) -> bool:
    """Whether a question of ``work`` has no outcome, according to the saved lists of questions.

    A benchmark whose list is missing, or belongs to another ``--limit``, counts as pending.
    """
    state = JournalState.of(run_root, work)
    state.poll()
    for assignment in work.benchmarks:
        if not RunPaths(run_root).item_list(assignment.key).exists():
            return True
        items = ItemList.load(run_root, assignment.key)
        if not items.fits(assignment) or not all((items.key, item) in state for item in items.ids):
            return True
    return False
