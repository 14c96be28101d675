"""``easi_submission.json``: what was sent from a run and what became of it. It decides whether more may be sent."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ..state import read_json, write_json

FILE = "easi_submission.json"
SCHEMA = 1


class Fate(StrEnum):
    SENDING = "sending"  # written before the first byte; found by a later launch, it means that one was killed
    CONFIRMED = "confirmed"  # the board said so
    UNKNOWN = "unknown"  # the board may have it
    REFUSED = "refused"  # the board has not taken it, or was never reached


@dataclass(frozen=True)
class Submission:
    """One sending. ``payload`` and ``archive`` are SHA-256 of what was sent; times are UTC, ISO 8601; ``said`` is for people."""

    host: str
    payload: str
    archive: str
    state: Fate
    began: str
    ended: str = ""
    said: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", Fate(self.state))


@dataclass(frozen=True)
class Record:
    """Every sending from one run, oldest first."""

    submissions: tuple[Submission, ...] = ()

    @classmethod
    def load(cls, path: Path) -> Record:
        """Empty if there is no file. Raises EasiError or ValueError if it cannot be understood."""
        if not path.exists():
            return cls()
        value = read_json(path)
        if (
            not isinstance(value, dict)
            or value.get("schema") != SCHEMA
            or not isinstance(value.get("submissions"), list)
        ):
            raise ValueError(f"it is not of schema {SCHEMA}")
        try:
            return cls(tuple(Submission(**entry) for entry in value["submissions"]))
        except TypeError as error:
            raise ValueError(str(error)) from error

    def save(self, path: Path) -> None:
        write_json(
            path, {"schema": SCHEMA, "submissions": [asdict(entry) for entry in self.submissions]}
        )

    def begin(self, host: str, payload: str, archive: str) -> Record:
        return Record((*self.submissions, Submission(host, payload, archive, Fate.SENDING, _now())))

    def end(self, state: Fate, said: str) -> Record:
        """The last one has come to an end."""
        return Record(
            (
                *self.submissions[:-1],
                replace(self.submissions[-1], state=state, ended=_now(), said=said),
            )
        )

    def in_the_way(self, host: str, payload: str) -> Submission | None:
        """The submission that speaks against sending this payload to this board: one in doubt, or the same, confirmed.

        A later confirmed one ends the doubt. A confirmed one with another payload is no obstacle: scores were added or the
        description was corrected.
        """
        mattering = [
            entry
            for entry in self.submissions
            if entry.host == host and entry.state is not Fate.REFUSED
        ]
        if mattering and mattering[-1].state is not Fate.CONFIRMED:
            return mattering[-1]
        return next(
            (
                entry
                for entry in reversed(mattering)
                if entry.state is Fate.CONFIRMED and entry.payload == payload
            ),
            None,
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
