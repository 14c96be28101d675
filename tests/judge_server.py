"""An OpenAI-compatible judge on loopback.

It judges at random, as the question decides, or misbehaves. It counts its requests.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import served

PATH = "/v1/chat/completions"
KEY = "sk-" + "JudgeServerKey" * 3
GRADES = "<GRADE>"  # only the prompt of VLMEvalKit's spatial family has it


@dataclass
class JudgeServer:
    """A judge that answers or misbehaves as ``mode`` says.

    Attributes:
        mode: ``answers``; a status (``401``, ``429``, ``500`` ...); ``hang``; ``garbage`` (200 and
            no JSON); ``empty`` (a message without text); ``chatty`` (text that no judge's reader
            understands); ``C`` or ``Z``, the answer to every question of the two families.
        refused: the mode holds for these questions alone.
        dies_after: after this many questions it drops every connection.
        only_first: the mode holds for this many requests, after which it answers.
        asked: the prompts of all requests, including the greeting ``hello``.
    """

    mode: str = "answers"
    refused: set[str] | None = None
    dies_after: int | None = None
    only_first: int | None = None
    retry_after: str = ""
    model: str = ""  # if set, any other is unknown (404)
    asked: list[str] = field(default_factory=list)
    models: set[str] = field(default_factory=set)
    url: str = ""
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def questions(self) -> list[str]:
        """Without the greetings."""
        return [prompt for prompt in self.asked if prompt != "hello"]

    @property
    def base(self) -> str:
        return self.url.removesuffix("/chat/completions")


def verdict(prompt: str, mode: str = "answers") -> str:
    """What it says to a question: the same every time."""
    if prompt == "hello":
        return "Hello!"
    even = hashlib.sha256(prompt.encode()).digest()[0] % 2 == 0
    if GRADES in prompt:
        return "C\tN/A" if mode == "C" else f"{'A' if even else 'B'}\t{_number(prompt)}"
    return "Z" if mode == "Z" else "A" if even else "B"


def _number(prompt: str) -> str:
    found = re.search(r"<Standard Answer Begin>\n(.*?)\n<Standard Answer End>", prompt, re.DOTALL)
    return found[1] if found else "N/A"


@contextmanager
def judge_server(**behaviour: Any) -> Iterator[JudgeServer]:
    """A running one; its attributes may be changed meanwhile."""
    state = JudgeServer(**behaviour)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][-1]["content"]
            with lock:
                state.asked.append(prompt)
                state.models.add(body["model"])
                count, questions = len(state.asked), len(state.questions)
            mode = (
                "answers"
                if state.only_first is not None and count > state.only_first
                else state.mode
            )
            if state.refused is not None and prompt not in state.refused:
                mode = "answers"
            if state.dies_after is not None and questions > state.dies_after:
                self.close_connection = True
                self.connection.close()
            elif self.path != PATH:
                self._reply(404, {"error": {"message": "no such path"}})
            elif self.headers.get("Authorization") != f"Bearer {KEY}":
                self._reply(401, {"error": {"message": "Incorrect API key provided"}})
            elif state.model and body["model"] != state.model:
                self._reply(
                    404, {"error": {"message": f"The model {body['model']} does not exist"}}
                )
            elif mode.isdigit():
                self._reply(int(mode), {"error": {"message": f"told to say {mode}"}})
            elif mode == "hang":
                state.released.wait(60)
                self.close_connection = True
            elif mode == "garbage":
                self._send(200, b"<html>not what you asked for</html>")
            else:
                text = {"empty": None, "chatty": "Let me think about it."}.get(
                    mode, verdict(prompt, mode)
                )
                self._reply(200, {"choices": [{"message": {"role": "assistant", "content": text}}]})

        def _reply(self, status: int, value: object) -> None:
            self._send(status, json.dumps(value).encode())

        def _send(self, status: int, data: bytes) -> None:
            self.send_response(status)
            if state.retry_after and status == 429:
                self.send_header("Retry-After", state.retry_after)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    with served(Handler) as address:
        state.url = f"{address}{PATH}"
        try:
            yield state
        finally:
            state.released.set()  # before the server waits for its answers to end


if __name__ == "__main__":
    with judge_server() as running:
        print(running.url, flush=True)
        while True:
            time.sleep(60)
