"""Servers, gateways and settings that misbehave, seen by the real client over loopback."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from easi_eval.core.errors import EasiError, ServersGone
from easi_eval.engine.served import probe
from easi_eval.engine.served.http_server import IDLE_SECONDS, LARGEST_REPLY, HttpServer
from easi_eval.engine.served.replies import Refused, ServerDown
from easi_eval.engine.served.served_client import Sampling, ServedClient
from loopback import served
from openai_server import openai_server
from program import SECRETS, a_closed_port

ANSWER = {"choices": [{"message": {"content": "A"}, "finish_reason": "stop"}]}
NONE: Mapping[str, str] = {}
ASK = {"model": "m", "messages": [{"role": "user", "content": []}]}
KEY = SECRETS["OPENAI_API_KEY"]


class Page(BaseHTTPRequestHandler):
    """Replies to every request with one page; subclasses send another."""

    protocol_version = "HTTP/1.1"
    connections = 0
    keys: list[str | None]

    def setup(self) -> None:
        super().setup()
        type(self).connections += 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.keys.append(self.headers["Authorization"])
        self.page()

    def do_GET(self) -> None:
        self.page()

    def page(self) -> None:
        self.send(200, ANSWER)

    def send(self, status: int, body: object, headers: Mapping[str, str] = NONE) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def pages(kind: type[Page] = Page, **members: Any) -> Iterator[tuple[str, type[Page]]]:
    """A server of such pages; yields its base URL and the class."""
    handler = type("Handler", (kind,), {"keys": [], **members})
    with served(handler) as address:
        yield f"{address}/v1", handler


@contextmanager
def replies(status: int, body: object, headers: Mapping[str, str] = NONE) -> Iterator[str]:
    with pages(page=lambda self: self.send(status, body, headers)) as (url, _):
        yield url


# ---- replies that do not end, or are none


class Drip(Page):
    """Its pages come byte by byte, each well within any time-out; ``/health`` is at once."""

    over: threading.Event

    def page(self) -> None:
        if self.path == "/health":
            self.send(200, {})
            return
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        while not self.over.wait(0.1):
            self.wfile.write(b" ")


def test_a_reply_that_drips_ends_with_the_time_out() -> None:
    over = threading.Event()
    end = threading.Timer(60, over.set)
    end.start()
    with pages(Drip, over=over) as (url, _):
        server = HttpServer(url, 2.0)
        with pytest.raises(TimeoutError, match="in 2 s"):
            server.ask(ASK)
        with pytest.raises(ServerDown, match="timed out"):
            server.models()
        assert not over.is_set()
        end.cancel()
        over.set()


def test_a_reply_without_end_is_given_up() -> None:
    class Flood(Page):
        def page(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.close_connection = True
            piece = b" " * (1 << 20)
            for _ in range(2 * LARGEST_REPLY // len(piece)):
                self.wfile.write(piece)

    with pages(Flood) as (url, _), pytest.raises(Refused, match="sends more than"):
        HttpServer(url, 30).ask(ASK)


@pytest.mark.parametrize("packed", [True, False])
def test_a_packed_reply_is_read_and_one_that_only_says_so_is_no_answer(packed: bool) -> None:
    class Packed(Page):
        def page(self) -> None:
            data = json.dumps(ANSWER).encode()
            data = gzip.compress(data) if packed else data
            self.send_response(200)
            self.send_header("Content-Encoding", "gzip")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with pages(Packed) as (url, _):
        if packed:
            assert HttpServer(url, 10).ask(ASK).text == "A"
        else:
            with pytest.raises(ServerDown):
                HttpServer(url, 10).ask(ASK)


def test_an_error_with_status_200_is_told_in_its_words() -> None:
    with (
        replies(200, {"error": {"message": "model is loading"}}) as url,
        pytest.raises(RuntimeError, match="no chat completion: model is loading"),
    ):
        HttpServer(url, 10).ask(ASK)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_told_with_where_it_leads_and_fails_no_question(status: int) -> None:
    with replies(status, {}, {"Location": "https://login.example.org/"}) as url:
        with pytest.raises(ServerDown, match=r"it sends to https://login\.example\.org/"):
            HttpServer(url, 10).ask(ASK)
        (found,) = probe.look([url], "m")
    assert "it sends to https://login.example.org/" in found.problem


@pytest.mark.parametrize("status", [408, 504])
def test_a_gateways_time_out_is_one(status: int) -> None:
    with replies(status, "upstream timed out") as url, pytest.raises(TimeoutError, match="upstr"):
        HttpServer(url, 10).ask(ASK)


def test_a_server_that_a_question_ends_had_the_question() -> None:
    """Questions over which servers end again and again are counted by that."""

    class Ends(Page):
        def page(self) -> None:
            if self.path == "/health":
                self.close_connection = True
            else:
                self.send(500, {"message": "EngineDeadError"})

    with pages(Ends) as (url, _), pytest.raises(ServerDown) as told:
        HttpServer(url, 10).ask(ASK)
    assert told.value.asked


def test_connections_are_not_kept_as_long_as_servers_may_close_them() -> None:
    with pages() as (url, handler):
        server = HttpServer(url, 10)
        for pause in (0, IDLE_SECONDS + 0.5):
            time.sleep(pause)
            server.ask(ASK)
        assert handler.connections == 2


# ---- the key and the proxies


def test_a_key_of_blanks_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " \n")
    with pages() as (url, handler):
        HttpServer(url, 10).ask(ASK)
    assert handler.keys == [None]


@pytest.mark.parametrize("between", [" ", "\n", "\u00e9", "\x7f"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(
    between: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}{between}{KEY}")
    with pages() as (url, handler), pytest.raises(EasiError, match="OPENAI_API_KEY") as told:
        probe.look([url], "m")
    assert KEY not in told.value.message + told.value.hint and not handler.keys


@pytest.mark.parametrize("status", [200, 400, 401, 429, 502])
def test_a_key_in_the_servers_words_is_not_shown(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with replies(status, {"error": {"message": f"bad key {KEY}"}}) as url:
        with pytest.raises(Exception, match=r"bad key \[redacted\]") as told:
            HttpServer(url, 10).ask(ASK)
        (found,) = probe.look([url], "m")
    assert KEY not in str(told.value) and KEY not in found.problem


def test_a_list_of_models_that_wants_a_key_says_so() -> None:
    with replies(401, {"error": "Unauthorized"}) as url:
        (found,) = probe.look([url], "m")
    assert "refuses OPENAI_API_KEY" in found.problem
    with replies(401, {"error": "Unauthorized"}) as url, pytest.raises(ServersGone):
        HttpServer(url, 10).models()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0"])
def test_no_proxy_is_asked_for_this_machine(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{a_closed_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pages() as (url, handler):
        HttpServer(url.replace("127.0.0.1", host), 10).ask(ASK)
    assert handler.keys == [None]


@pytest.mark.parametrize("proxy", ["socks5://me:hidden@proxy:1", "ftp://me:hidden@proxy:1"])
def test_a_proxy_that_cannot_be_used_is_refused(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(EasiError, match="proxy") as told:
        probe.look(["http://node7.example.org:8000/v1"], "m")
    assert "NO_PROXY" in told.value.hint and "hidden" not in told.value.message


# ---- slow servers


def ask_all(client: ServedClient, count: int) -> list[str]:
    """Ask so many questions at once; returns the answers, or what was raised."""

    def one(number: int) -> str:
        content = [{"type": "text", "text": f"question {number}"}]
        try:
            return client.ask([{"role": "user", "content": content}], Sampling(8)).text
        except TimeoutError:
            return "timed out"

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_time_outs_halve_the_open_questions() -> None:
    with openai_server(together=8, seconds=30) as server:
        client = ServedClient("org/served", server.base, num_concurrent=8, timeout=2)
        before = client.at_once
        assert ask_all(client, 8) == ["timed out"] * 8
        assert before - client.at_once >= 4
        assert client.waiting() == ""  # it lives


def test_a_slow_server_keeps_few_questions_from_a_quick_one() -> None:
    """The slow one answers nothing until the quick one has answered what the slow one has not."""
    quick_is_done, answered = threading.Event(), 0

    def count(text: str, before: int) -> int:
        nonlocal answered
        answered += 1
        if answered == 32:
            quick_is_done.set()
        return 200

    def wait(text: str, before: int) -> int:
        quick_is_done.wait(60)
        return 200

    with openai_server(status=wait) as slow, openai_server(status=count) as quick:
        client = ServedClient("org/served", f"{slow.base},{quick.base}", num_concurrent=8)
        answers = ask_all(client, 40)
    assert quick_is_done.is_set() and sum(slow.asked.values()) <= 8
    said = {**slow.answers, **quick.answers}
    assert answers == [said[f"question {number}"] for number in range(40)]
