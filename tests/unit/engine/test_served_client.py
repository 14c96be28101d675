"""What a server is sent and what its replies mean, with a server on loopback."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from easi_eval.core.errors import EasiError, ServersGone
from easi_eval.engine.served import probe
from easi_eval.engine.served.http_server import HttpServer
from easi_eval.engine.served.pictures import picture_url
from easi_eval.engine.served.replies import NoAnswer, ServerBusy, ServerDown
from easi_eval.engine.served.served_client import Sampling, ServedClient
from loopback import served
from openai_server import openai_server
from program import SECRETS, a_closed_port

NONE: Mapping[str, str] = {}
ASK = {"model": "org/served", "messages": [{"role": "user", "content": []}]}


@contextmanager
def replying(
    status: int, body: object, headers: Mapping[str, str] = NONE, get: int = 200
) -> Iterator[Any]:
    """A server whose reply to every question is this one; yields its address and the requests."""
    requests: list[tuple[str, dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(get, {}, {})

        def do_POST(self) -> None:
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, dict(self.headers), sent))
            self.send(status, body, headers)

        def send(self, code: int, what: object, more: Mapping[str, str]) -> None:
            data = what.encode() if isinstance(what, str) else json.dumps(what).encode()
            self.send_response(code)
            for name, value in {**more, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    with served(Handler) as address:
        yield f"{address}/v1", requests


def completion(content: object, finish: str = "stop", **more: object) -> dict[str, object]:
    return {"choices": [{"message": {"content": content}, "finish_reason": finish}], **more}


# ---- replies


def test_an_answer_has_its_text_tokens_and_reason() -> None:
    with replying(200, completion("B", "length", usage={"completion_tokens": 7})) as (url, _):
        made = HttpServer(url, 10).ask(ASK)
    assert (made.text, made.tokens, made.finish) == ("B", 7, "length")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (completion(None), "finish_reason stop"),
        (completion(""), "finish_reason stop"),
        (completion("half of it", "content_filter"), "content_filter"),
    ],
)
def test_no_text_and_a_filtered_one_are_no_answers(body: object, words: str) -> None:
    with replying(200, body) as (url, _), pytest.raises(NoAnswer, match=words):
        HttpServer(url, 10).ask(ASK)


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (400, {"error": {"message": "context is 4096 tokens"}}, RuntimeError, "400: context is"),
        (422, {"detail": "no pictures"}, RuntimeError, "422: no pictures"),
        (200, "<html>", RuntimeError, "no chat completion"),
        (500, {"message": "assertion failed"}, RuntimeError, "500: assertion failed"),
        (429, {"error": {"message": "slow down"}}, ServerBusy, "slow down"),
        (503, "", ServerBusy, "503"),
        (502, "bad gateway", ServerDown, "bad gateway"),
        (404, {"message": "The model does not exist"}, ServerDown, "does not exist"),
        (401, {"error": "no key"}, ServersGone, "OPENAI_API_KEY"),
        (429, {"error": {"code": "insufficient_quota"}}, ServersGone, "insufficient_quota"),
    ],
)
def test_refusals_are_told_in_the_servers_words(
    status: int, body: object, error: type[Exception], words: str
) -> None:
    with (
        replying(status, body, {"Retry-After": "7"}) as (url, _),
        pytest.raises(error, match=words) as told,
    ):
        HttpServer(url, 10).ask(ASK)
    if isinstance(told.value, ServerBusy):
        assert told.value.seconds == 7


def test_an_engine_that_says_it_is_dead_is_down_and_not_the_question_at_fault() -> None:
    with (
        replying(500, {"message": "EngineDeadError"}, get=503) as (url, _),
        pytest.raises(ServerDown, match="503"),
    ):
        HttpServer(url, 10).ask(ASK)


def test_nothing_at_the_address() -> None:
    with pytest.raises(ServerDown, match="refused") as told:
        HttpServer(f"http://127.0.0.1:{a_closed_port()}/v1", 10).ask(ASK)
    assert not told.value.asked


def test_a_question_without_an_answer_in_time_where_the_server_lives() -> None:
    with openai_server(seconds=20) as server, pytest.raises(TimeoutError):
        HttpServer(server.base, 2.0).ask(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "late"}]}]}
        )


# ---- requests


def test_what_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRETS["OPENAI_API_KEY"])
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 6), "red").save(path)
    content = [
        {"type": "text", "text": "first"},
        {"type": "image", "image": str(path)},
        {"type": "text", "text": "last"},
    ]
    with replying(200, completion("A")) as (url, requests):
        client = ServedClient("org/served", url, system_prompt="be brief")
        client.ask([{"role": "user", "content": content}], Sampling(9, 0.5))
    ((where, headers, sent),) = requests
    assert where == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {SECRETS['OPENAI_API_KEY']}"
    assert {name: sent[name] for name in sent if name != "messages"} == {
        "model": "org/served",
        "max_tokens": 9,
        "temperature": 0.5,
    }
    system, user = sent["messages"]
    assert system == {"role": "system", "content": "be brief"}
    assert [part["type"] for part in user["content"]] == ["text", "image_url", "text"]
    assert decoded(user["content"][1]["image_url"]["url"])[1] == path.read_bytes()


def test_no_key_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with replying(200, completion("A")) as (url, requests):
        HttpServer(url, 10).ask(ASK)
    assert "Authorization" not in requests[0][1]


def decoded(url: str) -> tuple[str, bytes]:
    head, _, data = url.partition(";base64,")
    return head, base64.b64decode(data)


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("mode", "save", "kept"),
    [
        ("RGB", {"format": "PNG"}, True),
        ("L", {"format": "PNG"}, True),
        ("RGB", {"format": "JPEG"}, True),
        ("RGBA", {"format": "PNG"}, False),
        ("P", {"format": "PNG"}, False),
        ("RGB", {"format": "BMP"}, False),
    ],
)
def test_plain_files_go_as_they_are_and_others_without_loss(
    mode: str, save: dict[str, str], kept: bool, tmp_path: Path
) -> None:
    path = tmp_path / "picture"
    Image.radial_gradient("L").resize((40, 30)).convert(mode).save(path, **save)
    head, data = decoded(picture_url(str(path)))
    assert (data == path.read_bytes()) is kept
    assert head == f"data:image/{save['format'].lower() if kept else 'png'}"
    assert pixels(data) == pixels(path.read_bytes())


def test_a_picture_that_exif_turns_is_sent_as_it_lies(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.radial_gradient("L").resize((40, 30)).convert("RGB").save(path, exif=exif)
    _, data = decoded(picture_url(str(path)))
    sent = Image.open(io.BytesIO(data))
    assert sent.size == (40, 30) and 0x0112 not in sent.getexif()


def test_jpeg_is_lossy_and_asked_for() -> None:
    picture = Image.effect_noise((64, 64), 90).convert("RGB")
    assert pixels(decoded(picture_url(picture))[1]) == picture.tobytes()
    head, data = decoded(picture_url(picture, "JPEG"))
    assert head == "data:image/jpeg" and pixels(data) != picture.tobytes()


def test_files_that_servers_read_are_named_and_others_are_sent(tmp_path: Path) -> None:
    """The server's letters depend on the pixels."""
    readable, other = tmp_path / "data of mine", tmp_path / "other"
    paths = {
        folder / name: mode
        for folder in (readable, other)
        for name, mode in (("plain.png", "RGB"), ("clear.png", "RGBA"))
    }
    for path, mode in paths.items():
        path.parent.mkdir(exist_ok=True)
        Image.radial_gradient("L").resize((40, 30)).convert(mode).save(path)
    (readable / "link.png").symlink_to(other / "plain.png")

    def letters(files: str, folder: str) -> tuple[list[str], list[str]]:
        with openai_server(files=files) as server:
            client = ServedClient("org/served", server.base, readable=folder)
            made = [
                client.ask(
                    [{"role": "user", "content": [{"type": "image", "image": str(path)}]}],
                    Sampling(9),
                ).text
                for path in [*paths, readable / "link.png"]
            ]
            return made, list(server.named)

    sent, none = letters(str(readable), "")
    named, files = letters(str(readable), str(readable))
    assert none == [] and files == [(readable / "plain.png").as_uri()]
    assert named == sent
    # Its server no longer reads files: each question is asked again with its pictures.
    assert letters("", str(readable)) == (sent, [])


def test_a_question_that_is_refused_with_its_pictures_too_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 6), "red").save(path)
    content = [{"type": "image", "image": str(path)}]
    with replying(400, {"error": {"message": "too long"}}) as (url, requests):
        client = ServedClient("org/served", url, readable=str(tmp_path))
        with pytest.raises(RuntimeError, match="400: too long"):
            client.ask([{"role": "user", "content": content}], Sampling(9))
    shown = [sent["messages"][0]["content"][0]["image_url"]["url"] for _, _, sent in requests]
    assert [url.partition(":")[0] for url in shown] == ["file", "data"]


# ---- the probe


def test_the_probe_asks_a_text_a_picture_and_two() -> None:
    with openai_server() as server:
        (looked,) = probe.look([server.base], "org/served")
        (tried,) = probe.try_questions([server.base], "org/served")
    assert (looked.problem, looked.engine) == ("", {"vllm": "0.19.1"})
    assert tried.problem == "" and sorted(server.probed) == [0, 1, 2]


@pytest.mark.parametrize(
    ("one", "other", "reads"),
    [
        ("{}", "{}", True),
        ("{}", "", False),
        ("{}/deeper", "{}", False),
        ("ignored", "{}", False),
    ],
)
def test_files_are_named_where_all_servers_read_them(
    one: str, other: str, reads: bool, tmp_path: Path
) -> None:
    with (
        openai_server(files=one.format(tmp_path)) as first,
        openai_server(files=other.format(tmp_path)) as second,
    ):
        found = probe.reads_files([first.base, second.base], "org/served", tmp_path)
    assert found is reads and not list(tmp_path.iterdir())


def test_another_model_is_told_with_those_that_are_there() -> None:
    with openai_server(model="org/other") as server:
        (found,) = probe.look([server.base], "org/served")
    assert found.problem == "it serves org/other, and no org/served"


def problem(**behaviour: Callable[[str, int], int] | float) -> str:
    with openai_server(**behaviour) as server:
        (tried,) = probe.try_questions([server.base], "org/served", seconds=1.0)
    return tried.problem


def test_a_server_that_refuses_everything_is_told_in_its_words() -> None:
    assert "the server answered 400: told to say 400" in problem(status=lambda text, before: 400)


def test_a_server_that_is_silent_costs_the_time_out_and_no_more() -> None:
    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            over.wait(60)

        do_GET = do_POST

    over = threading.Event()
    with served(Silent) as address:
        (looked,) = probe.look([f"{address}/v1"], "org/served", seconds=0.5)
        (tried,) = probe.try_questions([f"{address}/v1"], "org/served", seconds=0.5)
        over.set()
    assert "timed out" in looked.problem and "timed out" in tried.problem


def test_servers_of_two_versions_are_refused_and_unknown_ones_are_not() -> None:
    one, other = (probe.Found(name, engine={"vllm": name}) for name in ("0.19.1", "0.20.0"))
    silent = probe.Found("x")
    assert probe.common_engine([silent, one]) == {"vllm": "0.19.1"}
    assert probe.common_engine([silent]) == {}
    with pytest.raises(EasiError, match="different engines"):
        probe.common_engine([one, other])


@pytest.mark.parametrize(
    ("header", "known"),
    [
        ("SomeEngine/1.2.3", {"SomeEngine": "1.2.3"}),
        ("nginx/1.25.0", {}),
        ("uvicorn", {}),
        ("Python/3.11 aiohttp/3.9.5", {}),
        ("BaseHTTP/0.6 Python/3.11.9", {}),
    ],
)
def test_the_engine_is_known_from_the_header_unless_that_is_a_web_servers(
    header: str, known: dict[str, str]
) -> None:
    class Plain(BaseHTTPRequestHandler):
        def version_string(self) -> str:
            return header

        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            return

    with served(Plain) as address:
        assert HttpServer(f"{address}/v1", 5).engine("") == known
