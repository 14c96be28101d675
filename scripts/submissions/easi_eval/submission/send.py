"""Submit a run at most once: check the record, send, and record the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ..benchmarks import CORE_KEYS, headline_keys
from ..core.atomic_files import write_atomic
from ..core.errors import EasiError, ExitCode
from ..scores.score_table import ScoreTable
from .client import Patience, send
from .endpoint import LOOK_FIRST, check_token
from .parcel import Parcel
from .payload import to_send
from .reply import OutcomeUnknown
from .send_record import FILE, Fate, SendRecord, Submission


def open_benchmarks(scores: ScoreTable, selected: Iterable[str]) -> tuple[str, ...]:
    """Return the benchmarks that are still to be completed before a submission.

    EASI-8 is always required, and so is every selected benchmark.
    """
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
    """Send ``parcel`` for the run in ``folder``, unless its record shows that it was sent before.

    Returns normally only if the leaderboard has confirmed the submission, now or earlier. The
    caller holds the run's lock.

    Args:
        folder: The folder of the run.
        parcel: The request.
        token: The Hugging Face token.
        resubmit: Send even if the record forbids it.
        patience: Time limits.
        say: Called with messages for users.
        admit: Called before anything is recorded or sent; may raise EasiError.

    Raises:
        EasiError: It is not certain that the leaderboard has recorded the submission.
    """
    path = folder / FILE
    if absent := set(headline_keys(CORE_KEYS)) - set(to_send(parcel.payload).get("scores", {})):
        raise EasiError(
            f"nothing was sent: no score for {', '.join(sorted(absent))}", code=ExitCode.NOT_SENT
        )
    record = _load(path, resubmit, say)
    before = record.in_the_way(parcel.host, parcel.payload_digest)
    if before is not None and not resubmit:
        said = f"nothing was sent: {_obstacle(before, parcel, record)}"
        if before.state is not Fate.CONFIRMED:
            raise EasiError(said, LOOK_FIRST, ExitCode.NOT_SENT)
        say(said)
        return
    check_token(token)
    admit()
    record = record.begin(parcel.host, parcel.payload_digest, parcel.archive_digest)
    try:
        # Later runs replace easi_results.zip.
        write_atomic(folder / f"easi_sent_{parcel.archive_digest[:12]}.zip", parcel.archive)
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
            Fate.UNKNOWN if isinstance(error, OutcomeUnknown) else Fate.REFUSED,
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
                "ended while sending; it is unknown whether the leaderboard recorded the "
                "submission: "
                f"{LOOK_FIRST}"
            )
        raise
    _close(record, Fate.CONFIRMED, sent.said, path, say)
    say(f"submitted: {sent.host} confirmed it: {sent.said}; people review it before it is shown")


def describe_submission(folder: Path, parcel: Parcel, resubmit: bool = False) -> str:
    """Return what ``submit`` would do, for users.

    Raises:
        EasiError: The record is damaged.
    """
    record = _load(folder / FILE, resubmit, print)
    before = record.in_the_way(parcel.host, parcel.payload_digest)
    return (
        parcel.describe()
        if before is None or resubmit
        else f"nothing would be sent: {_obstacle(before, parcel, record)}\n{parcel.describe()}"
    )


def _obstacle(before: Submission, parcel: Parcel, record: SendRecord) -> str:
    if before.state is Fate.CONFIRMED:
        other = "" if before.archive == parcel.archive_digest else "with another archive; "
        if newer := record.newer_than(before):
            other += f"one with other scores or metadata, confirmed at {newer.ended}, is newer; "
        again = f" ({other}--resubmit sends this one again)" if other else ""
        return f"already submitted, {before.host} confirmed this payload at {before.ended}{again}"
    how = (
        "was ended while it was sent" if before.state is Fate.SENDING else "has an unknown outcome"
    )
    return f"the submission of {before.began} to {before.host} {how}"


def _load(path: Path, resubmit: bool, say: Callable[[str], None]) -> SendRecord:
    """Return the record of a run.

    A damaged record is an error, because it may have held a confirmed submission; with ``resubmit``
    it is replaced by an empty one.
    """
    try:
        return SendRecord.load(path)
    except (EasiError, ValueError) as error:
        if not resubmit:
            raise EasiError(
                f"nothing was sent: {path} is damaged, so it is unknown what was sent before "
                f"({error})",
                LOOK_FIRST,
                ExitCode.NOT_SENT,
            ) from error
        say(f"{path} is damaged and starts again")
        return SendRecord()


def _close(
    record: SendRecord, state: Fate, said: str, path: Path, say: Callable[[str], None]
) -> None:
    """Record the outcome of the submission.

    If the record cannot be written, that is only reported, so that the outcome itself is not
    hidden. The file then still has the state SENDING, which blocks a second submission.
    """
    try:
        record.end(state, said).save(path)
    except EasiError as error:
        say(f"{error.message}; its state is still {Fate.SENDING}, though the submission is {state}")
