"""The client that the package's judging asks.

It remembers answers by content, waits for a busy judge, and ends with a dead one.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from easi_vlmevalkit.judge import CONTROL, Judge, JudgeFailed, Letters, evaluate_settled
from easi_vlmevalkit.judge_replies import NO_ANSWER, ReplyCache
from judge_server import KEY, JudgeServer, judge_server, verdict
from program import a_closed_port


class Client:
    """``generate_inner`` as the package's API models have it.

    It returns a code that is 0 for 2xx, the text or its failure, and the reply.
    """

    def __init__(self, url: str, key: str = KEY, timeout: float = 5) -> None:
        self.url, self.key, self.timeout = url, key, timeout

    def generate_inner(self, message: list[dict[str, str]]) -> tuple[int, str, Any]:
        reply = requests.post(
            self.url,
            headers={"Authorization": f"Bearer {self.key}"},
            timeout=self.timeout,
            json={"model": "m", "messages": [{"role": "user", "content": message[0]["value"]}]},
        )
        try:
            said = reply.json()["choices"][0]["message"]["content"].strip()
        except (ValueError, KeyError, AttributeError):
            said = NO_ANSWER
        return (0 if reply.ok else reply.status_code), said, reply


class Waits(list[float]):
    """Sleeps that are only counted."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def judge(
    server: JudgeServer, folder: Path, waits: Waits | None = None, name: str = "m", **client: Any
) -> Judge:
    return Judge(
        Client(server.url, **client),
        name,
        ReplyCache(folder / "answers.jsonl"),
        wait=Waits() if waits is None else waits,
    )


# ---- memory --------------------------------------------------------------------------------------


def test_nothing_is_asked_twice_neither_now_nor_by_the_next_process(tmp_path: Path) -> None:
    with judge_server() as server:
        one = judge(server, tmp_path)
        said = []
        for prompt in ("question 1", "question 2", "question 1"):
            one.new_question()
            said.append(one.generate(prompt))
        assert said == [verdict("question 1"), verdict("question 2"), verdict("question 1")]
        assert server.asked == ["question 1", "question 2"]
        other = judge(server, tmp_path)
        other.new_question()
        assert other.generate("question 1") == said[0] and len(server.asked) == 2
        other.new_question()
        assert (
            judge(server, tmp_path, name="another judge").generate("question 1")
            and len(server.asked) == 3
        )


def test_threads_with_one_question_ask_it_once(tmp_path: Path) -> None:
    with judge_server() as server, ThreadPoolExecutor(8) as pool:
        one = judge(server, tmp_path)

        def ask(_: int) -> str:
            one.new_question()
            return one.generate("the same")

        assert set(pool.map(ask, range(40))) == {verdict("the same")}
        assert len(server.asked) == 1


def test_the_package_asking_again_is_a_new_question_that_is_kept_too(tmp_path: Path) -> None:
    with judge_server(mode="chatty") as server:
        one = judge(server, tmp_path)
        one.new_question()
        assert [one.generate("q") for _ in range(3)] == ["Let me think about it."] * 3
        assert len(server.asked) == 3
        again = judge(server, tmp_path)
        again.new_question()
        assert [again.generate("q") for _ in range(3)] == ["Let me think about it."] * 3
        assert len(server.asked) == 3


def test_a_line_that_a_kill_cut_off_costs_one_question(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    memory = ReplyCache(path)
    memory.put("a", "m", "says a")
    memory.put("b", "m", "says b")
    path.write_bytes(path.read_bytes()[:-5])
    memory = ReplyCache(path)
    assert (memory.get("a"), memory.get("b")) == ("says a", None)
    memory.put("b", "m", "says b again")
    assert ReplyCache(path).get("b") == "says b again"
    assert [json.loads(line)["said"] for line in path.read_text().splitlines()] == [
        "says a",
        "says b again",
    ]


def test_a_damaged_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    ReplyCache(path).put("a", "m", "says a")
    path.write_bytes(b"\x00\xff nonsense\n[]\n" + path.read_bytes())
    assert ReplyCache(path).get("a") == "says a"


def test_whatever_was_said_comes_back_exactly(tmp_path: Path) -> None:
    text = "A\t«Ω»\n\u2028 \ud800 end"
    ReplyCache(tmp_path / "m").put("k", "m", text)
    assert ReplyCache(tmp_path / "m").get("k") == text


# ---- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["500", "503", "garbage"])
def test_a_fault_that_passes_is_survived(mode: str, tmp_path: Path) -> None:
    with judge_server(mode=mode, only_first=3) as server:
        waits = Waits()
        assert judge(server, tmp_path, waits).generate("q") == verdict("q")
        assert len(server.asked) == 4 and waits == [0.5, 1.0, 2.0]


def test_a_busy_judge_is_waited_for_as_long_as_it_says(tmp_path: Path) -> None:
    with judge_server(mode="429", only_first=7, retry_after="7") as server:
        waits = Waits()
        assert judge(server, tmp_path, waits).generate("q") == verdict("q")
        assert waits == [7.0] * 7, "more often than for other faults"


@pytest.mark.parametrize(
    "mode, what, requests_made",
    [
        ("500", "HTTP 500", 6),
        ("garbage", "an answer that is no chat completion", 6),
        ("401", "HTTP 401", 1),
        ("403", "HTTP 403", 1),
        ("404", "HTTP 404", 1),
        ("429", "HTTP 429", 8 + 6),
        ("hang", "no answer in time", 2),
    ],
)
def test_a_dead_judge_ends_the_scoring_and_is_asked_no_more(
    mode: str, what: str, requests_made: int, tmp_path: Path
) -> None:
    with judge_server(mode=mode) as server:
        one = judge(server, tmp_path, timeout=0.3)
        with pytest.raises(JudgeFailed, match=what):
            one.generate("q")
        assert len(server.asked) == requests_made
        for other in range(20):
            with pytest.raises(JudgeFailed):
                one.generate(f"question {other}")
        assert len(server.asked) == requests_made
        assert not (tmp_path / "answers.jsonl").read_bytes(), "a failure is no answer"


def test_a_judge_that_is_gone(tmp_path: Path) -> None:
    client = Client(f"http://127.0.0.1:{a_closed_port()}/v1/chat/completions")
    with pytest.raises(JudgeFailed, match="cannot be reached"):
        Judge(client, "m", ReplyCache(tmp_path / "m"), wait=Waits()).generate("q")


def test_what_was_said_before_it_died_is_not_asked_again(tmp_path: Path) -> None:
    with judge_server(dies_after=5) as server:
        one = judge(server, tmp_path)
        for number in range(5):
            one.new_question()
            one.generate(f"q{number}")
        with pytest.raises(JudgeFailed):
            one.generate("q5")
        server.dies_after, before = None, len(server.asked)
        other = judge(server, tmp_path)
        for number in range(8):
            other.new_question()
            other.generate(f"q{number}")
        assert server.asked[before:] == ["q5", "q6", "q7"]


def ask(one: Judge, *prompts: str) -> list[str]:
    """Each as a question of its own."""
    said = []
    for prompt in prompts:
        one.new_question()
        said.append(one.generate(prompt))
    return said


@pytest.mark.parametrize("mode", ["400", "413", "422", "empty"])
def test_a_question_that_the_judge_alone_refuses_is_unanswered_and_kept(
    mode: str, tmp_path: Path
) -> None:
    with judge_server(mode=mode, refused={"bad"}) as server:
        one = judge(server, tmp_path)
        ask(one, "before")
        one.new_question()
        assert [one.generate("bad") for _ in range(6)] == [NO_ANSWER] * 6, (
            "the package asks again; nobody is paid for that"
        )
        assert ask(one, "after") == [verdict("after")]
        assert not one.settle() and server.asked == ["before", "bad", "after"], (
            "it was answered around: nothing is asked again"
        )
        again = judge(server, tmp_path)
        assert ask(again, "bad") == [NO_ANSWER] and len(server.asked) == 3


def test_what_a_broken_judge_refused_is_asked_again_and_scored_anew(tmp_path: Path) -> None:
    with judge_server(mode="400", only_first=12) as server:
        one = judge(server, tmp_path)
        questions = [f"q{number}" for number in range(15)]
        assert ask(one, *questions) == [NO_ANSWER] * 12 + [
            verdict(question) for question in questions[12:]
        ]
        assert not [
            line
            for line in (tmp_path / "answers.jsonl").read_text().splitlines()
            if "Failed" in line
        ], "a fault of the judge is kept"
        assert one.settle() and not one.settle()
        assert ask(one, *questions) == [verdict(question) for question in questions]
        assert len(server.asked) == 12 + 3 + 12


@pytest.mark.parametrize("broken", [("q3", "q4"), ("q0",), ("q9",)])
def test_refusals_in_a_row_and_at_either_end_are_kept_once_they_are_refused_again(
    broken: tuple[str, ...], tmp_path: Path
) -> None:
    with judge_server(mode="400", refused=set(broken)) as server:
        one = judge(server, tmp_path)
        ask(one, *(f"q{number}" for number in range(10)))
        assert "confirmed" not in (tmp_path / "answers.jsonl").read_text()
        assert not one.settle()
        assert len(server.asked) == 10 + len(broken) + 1, "again, and one that it answers"
        assert ask(judge(server, tmp_path), *broken) == [NO_ANSWER] * len(broken) and len(
            server.asked
        ) == 11 + len(broken)


def test_refusals_that_end_a_benchmark_are_the_judges_own_if_it_answers_nothing_any_more(
    tmp_path: Path,
) -> None:
    with judge_server() as server:
        one = judge(server, tmp_path)
        ask(one, "q0", "q1")
        server.mode = "400"
        assert ask(one, "q2", "q3") == [NO_ANSWER] * 2
        with pytest.raises(JudgeFailed, match="HTTP 400 to 2 questions, and to a control question"):
            one.settle()
        server.mode, before = "answers", len(server.asked)
        assert ask(judge(server, tmp_path), "q0", "q1", "q2", "q3") == [
            verdict(f"q{number}") for number in range(4)
        ]
        assert server.asked[before:] == ["q2", "q3"]


def test_the_only_question_may_be_refused_for_good(tmp_path: Path) -> None:
    with judge_server(mode="400", refused={"bad"}) as server:
        one = judge(server, tmp_path)
        assert ask(one, "bad") == [NO_ANSWER] and not one.settle()
        assert server.asked == ["bad", "bad", CONTROL]
        assert ask(judge(server, tmp_path), "bad") == [NO_ANSWER] and len(server.asked) == 3


def test_a_judge_that_refuses_fewer_questions_than_make_a_row_is_broken_all_the_same(
    tmp_path: Path,
) -> None:
    with judge_server(mode="400") as server:
        one = judge(server, tmp_path)
        ask(one, *(f"q{number}" for number in range(12)))
        with pytest.raises(JudgeFailed, match="HTTP 400 to 12 questions"):
            one.settle()
        assert not (tmp_path / "answers.jsonl").read_bytes()


def test_a_judge_that_refuses_everything_is_dead_and_nothing_of_it_is_kept(tmp_path: Path) -> None:
    with judge_server(mode="400") as server:
        with pytest.raises(JudgeFailed, match="HTTP 400 for 20 questions in a row"):
            ask(judge(server, tmp_path), *(f"q{number}" for number in range(30)))
        server.mode = "answers"
        assert ask(judge(server, tmp_path), *(f"q{number}" for number in range(30))) == [
            verdict(f"q{number}") for number in range(30)
        ]


def test_refusals_that_an_earlier_version_kept_are_asked_again(tmp_path: Path) -> None:
    key = ReplyCache.key("m", "q", 0)
    (tmp_path / "answers.jsonl").write_text(
        json.dumps({"schema": 1, "key": key, "judge": "m", "said": NO_ANSWER}) + "\n"
    )
    with judge_server() as server:
        assert ask(judge(server, tmp_path), "q") == [verdict("q")] and server.asked == ["q"]


def test_a_benchmark_is_scored_again_from_memory_when_the_judge_answers_later(
    tmp_path: Path,
) -> None:
    cache, prediction = tmp_path / "m_BLINK_result.pkl", tmp_path / "m_BLINK.xlsx"
    with judge_server(mode="400", only_first=2) as server:
        one = judge(server, tmp_path)

        def evaluate() -> list[str]:
            assert not cache.exists(), "the package would take the first result from it"
            cache.touch()
            return ask(one, "q0", "q1", "q2")

        assert evaluate_settled([one], prediction, evaluate) == [
            verdict("q0"),
            verdict("q1"),
            verdict("q2"),
        ]
        assert len(server.asked) == 3 + 2


def test_it_is_always_taken_for_working(tmp_path: Path) -> None:
    with judge_server(mode="500") as server:
        assert judge(server, tmp_path).working() and not server.asked, (
            "or the package would score by rules"
        )


# ---- letters -------------------------------------------------------------------------------------


def test_the_random_letter_depends_on_the_question_alone() -> None:
    current = threading.local()
    letters = Letters(current)
    drawn = {}
    for question in [*map(str, range(40)), *map(str, range(39, -1, -1))]:
        current.question = question
        letter = letters.choice("ABCDZ")
        assert drawn.setdefault(question, letter) == letter
    assert len(set(drawn.values())) == 5
