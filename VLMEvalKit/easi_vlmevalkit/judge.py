"""The client side of a judge: VLMEvalKit's own judging, its model asked through a memory that nothing is paid for twice.

The package builds its judge anew for every dataset, falls back to rules without a word in its files when the judge cannot be
asked, puts random letters or "invalid" where it dies half-way, and keeps what it said by the question's index alone. Here the
judge is asked through ``Judge``: answers are kept by what was asked, and one that cannot be asked ends the scoring. A refusal is kept
only when it is known to be the question's: the judge answered others around it.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests

from easi_eval.errors import EasiError
from easi_eval.judging import ANSWERS_FILE, BY_RULES
from easi_eval.judging.endpoint import Endpoint, endpoint, is_completion, seconds
from easi_eval.state import sanitise

SCHEMA = 1
# What the package takes for "no answer" (api/gpt.py, fail_msg): to the question, not of the judge.
NO_ANSWER = "Failed to obtain answer via API. "
OF_THE_QUESTION = (400, 413, 422)  # too long, refused by a filter: the judge itself may be well
HOPELESS = (401, 403, 404)
REFUSALS_IN_A_ROW = 20  # ... unless it has nothing else to say
# Asked to see whether a judge answers at all, while it has answered none of the benchmark's questions. It is sent as they are, with
# the same parameters: a judge that refuses those refuses this too.
CONTROL = 'Which letter did the answer "The correct option is B." choose: A or B? Reply with the letter alone.'
TIMEOUTS = 2
BUSY_TRIES = 8
LONGEST_WAIT = 60.0
PARALLEL_VARIABLE = "EASI_JUDGE_NPROC"
# What scoring remembers by a question's index alone.
CACHES = ("_result.pkl", "_judge.pkl")


class JudgeFailed(EasiError):
    """The judge cannot be asked any more. What it said until then is kept."""


class _Refused(Exception):
    """The judge answered a request without an answer to the question."""

    def __init__(self, code: int) -> None:
        self.what = f"HTTP {code}" if code else "empty answers"


class Memory:
    """What judges said, by the digest of what they were asked: one line each in an append-only file.

    One process writes it at a time. A line that a kill cut off is taken out when the file is opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data.rpartition(b"\n")[0] + b"\n" if b"\n" in data else b""
        for line in whole.splitlines():
            with contextlib.suppress(
                ValueError, KeyError, TypeError
            ):  # a damaged line costs one question, no more
                record = json.loads(line)
                # Earlier versions kept refusals that may have been the judge's own trouble: those are asked again.
                if record["schema"] == SCHEMA and (
                    record["said"] != NO_ANSWER or record.get("confirmed") is True
                ):
                    self._known[record["key"]] = str(record["said"])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if len(whole) < len(data):
            self._file.truncate(len(whole))

    @staticmethod
    def key(judge: str, prompt: str, turn: int) -> str:
        """The prompt holds question, options and answer; ``turn``: the how-manieth time this question asks it."""
        return hashlib.sha256(json.dumps([judge, prompt, turn]).encode()).hexdigest()

    def get(self, key: str) -> str | None:
        return self._known.get(key)

    def put(self, key: str, judge: str, said: str) -> None:
        """``said`` NO_ANSWER: a refusal that is known to be the question's."""
        record = {
            "schema": SCHEMA,
            "key": key,
            "judge": judge,
            "said": said,
            **({"confirmed": True} if said == NO_ANSWER else {}),
        }
        line = json.dumps(record).encode() + b"\n"
        with self._lock:
            self._known[key] = said
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())


class Judge:
    """Stands where the package's judge stood. ``client``: that judge; only its ``generate_inner`` is used.

    ``tries``: requests for one question that the judge does not answer; ``wait``: sleeps so many seconds; ``dead``: how it failed
    when it was asked about another benchmark.
    """

    fail_msg = NO_ANSWER

    def __init__(
        self,
        client: Any,
        name: str,
        memory: Memory,
        tries: int = 6,
        wait: Callable[[float], object] = time.sleep,
        dead: JudgeFailed | None = None,
    ) -> None:
        self._client, self._name, self._memory, self._tries, self._wait = (
            client,
            name,
            memory,
            max(tries, 1),
            wait,
        )
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._own = threading.local()
        self._answered = False  # any question, in this process
        self._control = CONTROL  # a question that it answers
        self._refused: dict[str, str] = {}  # prompts by key that it refused, and nobody knows why
        self._streak: list[str] = []  # those of them since its last answer
        self.dead = dead

    def working(self) -> bool:
        """The program asked before it started; a judge that dies ends the scoring instead of turning it into one by rules."""
        return True

    def new_question(self) -> None:
        """From here on this thread asks for another question."""
        self._own.turns = {}

    def generate(self, prompt: str, **_: object) -> str:
        """What the judge says, from memory if it was asked before. The package asks again, with the same words, for what it cannot read."""
        turns = self._own.__dict__.setdefault("turns", {})
        turn = turns[prompt] = turns.get(prompt, -1) + 1
        if turn and self._known(Memory.key(self._name, prompt, turn - 1)) == NO_ANSWER:
            turns[prompt] = turn - 1
            return NO_ANSWER  # refused once, refused again
        key = Memory.key(self._name, prompt, turn)
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:  # two threads may have the same question
            said = self._known(key)
            if said is None:
                try:
                    said = self._ask(prompt)
                except _Refused as refusal:
                    self._refuse(key, prompt, refusal)
                    return NO_ANSWER
                self._keep(key, prompt, said)
            elif said != NO_ANSWER:
                self._control = prompt
            return said

    def _known(self, key: str) -> str | None:
        return NO_ANSWER if key in self._refused else self._memory.get(key)

    def _keep(self, key: str, prompt: str, said: str) -> None:
        """Keep an answer, and the refusal between it and an earlier one."""
        with self._lock:
            alone = self._streak.pop() if self._answered and len(self._streak) == 1 else None
            self._streak.clear()
            self._answered, self._control = True, prompt
            if alone is not None:
                del self._refused[alone]
        self._memory.put(key, self._name, said)
        if alone is not None:
            self._memory.put(alone, self._name, NO_ANSWER)

    def _refuse(self, key: str, prompt: str, refusal: _Refused) -> None:
        """Take the question as unanswered for now. Raises JudgeFailed where nothing else comes any more."""
        with self._lock:
            self._refused[key] = prompt
            self._streak.append(key)
            if len(self._streak) < REFUSALS_IN_A_ROW:
                return
        raise self._die(f"{refusal.what} to {REFUSALS_IN_A_ROW} questions in a row")

    def settle(self) -> bool:
        """Ask again what it refused for a reason that is not known: with others in a row, or first or last of all.

        Refused once more, while another question is answered, it is the question's, and kept. Returns whether any was answered now:
        what was scored without it is to be scored again. Raises JudgeFailed if the judge answers nothing.
        """
        again = {}
        for key, prompt in self._refused.items():
            try:
                self._memory.put(key, self._name, self._ask(prompt))
            except _Refused:
                again[key] = prompt
        if again:
            try:
                self._ask(self._control)
            except _Refused as refusal:
                raise self._die(
                    f"{refusal.what} to {len(again)} questions, and to one that is none of them"
                ) from refusal
            for key in again:
                self._memory.put(key, self._name, NO_ANSWER)
        answered = len(self._refused) > len(again)
        self._refused, self._streak = {}, []
        return answered

    def _ask(self, prompt: str) -> str:
        """What the judge says now. Raises _Refused, or JudgeFailed if it cannot be asked."""
        message = [{"type": "text", "value": prompt}]
        waits = timeouts = busy = 0
        trouble = ""
        while waits < self._tries:
            if self.dead:
                raise self.dead
            pause = min(LONGEST_WAIT, 0.5 * 2**waits)
            try:
                code, said, reply = self._client.generate_inner(message)
            except requests.Timeout:
                timeouts += 1
                trouble = "no answer in time"
                if timeouts >= TIMEOUTS:
                    break
            except requests.RequestException as error:
                trouble = f"{type(error).__name__}, it cannot be reached"
            else:
                if code == 0 and said and self.fail_msg.strip() not in said:
                    return said
                if code in OF_THE_QUESTION or (code == 0 and is_completion(reply)):
                    raise _Refused(code)
                trouble = f"HTTP {code}" if code else "an answer that is no chat completion"
                if code in HOPELESS or "insufficient_quota" in getattr(reply, "text", ""):
                    break
                if code == 429 and busy < BUSY_TRIES:
                    busy += 1
                    pause = min(LONGEST_WAIT, _retry_after(reply) or 2.0**busy)
                    self._wait(pause)
                    continue
            waits += 1
            if waits < self._tries:
                self._wait(pause)
        raise self._die(trouble)

    def _die(self, trouble: str) -> JudgeFailed:
        """All threads stop asking: the pool that they are in would otherwise ask every question that is left."""
        self.dead = self.dead or JudgeFailed(
            f"{self._name}: {trouble}", hint="the same command asks what is left"
        )
        return self.dead


def _retry_after(reply: Any) -> float:
    try:
        return max(0.0, float(reply.headers.get("Retry-After", "")))
    except (ValueError, AttributeError):  # a date, or nothing
        return 0.0


class Letters:
    """Stands where the package's ``random`` stood: the letter for an answer nobody can read depends on the question alone."""

    def __init__(self, current: threading.local) -> None:
        self._current = current

    def choice(self, options: Sequence[str]) -> str:
        return random.Random(getattr(self._current, "question", "")).choice(options)


def options(args: argparse.Namespace) -> dict[str, object]:
    """What a judge changes in the keyword arguments of a dataset's evaluation: the name goes into file names."""
    changed: dict[str, object] = {"model": sanitise(args.judge)}
    if (timeout := seconds()) is not None:
        changed["timeout"] = timeout
    if text := os.environ.get(PARALLEL_VARIABLE, "").strip():
        if not text.isdigit() or int(text) < 1:
            raise EasiError(
                f"{PARALLEL_VARIABLE} is {text!r}",
                hint="write how many questions the judge gets at a time, for example 16",
            )
        changed["nproc"] = int(text)
    return changed


def attach(run_root: Path, judge: str) -> list[Judge]:
    """Let VLMEvalKit's scorers ask their judge through ``Judge``, in this process. Nothing to do for rules.

    Returns the judges that will have been asked; it grows. Raises EasiError if there is no key.
    """
    if judge in BY_RULES:
        return []
    from vlmeval.dataset import image_mcq
    from vlmeval.dataset.utils import multiple_choice
    from vlmeval.dataset.utils.spatial_bench import cal_scores, llm_extract

    where, memory = endpoint(), Memory(run_root / ANSWERS_FILE)
    judges: list[Judge] = []
    build = functools.partial(_build, image_mcq.build_judge, judge, where, memory, judges)
    image_mcq.build_judge = cal_scores.build_judge = build
    current = threading.local()
    multiple_choice.rd = Letters(current)
    llm_extract.extract_ans_by_llm = _each_question(llm_extract.extract_ans_by_llm, judges, current)
    multiple_choice.extract_answer_from_item = _each_question(
        multiple_choice.extract_answer_from_item, judges, current
    )
    return judges


def evaluate_settled(judges: Sequence[Judge], prediction: Path, evaluate: Callable[[], Any]) -> Any:
    """``evaluate`` the prediction file until no question waits for the reason why a judge refused it.

    What was answered comes from memory each time. Raises JudgeFailed.
    """
    result = evaluate()
    while any([judge.settle() for judge in judges]):  # noqa: C419 -- all, not up to the first
        drop_caches(prediction)
        result = evaluate()
    return result


def drop_caches(prediction: Path) -> None:
    """Remove what VLMEvalKit's scoring remembers by a question's index alone."""
    for path in prediction.parent.iterdir():
        if path.name.startswith(f"{prediction.stem}_") and path.name.endswith(CACHES):
            print(f"{path} is removed: it was made from other answers", flush=True)
            path.unlink()


def _build(
    build: Callable[..., Any],
    name: str,
    where: Endpoint,
    memory: Memory,
    judges: list[Judge],
    **kwargs: Any,
) -> Judge:
    """The package's judge, told where to ask: it would take the address as it is, and some names make it look for other keys."""
    kwargs.update(model=name, key=where.key, api_base=where.url)
    client = build(**kwargs)
    judges.append(
        Judge(
            client,
            client.model,
            memory,
            int(kwargs.get("retry", 6)),
            dead=next((one.dead for one in judges if one.dead), None),
        )
    )
    return judges[-1]


def _each_question(
    extract: Callable[..., Any], judges: Sequence[Judge], current: threading.local
) -> Callable[..., Any]:
    @functools.wraps(extract)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for judge in judges:
            judge.new_question()
        row = kwargs.get("item", kwargs.get("row", args[1] if len(args) > 1 else None))
        current.question = f"{row.get('index')} {row.get('prediction')}" if row is not None else ""
        return extract(*args, **kwargs)

    return wrapped
