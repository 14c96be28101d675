"""The worker loop with the client of servers, over servers that fail in every way but once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from easi_eval.core.errors import ServersGone
from easi_eval.engine.generation import Generation
from easi_eval.engine.journal import SERVERS_GONE, Answer, Phase
from easi_eval.engine.journal_state import JournalState
from easi_eval.engine.served.pool import VARIABLE
from easi_eval.engine.served.served_client import Sampling, ServedClient
from easi_eval.engine.work import Assignment, Item, Work
from easi_eval.engine.worker import work_loop
from openai_server import openai_server
from program import wait_until

WORK = Work((Assignment("a", "A"),))
ITEMS = {"a": [Item("a", str(number)) for number in range(40)]}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("EASI_DISPATCHER", "EASI_WORKER", "EASI_ATTEMPT"):
        monkeypatch.delenv(name, raising=False)


def loop(root: Path, *urls: str) -> None:
    client = ServedClient("org/served", ",".join(urls), num_concurrent=8)

    def ask(items: Sequence[Item]) -> list[Generation]:
        (item,) = items
        content = [{"type": "text", "text": f"question {item.id}"}]
        return [client.ask([{"role": "user", "content": content}], Sampling(8))]

    work_loop(root, WORK, ITEMS, ask, at_once=lambda: client.at_once, waiting=client.waiting)


def journal(root: Path) -> tuple[JournalState, list[Answer], list[str]]:
    state = JournalState.of(root, WORK)
    news = state.poll()
    answers = [each for each in news if isinstance(each, Answer)]
    phases = sorted((each for each in news if isinstance(each, Phase)), key=lambda each: each.at)
    return state, answers, [each.phase for each in phases]


def test_when_all_servers_are_gone_nothing_is_failed_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0.5")
    with openai_server(lives=9) as first, openai_server(lives=5) as second:
        with pytest.raises(ServersGone, match="no server has answered"):
            loop(tmp_path, first.base, second.base)
        state, answers, phases = journal(tmp_path)
        assert phases[-1] == SERVERS_GONE
        assert all(answer.failure is None for answer in answers)
        assert not any(state.deaths(item.key) for item in ITEMS["a"])
        said = {**first.answers, **second.answers}
        assert len(answers) == len(said) == len(first.answers) + len(second.answers)
    with openai_server() as other:
        loop(tmp_path, other.base)
        _, answers, phases = journal(tmp_path)
    assert phases[-1] == "done" and len(answers) == 40
    assert said.keys().isdisjoint(other.asked)
    said |= other.answers
    assert {answer.item: answer.text for answer in answers} == {
        item.id: said[f"question {item.id}"] for item in ITEMS["a"]
    }


def test_a_server_that_comes_back_is_waited_for(tmp_path: Path) -> None:
    with openai_server(lives=9) as server, ThreadPoolExecutor(1) as pool:
        waits = f"waiting for {server.base}: "
        over = pool.submit(loop, tmp_path, server.base)
        wait_until(lambda: any(each.startswith(waits) for each in journal(tmp_path)[2]), 60)
        server.died_at = float("inf")
        over.result(120)
    _, answers, phases = journal(tmp_path)
    assert len(answers) == 40 and all(answer.failure is None for answer in answers)
    assert phases[-2:] == ["answering", "done"]


@pytest.mark.parametrize("reason", ["null", "content_filter"])
def test_half_of_the_answers_none_fails_these_alone_after_a_second_try(
    reason: str, tmp_path: Path
) -> None:
    def finish(text: str, before: int) -> str:
        return reason if int(text.split()[1]) % 2 else "stop"

    with openai_server(finish=finish) as server:
        loop(tmp_path, server.base)
    _, answers, _ = journal(tmp_path)
    failed = {int(answer.item): answer.failure for answer in answers if answer.failure}
    assert sorted(failed) == list(range(1, 40, 2))
    assert all(str(why).startswith("NoAnswer: the server gave no") for why in failed.values())
    assert {server.asked[f"question {number}"] for number in failed} == {2}
    assert len(server.answers) == 20


def test_a_busy_server_fails_nothing(tmp_path: Path) -> None:
    busy = iter([429, 503])
    with openai_server(status=lambda text, before: next(busy, 200)) as server:
        loop(tmp_path, server.base)
    _, answers, _ = journal(tmp_path)
    assert sum(answer.failure is None for answer in answers) == 40
    assert sum(server.asked.values()) == 42
