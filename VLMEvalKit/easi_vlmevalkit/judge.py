"""Client side of a judge: VLMEvalKit's own judging, with the judge's replies in a cache.

VLMEvalKit builds its judge anew for every dataset. When the judge cannot be asked, it falls back
to rules without saying so in its files. When the judge fails half-way, it puts random letters or
"invalid" in its place. It caches replies by the question's index alone.

Here the judge is asked through ``Judge``. Replies are cached by the whole request, so none is paid
for twice, and a judge that cannot be asked ends the scoring. A refusal is cached only when it is
known to be due to the question: the judge answered other questions around it.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests

from easi_eval.backends.vlmevalkit.judge_endpoint import Endpoint, is_completion, seconds
from easi_eval.core.errors import EasiError
from easi_eval.core.run_folder import sanitise

from .judge_replies import NO_ANSWER, ReplyCache

# HTTP statuses that may be due to the question: too long, or refused by a filter.
OF_THE_QUESTION = (400, 413, 422)
HOPELESS = (401, 403, 404)  # HTTP statuses that no retry changes
REFUSALS_IN_A_ROW = 20  # after so many without an answer the judge itself has failed
# Shows whether a judge answers at all while it has answered none of the benchmark's questions. It
# is sent with the same parameters as these: a judge that refuses the parameters refuses it too.
CONTROL = (
    'Which letter did the answer "The correct option is B." choose: A or B? '
    "Reply with the letter alone."
)
TIMEOUTS = 2  # timeouts of one question after which the judge has failed
BUSY_TRIES = 8  # requests repeated after HTTP 429, beyond the ordinary tries
LONGEST_WAIT = 60.0  # seconds between two requests
PARALLEL_VARIABLE = "EASI_JUDGE_NPROC"
# Endings of the files in which VLMEvalKit's scoring caches results by a question's index alone.
CACHES = ("_result.pkl", "_judge.pkl")


class JudgeFailed(EasiError):
    """The judge cannot be asked any more. Its earlier replies are kept."""


class _Refused(Exception):
    """The judge processed a request but did not answer the question."""

    def __init__(self, code: int) -> None:
        self.what = f"HTTP {code}" if code else "empty answers"


class Judge:
    """Replaces VLMEvalKit's judge object.

    Args:
        client: VLMEvalKit's judge; only its ``generate_inner`` is used.
        name: Name of the judge, part of the cache key.
        replies: The cache.
        tries: Requests for one question before the judge has failed.
        wait: Sleeps for the given number of seconds.
        dead: How the judge failed in another benchmark; None if it did not.
    """

    fail_msg = NO_ANSWER

    def __init__(
        self,
        client: Any,
        name: str,
        replies: ReplyCache,
        tries: int = 6,
        wait: Callable[[float], object] = time.sleep,
        dead: JudgeFailed | None = None,
    ) -> None:
        self._client, self._name, self._replies, self._tries, self._wait = (
            client,
            name,
            replies,
            max(tries, 1),
            wait,
        )
        self._lock = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}
        self._own = threading.local()
        self._answered = False  # whether it answered any question in this process
        self._control = CONTROL  # a question that it is known or expected to answer
        self._refused: dict[str, str] = {}  # by key: prompts refused for a reason still unknown
        self._streak: list[str] = []  # keys refused since its last answer
        self.dead = dead

    def working(self) -> bool:
        """Return True, so that VLMEvalKit does not fall back to rules.

        The judge is probed before the run starts. One that fails later ends the scoring.
        """
        return True

    def new_question(self) -> None:
        """Tell that this thread's next prompts belong to another question."""
        self._own.turns = {}

    def generate(self, prompt: str, **_: object) -> str:
        """Return the judge's reply, from the cache if this was asked before.

        VLMEvalKit sends the same prompt again when it cannot parse the reply. Each repetition has
        its own entry in the cache.

        Returns:
            The reply, or NO_ANSWER if the judge refused the question.

        Raises:
            JudgeFailed: The judge cannot be asked any more.
        """
        turns = self._own.__dict__.setdefault("turns", {})
        turn = turns[prompt] = turns.get(prompt, -1) + 1
        if turn and self._known(ReplyCache.key(self._name, prompt, turn - 1)) == NO_ANSWER:
            turns[prompt] = turn - 1
            return NO_ANSWER  # a refused prompt is not sent again
        key = ReplyCache.key(self._name, prompt, turn)
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:  # two threads may ask the same at the same time
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
        return NO_ANSWER if key in self._refused else self._replies.get(key)

    def _keep(self, key: str, prompt: str, said: str) -> None:
        """Cache a reply, and a single refusal between it and an earlier reply."""
        with self._lock:
            alone = self._streak.pop() if self._answered and len(self._streak) == 1 else None
            self._streak.clear()
            self._answered, self._control = True, prompt
            if alone is not None:
                del self._refused[alone]
        self._replies.put(key, self._name, said)
        if alone is not None:
            self._replies.put(alone, self._name, NO_ANSWER)

    def _refuse(self, key: str, prompt: str, refusal: _Refused) -> None:
        """Note a refusal whose reason is unknown.

        Raises:
            JudgeFailed: It is one of REFUSALS_IN_A_ROW refusals without a reply between them.
        """
        with self._lock:
            self._refused[key] = prompt
            self._streak.append(key)
            if len(self._streak) < REFUSALS_IN_A_ROW:
                return
        raise self._die(f"{refusal.what} for {REFUSALS_IN_A_ROW} questions in a row")

    def settle(self) -> bool:
        """Ask again what the judge refused for an unknown reason.

        These are refusals in a row, and those before the first or after the last reply. If the
        judge refuses a question once more but answers another one, the refusal is due to the
        question and is cached.

        Returns:
            Whether any question was answered now. What was scored without that answer must be
            scored again.

        Raises:
            JudgeFailed: The judge answers nothing.
        """
        again = {}
        for key, prompt in self._refused.items():
            try:
                self._replies.put(key, self._name, self._ask(prompt))
            except _Refused:
                again[key] = prompt
        if again:
            try:
                self._ask(self._control)
            except _Refused as refusal:
                raise self._die(
                    f"{refusal.what} to {len(again)} questions, and to a control question"
                ) from refusal
            for key in again:
                self._replies.put(key, self._name, NO_ANSWER)
        answered = len(self._refused) > len(again)
        self._refused, self._streak = {}, []
        return answered

    def _ask(self, prompt: str) -> str:
        """Send a prompt, with retries, and return the reply.

        Raises:
            _Refused: The judge did not answer the question.
            JudgeFailed: The judge cannot be asked.
        """
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
        """Record and return the failure, so that all threads stop asking.

        VLMEvalKit's thread pool would otherwise ask every remaining question.
        """
        self.dead = self.dead or JudgeFailed(
            f"{self._name}: {trouble}", hint="the same command asks what is left"
        )
        return self.dead


def _retry_after(reply: Any) -> float:
    try:
        return max(0.0, float(reply.headers.get("Retry-After", "")))
    except (ValueError, AttributeError):  # a date instead of seconds, or no such header
        return 0.0


class Letters:
    """Replaces VLMEvalKit's ``random``, which draws a letter for an answer that cannot be parsed.

    The letter depends on the question and its answer alone, not on the order of the questions.
    """

    def __init__(self, current: threading.local) -> None:
        self._current = current

    def choice(self, options: Sequence[str]) -> str:
        """Draw one of ``options``, seeded with this thread's current question and answer."""
        return random.Random(getattr(self._current, "question", "")).choice(options)


def options(args: argparse.Namespace) -> dict[str, object]:
    """Return the keyword arguments of a dataset's evaluation that depend on the judge.

    The judge's name becomes part of file names, so it is made safe for them.

    Raises:
        EasiError: EASI_JUDGE_NPROC is no positive integer, or EASI_JUDGE_TIMEOUT no number.
    """
    changed: dict[str, object] = {"model": sanitise(args.judge)}
    if (timeout := seconds()) is not None:
        changed["timeout"] = timeout
    if text := os.environ.get(PARALLEL_VARIABLE, "").strip():
        if not text.isdigit() or int(text) < 1:
            raise EasiError(
                f"{PARALLEL_VARIABLE} is {text!r}",
                hint="write the number of concurrent requests to the judge, for example 16",
            )
        changed["nproc"] = int(text)
    return changed


def evaluate_settled(judges: Sequence[Judge], prediction: Path, evaluate: Callable[[], Any]) -> Any:
    """Call ``evaluate`` until no refusal of the judge is left whose reason is unknown.

    Each call gets earlier replies from the cache.

    Raises:
        JudgeFailed: The judge cannot be asked any more.
    """
    result = evaluate()
    while any([judge.settle() for judge in judges]):  # noqa: C419 -- settle all of them
        drop_caches(prediction)
        result = evaluate()
    return result


def drop_caches(prediction: Path) -> None:
    """Remove the files in which VLMEvalKit's scoring caches results by a question's index alone."""
    for path in prediction.parent.iterdir():
        if path.name.startswith(f"{prediction.stem}_") and path.name.endswith(CACHES):
            print(f"{path} is removed: it was made from other answers", flush=True)
            path.unlink()


def build(
    build: Callable[..., Any],
    name: str,
    where: Endpoint,
    replies: ReplyCache,
    judges: list[Judge],
    **kwargs: Any,
) -> Judge:
    """Build VLMEvalKit's judge with our address and key.

    VLMEvalKit would use the address unchanged, and some names make it look for other keys.
    """
    kwargs.update(model=name, key=where.key, api_base=where.url)
    client = build(**kwargs)
    judges.append(
        Judge(
            client,
            client.model,
            replies,
            int(kwargs.get("retry", 6)),
            dead=next((one.dead for one in judges if one.dead), None),
        )
    )
    return judges[-1]


def each_question(
    extract: Callable[..., Any], judges: Sequence[Judge], current: threading.local
) -> Callable[..., Any]:
    """Tell judges and ``Letters`` at each call of ``extract`` which question it reads."""

    @functools.wraps(extract)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for judge in judges:
            judge.new_question()
        row = kwargs.get("item", kwargs.get("row", args[1] if len(args) > 1 else None))
        current.question = f"{row.get('index')} {row.get('prediction')}" if row is not None else ""
        return extract(*args, **kwargs)

    return wrapped
