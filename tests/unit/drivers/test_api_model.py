"""Models behind a server, with plain objects for the class and the dataset."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from easi_lmms_eval.answer_worker import _open_requests, _piece
from easi_lmms_eval.model_outputs import generation
from easi_lmms_eval.prefetch_media import read_in_turn
from easi_vlmevalkit.api_model import ServedModel
from easi_vlmevalkit.prompts import API_FAILURE
from easi_vlmevalkit.served import EasiServed
from openai_server import openai_server


class Api:
    """Like VLMEvalKit's API classes.

    ``generate`` tries ``generate_inner`` twice and gives up with the last text.
    """

    is_api = True

    def __init__(self, respond: Any) -> None:
        self.respond = respond

    def generate_inner(
        self, message: list[dict[str, str]], **options: object
    ) -> tuple[int, str, str]:
        return self.respond(message[0]["value"])

    def generate(self, message: list[dict[str, str]], dataset: str) -> str:
        for _ in range(2):
            code, text, _ = self.generate_inner(message, dataset=dataset)
            if code == 0 and text:
                break
        return text or f"{API_FAILURE}."


def dataset(count: int) -> SimpleNamespace:
    rows = [{"index": str(number)} for number in range(count)]
    source = SimpleNamespace(
        dataset_name="BLINK",
        MODALITY="IMAGE",
        data=SimpleNamespace(iloc=rows),
        build_prompt=lambda line: [{"type": "text", "value": line["index"]}],
    )
    return SimpleNamespace(source=source, rows={str(number): number for number in range(count)})


def ask(api: Api, count: int) -> list[Any]:
    """What comes of so many questions, each asked by a thread of its own."""
    served, rows = ServedModel(api), dataset(count)
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda number: served.answer(lambda: rows, str(number)), range(count)))


def test_questions_are_open_at_the_same_time() -> None:
    together = threading.Barrier(4, timeout=20)

    def respond(question: str) -> tuple[int, str, str]:
        together.wait()  # fails unless four are asked at once
        return 0, f"answer {question}", ""

    assert [each.text for each in ask(Api(respond), 4)] == [
        "answer 0",
        "answer 1",
        "answer 2",
        "answer 3",
    ]


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        # VLMEvalKit would score this text
        ((500, "Internal error", ""), "the server answered 500: Internal error"),
        ((500, "", ""), API_FAILURE),
        ((0, "", ""), API_FAILURE),
        ((-1, f"{API_FAILURE}. ", ""), API_FAILURE),
    ],
)
def test_a_failed_request_is_no_answer_and_is_its_own_items(
    response: tuple[int, str, str], reason: str
) -> None:
    good, bad = ask(Api(lambda question: response if question == "1" else (0, "A", "")), 2)
    assert good.text == "A"
    assert isinstance(bad, RuntimeError) and reason in str(bad)


def test_a_request_that_raises_is_its_own_items() -> None:
    def respond(question: str) -> tuple[int, str, str]:
        if question == "0":
            raise ConnectionError("refused")
        return 0, "B", ""

    bad, good = ask(Api(respond), 2)
    assert "refused" in str(bad) and good.text == "B"


def test_a_later_try_that_succeeds_is_an_answer() -> None:
    responses = iter([(500, "busy", ""), (0, "C", "")])
    (found,) = ask(Api(lambda question: next(responses)), 1)
    assert found.text == "C"


@pytest.mark.parametrize(
    ("own", "piece"),
    [
        ({}, 1),
        ({"batch_size": "4"}, 4),
        ({"batch_size_per_gpu": 8, "batch_size": None}, 8),
        ({"num_concurrent": 1, "batch_size": 1}, 1),
        ({"num_concurrent": 32, "batch_size": 1}, 128),
        ({"num_concurrent": 32, "adaptive_concurrency": False}, 128),
        ({"num_cpus": 6, "adaptive_concurrency": False}, 24),
    ],
)
def test_a_class_of_lmms_eval_gets_its_batch_or_several_rounds_of_its_open_requests(
    own: dict[str, object], piece: int
) -> None:
    model = SimpleNamespace(**own)  # the last three as cosmos_wm, gemini and async_openai
    assert (_piece(model), _open_requests(model)) == (piece, 1)


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ("[LMMS_EVAL_REQUEST_FAILED after 5 retries] 500", False),
        ("[LMMS_EVAL_BUDGET_EXCEEDED]", False),
        ("[B]", True),
        ("", True),
    ],
)
def test_what_lmms_evals_clients_say_instead_of_an_answer_is_none(said: str, answers: bool) -> None:
    found = generation(SimpleNamespace(args=("question", {})), said, padded=False)
    assert (
        found.text == said if answers else isinstance(found, ConnectionError) and str(found) == said
    )


class Client(SimpleNamespace):
    """Like what lmms-eval's ``openai`` derives from."""

    __module__ = "lmms_eval.models.simple.openai"


@pytest.mark.parametrize(
    ("several", "adaptive", "piece", "at_once"),
    [(32, False, 1, 32), (256, False, 1, 128), (1, False, 1, 1), (32, True, 128, 1)],
)
def test_its_client_of_openai_servers_is_asked_by_as_many_threads_as_it_keeps_requests_open(
    several: int, adaptive: bool, piece: int, at_once: int
) -> None:
    own = type("OpenAICompatible", (Client,), {"__module__": "lmms_eval.models.chat.openai"})
    model = own(
        num_concurrent=several,
        adaptive_concurrency=adaptive,
        adaptive_config=SimpleNamespace(max_concurrency=128),
    )
    assert (_piece(model), _open_requests(model)) == (piece, at_once)


def test_media_are_read_by_one_thread_at_a_time() -> None:
    inside, most, guard = 0, 0, threading.Lock()

    def read(doc: int) -> int:
        nonlocal inside, most
        with guard:
            inside, most = inside + 1, max(most, inside + 1)
        time.sleep(0.01)
        with guard:
            inside -= 1
        return doc * 2

    requests = [SimpleNamespace(arguments=("context", read, {}, doc)) for doc in range(6)]
    read_in_turn(requests)
    with ThreadPoolExecutor(6) as pool:
        assert list(
            pool.map(lambda request: request.arguments[1](request.arguments[3]), requests)
        ) == [0, 2, 4, 6, 8, 10]
    assert most == 1


# ---- our own client ------------------------------------------------------------------------------


def test_our_client_makes_prompts_in_its_threads_and_keeps_what_the_server_told() -> None:
    together = threading.Barrier(4, timeout=20)
    rows = dataset(4)

    def build_prompt(line: dict[str, str]) -> list[dict[str, str]]:
        together.wait()  # fails unless four are made at once
        return [{"type": "text", "value": line["index"]}]

    rows.source.build_prompt = build_prompt
    with openai_server(say="B") as server:
        served = ServedModel(EasiServed("org/served", base_url=server.base))
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda item: served.answer(lambda: rows, item), "0123"))
    assert [(each.text, each.finish, each.frames) for each in made] == [("B", "stop", 0)] * 4
    assert len({each.prompt for each in made}) == 4 and set(server.asked) == set("0123")


def test_what_the_server_refuses_is_an_exception_in_its_words() -> None:
    with openai_server(status=lambda text, before: 400) as server:
        served = ServedModel(EasiServed("org/served", base_url=server.base))
        error = served.answer(lambda: dataset(1), "0")
    assert isinstance(error, RuntimeError) and "told to say 400" in str(error)
