"""A vision model behind an OpenAI-compatible server on loopback.

It looks at what it is sent and says a letter, or fails.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from PIL import Image

from loopback import served

PATH = "/v1/chat/completions"
PROBE = "Answer with the letter A."


@dataclass
class OpenAIServer:
    """A served model that answers or fails as it is told.

    ``status`` gives the HTTP status for a question's text and how often it was asked before, and
    ``finish`` the reason why its answer ends: ``null`` gives none, ``content_filter`` half of one.
    ``say``, if given, is the answer to everything. Nothing is answered until ``together``
    requests were open at once, or a minute has passed. Of picture files (``file://``) it reads
    those in the folder ``files`` and counts them in ``named``; it refuses questions with others,
    or ignores such pictures with ``files="ignored"``. ``asked`` counts requests by question,
    ``answers`` is what was said to it, ``most`` how many requests were open at once. After
    ``lives`` questions, which it still answers, it is dead and drops every connection, for
    ``dead_for`` seconds; ``dropped`` counts questions that it read and did not answer. Those of the
    probe (``PROBE``) count nowhere.
    """

    status: Callable[[str, int], int] = lambda text, before: 200
    finish: Callable[[str, int], str] = lambda text, before: "stop"
    model: str = "org/served"
    version: str = "0.19.1"
    lives: float = float("inf")
    dead_for: float = float("inf")
    dropped: int = 0
    died_at: float = float("inf")
    probed: list[int] = field(default_factory=list)
    seconds: float = 0.05
    say: str = ""
    together: int = 1
    files: str = ""
    named: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    answers: dict[str, str] = field(default_factory=dict)
    most: int = 0
    url: str = ""

    @property
    def base(self) -> str:
        """The address for ``--base-url``."""
        return self.url.removesuffix("/chat/completions")

    @property
    def dead(self) -> bool:
        return 0 <= time.monotonic() - self.died_at < self.dead_for


def seen(content: list[dict[str, Any]], files: str = "") -> tuple[str, str]:
    """The text of a message, and a letter that depends on the text and the images.

    The images must decode; their pixels are used.

    Raises:
        OSError: A file is named that is not in the folder ``files``.
    """
    text = "\n".join(part["text"] for part in content if part["type"] == "text")
    total = hashlib.sha256(text.encode())
    for part in content:
        if part["type"] == "image_url":
            url = part["image_url"]["url"]
            if url.startswith("file://"):
                if files == "ignored":
                    continue
                path = Path(url2pathname(urlsplit(url).path))
                if not (files and path.is_relative_to(files)):
                    raise PermissionError(f"{path} must not be read")
                data = path.read_bytes()
            else:
                data = base64.b64decode(url.partition("base64,")[2])
            total.update(Image.open(io.BytesIO(data)).convert("RGB").tobytes())
    return text, "ABCD"[total.digest()[0] % 4]


def answer(status: int, letter: str, finish: str) -> tuple[int, dict[str, Any]]:
    if status != 200:
        return status, {"error": {"message": f"told to say {status}"}}
    content = None if finish == "null" else letter
    reason = "stop" if finish == "null" else finish
    message = {"role": "assistant", "content": content}
    return status, {"choices": [{"message": message, "finish_reason": reason}]}


@contextmanager
def openai_server(**behaviour: Any) -> Iterator[OpenAIServer]:
    state = OpenAIServer(**behaviour)
    lock = threading.Condition()
    open_requests = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if state.dead:
                self.close_connection = True
                return
            pages: dict[str, Any] = {
                "/v1/models": {"data": [{"id": state.model, "owned_by": "vllm"}]},
                "/version": {"version": state.version},
                "/health": {},
            }
            found = pages.get(self.path)
            self.reply(404 if found is None else 200, found or {})

        def do_POST(self) -> None:
            nonlocal open_requests
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = asked["messages"][-1]["content"]
            if state.dead:
                self.close_connection = True
                return
            try:
                text, letter = seen(content, state.files)
            except OSError as error:
                self.reply(400, {"error": {"message": str(error)}})
                return
            shown = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
            if text == PROBE:
                state.probed.append(sum(part["type"] == "image_url" for part in content))
                self.reply(*answer(state.status(text, 0), "A", "stop"))
                return
            with lock:
                state.named.update(url for url in shown if url.startswith("file://"))
                if sum(state.asked.values()) >= state.lives > 0:
                    state.died_at, state.lives = time.monotonic(), float("inf")
                lost = state.dead
                open_requests += 1
                state.most = max(state.most, open_requests)
                letter = state.say or letter
                before = state.asked[text]
                status, finish = state.status(text, before), state.finish(text, before)
                state.asked[text] += 1
                lock.notify_all()
                lock.wait_for(lambda: state.most >= state.together, timeout=60)
            time.sleep(state.seconds)
            with lock:
                open_requests -= 1
                if lost:
                    state.dropped += 1
                    self.close_connection = True
                    return
                if status == 200 and finish == "stop":
                    state.answers[text] = letter
            self.reply(*answer(status, letter, finish))

        def reply(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    with served(Handler) as address:
        state.url = f"{address}{PATH}"
        yield state
