"""``easi_submission.json``: the submissions sent from a run, and their outcomes.

The record decides whether another submission may be sent.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from ..core.atomic_files import read_json, write_json

FILE = "easi_submission.json"
SCHEMA = 1


class Fate(StrEnum):
    """The state of a submission."""

    # Written before the first byte is sent. If a later launch finds it, sending was interrupted.
    SENDING = "sending"
    CONFIRMED = "confirmed"  # the leaderboard has confirmed it
    UNKNOWN = "unknown"  # the leaderboard may have recorded it
    REFUSED = "refused"  # the leaderboard has not recorded it, or was not reached


@dataclass(frozen=True)
class Submission:
    """One submission.

    Attributes:
        host: Host and port of the leaderboard.
        payload: SHA-256 of the payload as sent.
        archive: SHA-256 of the archive.
        state: Its state.
        began: Start time, UTC in ISO 8601.
        ended: End time; "" while it is being sent.
        said: The leaderboard's message or the error, for users.
    """

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
class SendRecord:
    """All submissions of one run, oldest first."""

    submissions: tuple[Submission, ...] = ()

    @classmethod
    def load(cls, path: Path) -> SendRecord:
        """Load the record; it is empty if there is no file.

        Raises:
            EasiError: The file cannot be read.
            ValueError: The file is not a valid record.
        """
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
        """Write the record to ``path``."""
        write_json(
            path, {"schema": SCHEMA, "submissions": [asdict(entry) for entry in self.submissions]}
        )

    def begin(self, host: str, payload: str, archive: str) -> SendRecord:
        """Return the record with a new submission that is being sent."""
        return SendRecord(
            (*self.submissions, Submission(host, payload, archive, Fate.SENDING, _now()))
        )

    def end(self, state: Fate, said: str) -> SendRecord:
        """Return the record with the outcome of the latest submission."""
        return SendRecord(
            (
                *self.submissions[:-1],
                replace(self.submissions[-1], state=state, ended=_now(), said=said),
            )
        )

    def in_the_way(self, host: str, payload: str) -> Submission | None:
        """Return the submission that forbids sending this payload to this leaderboard, if any.

        Only submissions to ``host`` that were not refused are considered. If the latest of them is
        not confirmed, it is returned, else a confirmed one with the same payload. Confirmed ones
        with another payload are no obstacle: scores were added or the metadata were corrected.
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

    def newer_than(self, entry: Submission) -> Submission | None:
        """Return the latest submission if the same leaderboard confirmed it after ``entry``."""
        later = self.submissions[self.submissions.index(entry) + 1 :]
        confirmed = [one for one in later if one.host == entry.host and one.state is Fate.CONFIRMED]
        return confirmed[-1] if confirmed else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
