"""One submission of one run, at most once: the record, the sending, and the record again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ..benchmarks import CORE_KEYS, headline_keys
from ..errors import EasiError, ExitCode
from ..results.scores import ScoreTable
from .client import Parcel, Patience, Unknown, send
from .endpoint import LOOK_FIRST, check_token
from .payload import to_send
from .record import FILE, Fate, Record, Submission


def lacking(scores: ScoreTable, selected: Iterable[str]) -> tuple[str, ...]:
    """What must be complete before this may be sent: EASI-8 always, and whatever else was asked for."""
    return scores.lacking(dict.fromkeys((*CORE_KEYS, *selected)))


def submit(
    folder: Path,
    parcel: Parcel,
    token: str | None,
    resubmit: bool = False,
    patience: Patience = Patience(),
    say: Callable[[str], None] = print,
    admit: Callable[[], None] = lambda: None,
) -> None:
    """Send ``parcel`` for the run in ``folder`` unless the record there says that the board has it. Returns if the board does.

    ``admit`` is called before anything is noted or sent, and may refuse. The caller holds the run's lock. Raises EasiError (exit code 3) whenever it is not certain that the board has it.
    """
    path = folder / FILE
    if absent := set(headline_keys(CORE_KEYS)) - set(to_send(parcel.payload).get("scores", {})):
        raise EasiError(
            f"nothing was sent: no score for {', '.join(sorted(absent))}", code=ExitCode.NOT_SENT
        )
    record = _load(path, resubmit, say)
    before = record.in_the_way(parcel.host, parcel.payload_digest)
    if before is not None and not resubmit:
        if before.state is not Fate.CONFIRMED:
            raise EasiError(
                f"nothing was sent: {_obstacle(before, parcel)}", LOOK_FIRST, ExitCode.NOT_SENT
            )
        say(f"nothing was sent: {_obstacle(before, parcel)}")
        return
    check_token(token)
    admit()
    record = record.begin(parcel.host, parcel.payload_digest, parcel.archive_digest)
    try:
        record.save(path)
    except EasiError as error:
        raise EasiError(
            f"nothing was sent: {error.message}", error.hint, ExitCode.NOT_SENT
        ) from error
    say(f"sending {len(parcel.body):,} bytes to {parcel.host}")
    try:
        sent = send(parcel, token, patience, say)
    except EasiError as error:
        _close(
            record,
            Fate.UNKNOWN if isinstance(error, Unknown) else Fate.REFUSED,
            error.message,
            path,
            say,
        )
        raise
    except BaseException as error:
        _close(
            record,
            Fate.UNKNOWN if parcel.in_doubt else Fate.REFUSED,
            f"ended by {type(error).__name__}",
            path,
            say,
        )
        if parcel.in_doubt:
            say(
                f"ended while sending; whether the board has recorded the submission is unknown: {LOOK_FIRST}"
            )
        raise
    _close(record, Fate.CONFIRMED, sent.said, path, say)
    say(f"submitted: {sent.host} confirmed it: {sent.said}; people review it before it is shown")


def describe(folder: Path, parcel: Parcel, resubmit: bool = False) -> str:
    """What ``submit`` would do, for people. Raises EasiError as it does for a damaged record."""
    before = _load(folder / FILE, resubmit, print).in_the_way(parcel.host, parcel.payload_digest)
    return (
        parcel.describe()
        if before is None or resubmit
        else f"nothing would be sent: {_obstacle(before, parcel)}\n{parcel.describe()}"
    )


def _obstacle(before: Submission, parcel: Parcel) -> str:
    if before.state is Fate.CONFIRMED:
        other = (
            ""
            if before.archive == parcel.archive_digest
            else " (its archive was another one; --resubmit sends it again)"
        )
        return f"already submitted, {before.host} confirmed this payload at {before.ended}{other}"
    how = (
        "was ended while it was sent" if before.state is Fate.SENDING else "has an unknown outcome"
    )
    return f"the submission of {before.began} to {before.host} {how}"


def _load(path: Path, resubmit: bool, say: Callable[[str], None]) -> Record:
    """A record that cannot be read may hold anything, also a confirmed submission."""
    try:
        return Record.load(path)
    except (EasiError, ValueError) as error:
        if not resubmit:
            raise EasiError(
                f"nothing was sent: {path} is damaged, so nobody knows what was sent before ({error})",
                LOOK_FIRST,
                ExitCode.NOT_SENT,
            ) from error
        say(f"{path} is damaged and begun anew")
        return Record()


def _close(record: Record, state: Fate, said: str, path: Path, say: Callable[[str], None]) -> None:
    """Note how it ended. A disk that will not take it must not hide that; the note of the beginning is then the safe one."""
    try:
        record.end(state, said).save(path)
    except EasiError as error:
        say(
            f"{error.message}; it still says that a submission is under way, which in fact is {state}"
        )
