"""The client of served models that both drivers' classes use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from ...core.server_urls import server_urls
from ..generation import Generation
from . import MOST_OPEN, OPEN, TIMEOUT, checked_format
from .http_server import HttpServer
from .pictures import picture_url
from .pool import ServerPool, patience
from .replies import Refused


@dataclass(frozen=True)
class Sampling:
    """How answers are generated; None leaves it to the server."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float | None = None

    def fields(self) -> dict[str, float]:
        """Return the request's fields."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


class ServedClient:
    """Asks servers; several threads may call it.

    Args:
        model: The servers' name of the model.
        base_url: The servers, with commas.
        num_concurrent: Questions that each server has open at first, those of this process.
        most_concurrent: The most that it may come to.
        image_format: See ``pictures.picture_url``.
        readable: A folder whose picture files the servers read.
        system_prompt: The text of a first message.
        timeout: Seconds that a question may take.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        num_concurrent: int = OPEN,
        most_concurrent: int = MOST_OPEN,
        image_format: str = "PNG",
        readable: str = "",
        system_prompt: str = "",
        timeout: float = TIMEOUT,
    ) -> None:
        self._model, self._system_prompt = model, system_prompt
        self._image_format, self._readable = checked_format(image_format), readable
        servers = [HttpServer(url, float(timeout)) for url in server_urls(base_url)]
        self._pool = ServerPool(servers, int(num_concurrent), int(most_concurrent), patience())

    @property
    def at_once(self) -> int:
        """How many questions to keep in hand: the open ones, and a few that are made ready."""
        return self._pool.width + max(2, min(8, len(os.sched_getaffinity(0))))

    def waiting(self) -> str:
        """Return what the client waits for, if no server answers; else ""."""
        return self._pool.waiting()

    def ask(self, messages: Sequence[dict[str, Any]], sampling: Sampling) -> Generation:
        """Answer a conversation.

        Args:
            messages: ``role`` and ``content`` of each message; the content is a list of parts as
                transformers' chat templates take them, ``{"type": "text", "text": ...}`` and
                ``{"type": "image", "image": ...}``.
            sampling: How to generate.

        Raises:
            ServersGone: No server answers any more.
            RuntimeError: A server refused the question, or gave no text; with its words.
            TimeoutError: There was no answer in time.
        """
        if self._readable:
            # A server that was started again may have lost the permission to read files.
            with contextlib.suppress(Refused):
                return self._ask(messages, sampling, self._readable)
        return self._ask(messages, sampling, "")

    def _ask(
        self, messages: Sequence[dict[str, Any]], sampling: Sampling, readable: str
    ) -> Generation:
        payload = {
            "model": self._model,
            "messages": self._encoded(messages, readable),
            **sampling.fields(),
        }
        return self._pool.ask(lambda server: server.ask(payload))

    def _encoded(self, messages: Sequence[dict[str, Any]], readable: str) -> list[dict[str, Any]]:
        first = [{"role": "system", "content": self._system_prompt}] if self._system_prompt else []
        return first + [
            {
                "role": each["role"],
                "content": [self._part(part, readable) for part in each["content"]],
            }
            for each in messages
        ]

    def _part(self, part: dict[str, Any], readable: str) -> dict[str, Any]:
        if part["type"] == "text":
            return {"type": "text", "text": part["text"]}
        if part["type"] != "image":
            raise ValueError(f"a served model takes images, not {part['type']}")
        url = picture_url(part["image"], self._image_format, readable)
        return {"type": "image_url", "image_url": {"url": url}}
