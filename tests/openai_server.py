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
from typing import Any

from PIL import Image

from loopback import served

PATH = "/v1/chat/completions"


@dataclass
class OpenAIServer:
    """A served model that answers or fails as it is told.

    ``status`` gives the HTTP status for a question's text and how often it was asked before.
    ``say``, if given, is the answer to everything. Nothing is answered until ``together``
    requests were open at once, or a minute has passed. ``asked`` counts requests by question,
    ``answers`` is what was said to it, ``most`` how many requests were open at once.
    """

    status: Callable[[str, int], int] = lambda text, before: 200
    seconds: float = 0.05
    say: str = ""
    together: int = 1
    asked: Counter[str] = field(default_factory=Counter)
    answers: dict[str, str] = field(default_factory=dict)
    most: int = 0
    url: str = ""


def seen(content: list[dict[str, Any]]) -> tuple[str, str]:
    """The text of a message, and a letter that depends on the text and the images.

    The images must decode; their pixels are used.
    """
    text = "\n".join(part["text"] for part in content if part["type"] == "text")
    total = hashlib.sha256(text.encode())
    for part in content:
        if part["type"] == "image_url":
            data = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
            total.update(Image.open(io.BytesIO(data)).convert("RGB").tobytes())
    return text, "ABCD"[total.digest()[0] % 4]


@contextmanager
def openai_server(**behaviour: Any) -> Iterator[OpenAIServer]:
    state = OpenAIServer(**behaviour)
    lock = threading.Condition()
    open_requests = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal open_requests
            text, letter = seen(
                json.loads(self.rfile.read(int(self.headers["Content-Length"])))["messages"][-1][
                    "content"
                ]
            )
            with lock:
                open_requests += 1
                state.most = max(state.most, open_requests)
                letter = state.say or letter
                status = state.status(text, state.asked[text])
                state.asked[text] += 1
                if status == 200:
                    state.answers[text] = letter
                lock.notify_all()
                lock.wait_for(lambda: state.most >= state.together, timeout=60)
            time.sleep(state.seconds)
            with lock:
                open_requests -= 1
            message = {"choices": [{"message": {"role": "assistant", "content": letter}}]}
            data = json.dumps(
                message if status == 200 else {"error": {"message": f"told to say {status}"}}
            ).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    with served(Handler) as address:
        state.url = f"{address}{PATH}"
        yield state
