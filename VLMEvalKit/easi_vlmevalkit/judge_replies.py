"""Cache of the judge's replies, by the whole request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from pathlib import Path

SCHEMA = 1
# VLMEvalKit's text for a missing answer (fail_msg in api/gpt.py). Here it means that the judge
# refused this question, not that the judge failed.
NO_ANSWER = "Failed to obtain answer via API. "


class ReplyCache:
    """Cache of the judge's replies in an append-only file, one JSON line per reply.

    Only one process may write it at a time. Opening the file removes a last line that a kill cut
    off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data.rpartition(b"\n")[0] + b"\n" if b"\n" in data else b""
        for line in whole.splitlines():
            # A damaged line costs no more than asking its question again.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                record = json.loads(line)
                # Earlier versions cached refusals that may have been due to the judge: ask again.
                if record["schema"] == SCHEMA and (
                    record["said"] != NO_ANSWER or record.get("confirmed") is True
                ):
                    self._known[record["key"]] = str(record["said"])
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        if len(whole) < len(data):
            self._file.truncate(len(whole))

    @staticmethod
    def key(judge: str, prompt: str, turn: int) -> str:
        """Return the cache key of a request.

        Args:
            judge: Name of the judge.
            prompt: The whole prompt, which holds question, options and answer.
            turn: How often the same question has sent this prompt before.
        """
        return hashlib.sha256(json.dumps([judge, prompt, turn]).encode()).hexdigest()

    def get(self, key: str) -> str | None:
        """Return the cached reply, or None."""
        return self._known.get(key)

    def put(self, key: str, judge: str, said: str) -> None:
        """Cache a reply and write it to disk.

        ``said`` may be NO_ANSWER only for a refusal that is known to be due to the question.
        """
        record = {
            "schema": SCHEMA,
            "key": key,
            "judge": judge,
            "said": said,
            **({"confirmed": True} if said == NO_ANSWER else {}),
        }
        line = json.dumps(record).encode() + b"\n"
        with self._lock:
            self._known[key] = said
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
