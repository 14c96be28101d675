"""Access to a hub through huggingface_hub: listings, single files, retries.

Errors of the library become EasiErrors with a hint on what the user can do.
"""

from __future__ import annotations

import errno
import functools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from huggingface_hub import HfApi, _local_folder, constants, file_download, hf_hub_download
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import WeakFileLock, disable_progress_bars, logging
from huggingface_hub.utils._http import http_backoff, reset_sessions

from ..core.errors import DiskFull, EasiError, Unreachable, is_full
from ..core.locks import file_lock, lacks_locks, on_stderr
from .connection import refuse_unusable
from .needs import FileRecord, HubSettings, Listing, Repo
from .parallel import Pulse, run_all

TOO_MANY = 429
IN_BETWEEN = (407, 511)  # status codes of a proxy and of a network's login page, not of the hub
LONGEST_WAIT = 60.0  # seconds between two attempts
SAID_AGAIN = 60.0  # seconds until the same message about a retry may be shown again
PIECE = 1 << 16  # bytes per write of a download
NOT_WRITABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
}
Result = TypeVar("Result")


class _GivenUp:
    """Endpoints that gave no answer in this process; later requests wait for them less long."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._endpoints: set[str] = set()

    def __contains__(self, endpoint: str) -> bool:
        with self._lock:
            return endpoint in self._endpoints

    def add(self, endpoint: str) -> None:
        with self._lock:
            self._endpoints.add(endpoint)

    def discard(self, endpoint: str) -> None:
        with self._lock:
            self._endpoints.discard(endpoint)


given_up = _GivenUp()


@dataclass
class _Failures:
    """The failed attempts of one request since its last progress.

    Attributes:
        since: Time of the first of them, on the monotonic clock.
        count: Their number.
    """

    since: float
    count: int = 1


class Hub:
    """Client of one hub for one user.

    ``list``, ``download``, ``commit`` and ``license`` block until they are done, retry, and are
    called from worker threads. ``watch`` and ``tell`` are called from the reporting thread.

    Attributes:
        settings: Address, login, cache and time limits.
        pulse: Progress shared with the reporting thread; stops the worker threads.
        answered: The hub has decided a request, with data or a refusal.
        spoken: A server has responded, if only to say that it cannot answer now.
        trouble: The last failure that led to a retry; "" if there was none.
    """

    def __init__(
        self, settings: HubSettings, pulse: Pulse, say: Callable[[str], None] = on_stderr
    ) -> None:
        refuse_unusable(settings)
        # This program shows retries and progress; output of the library would break the live view.
        logging.set_verbosity_error()
        disable_progress_bars()
        # By default the library writes 10 MB at a time and loses an unfinished piece, so that a
        # connection which breaks often would never make progress.
        constants.DOWNLOAD_CHUNK_SIZE = PIECE
        # The library's own retries are silent and would multiply with those of ``_persist``.
        file_download.http_backoff = functools.partial(http_backoff, max_retries=0)
        places: tuple[Any, ...] = (file_download, _local_folder)  # typed for its own lock alone
        for place in places:
            place.WeakFileLock = _lock
        # The library reads HF_HUB_OFFLINE only when it is imported; the settings may differ since.
        if settings.offline != constants.HF_HUB_OFFLINE:
            constants.HF_HUB_OFFLINE = settings.offline
            reset_sessions()
        self.settings = settings
        self.pulse = pulse
        self.answered = False
        self.spoken = False
        self.trouble = ""
        self._say = say
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._told: dict[str, float] = {}
        self._api = HfApi(endpoint=settings.endpoint, token=settings.token or False)

    def list(self, repo: Repo) -> Listing:
        """Return the files of the commit that the revision names now."""
        return self._persist(lambda: self._list(repo), repo, lambda: 0)

    def download(
        self,
        repo: Repo,
        commit: str,
        path: str,
        progress: Callable[[], int],
        *,
        local_dir: str | None = None,
    ) -> str:
        """Download one file; an interrupted download is continued.

        Args:
            repo: The repository.
            commit: The commit of the file.
            path: Its path in the repository.
            progress: Returns how many bytes are on disk. The count of failed attempts starts again
                whenever it has grown.
            local_dir: Download below this folder instead of the hub cache.

        Returns:
            The path of the file on disk. Its digest is not checked here.
        """
        # With local_dir the library copies a file from its cache unchecked. The usual cache has
        # been searched before (see ``files.bring``), so a separate one is used.
        cache = Path(local_dir, "cache") if local_dir else self.settings.hub_cache

        def get() -> str:
            return hf_hub_download(
                repo.name,
                path,
                repo_type=repo.kind,
                revision=commit,
                cache_dir=cache,
                local_dir=local_dir,
                token=self.settings.token or False,
                endpoint=self.settings.endpoint,
            )

        return self._persist(get, repo, progress)

    def unreachable(self, cause: object = None) -> Unreachable:
        """Return the error for a hub that does not answer, and note that it was given up."""
        given_up.add(self.settings.endpoint)
        said = f": {_innermost(cause)}" if isinstance(cause, BaseException) else ""
        return Unreachable(
            f"the hub at {self.settings.endpoint} cannot be reached{said}",
            hint="check the network, HF_ENDPOINT and the proxy variables; "
            "where all data is present already, HF_HUB_OFFLINE=1 works without a network",
        )

    def watch(self) -> None:
        """Show messages about retries, and end the fetch if nothing has moved for too long.

        The reporting thread calls this regularly while worker threads fetch.

        Raises:
            Unreachable: No server has responded within the patience of the settings.
            EasiError: Nothing has moved for ``settings.stall`` seconds.
        """
        self.tell()
        silence = self.pulse.silence()
        if not (self.answered or self.spoken) and silence > self._patience:
            raise self.unreachable()
        if silence > self.settings.stall:
            why = f" ({self.trouble})" if self.trouble else ""
            raise EasiError(
                f"nothing has moved for {silence:.0f} s "
                f"while fetching from {self.settings.endpoint}{why}",
                hint="run it again, it continues where it was",
            )

    def tell(self) -> None:
        """Show the messages about retries that worker threads have queued."""
        while True:
            try:
                line = self._lines.get_nowait()
            except queue.Empty:
                return
            now = time.monotonic()
            if now - self._told.get(line, -SAID_AGAIN) >= SAID_AGAIN:
                self._told[line] = now
                self._say(line)

    @property
    def _patience(self) -> float:
        """Seconds to wait for a first response; shorter for a hub that was given up before."""
        known = self.settings.endpoint in given_up
        return (
            min(self.settings.patience, self.settings.patience_again)
            if known
            else self.settings.patience
        )

    def commit(self, repo: Repo) -> str:
        """Return the commit that the revision names now."""
        return self._persist(lambda: self._commit(repo), repo, lambda: 0)

    def license(self, name: str) -> str | None:
        """Return the license that a model's card names.

        "" if it names none; None if there is no such model, or this user cannot see it.
        """
        return self._persist(lambda: self._license(name), Repo("model", name, "main"), lambda: 0)

    def _license(self, name: str) -> str | None:
        try:
            info = self._api.model_info(
                name, expand=["cardData", "tags"], timeout=min(10.0, self._patience)
            )
        except GatedRepoError:
            raise
        except RepositoryNotFoundError:
            self._heard(404)
            return None
        self._heard()
        tagged = [tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")]
        card = info.card_data
        return str((card.get("license") if card else "") or "") or "".join(tagged[:1])

    def _list(self, repo: Repo) -> Listing:
        # The commit first: this short request shows quickly whether the hub answers.
        commit = self._commit(repo)
        files = []
        for entry in self._api.list_repo_tree(
            repo.name, recursive=True, revision=commit, repo_type=repo.kind
        ):
            self.pulse.beat()
            if isinstance(entry, RepoFile):
                large = entry.lfs
                files.append(
                    FileRecord(
                        entry.path,
                        entry.size if large is None else large.size,
                        entry.blob_id if large is None else large.sha256,
                    )
                )
        return Listing(repo, commit, tuple(sorted(files, key=lambda file: file.path)))

    def _commit(self, repo: Repo) -> str:
        info = self._api.repo_info(
            repo.name,
            repo_type=repo.kind,
            revision=repo.revision,
            expand=["sha"],  # type: ignore[arg-type]  # annotated as one name, documented as a list
            timeout=min(10.0, self._patience),
        )
        if not info.sha:
            raise self._not_a_hub(repo)
        self._heard()
        return info.sha

    def _heard(self, status: int = 200) -> None:
        """Record a response.

        A server that is out of order, or a proxy in front of the hub, counts as ``spoken`` but not
        as ``answered``.
        """
        self.spoken = True
        if status == TOO_MANY or not (_busy(status) or status in IN_BETWEEN):
            self.answered = True
            given_up.discard(self.settings.endpoint)
        self.pulse.beat()

    def _persist(
        self, action: Callable[[], Result], repo: Repo, progress: Callable[[], int]
    ) -> Result:
        """Call ``action`` until it succeeds, with a longer pause after each failure.

        ``_allowed`` says when to give up. A failure after new bytes arrived counts as the first.
        """
        failures, reached = None, progress()
        while True:
            try:
                return action()
            except Exception as error:  # ``_explain`` returns an unknown error unchanged
                cause = _cause(error)
                status = _status(cause)
                if status is not None:
                    self._heard(status)
                if not _transient(cause):
                    raise self._explain(cause, repo) from error
                now = progress()
                if failures is None or now > reached:
                    failures = _Failures(time.monotonic())
                else:
                    failures.count += 1
                reached = max(now, reached)
                retries, seconds = self._allowed(status)
                left = failures.since + seconds - time.monotonic()
                if failures.count > retries or left <= 0:
                    raise self._explain(cause, repo) from error
                wait = min(self._pause(cause, failures.count), left)
                self._note_retry(cause, failures.count, retries, wait, repo)
                self.pulse.wait(wait)

    def _allowed(self, status: int | None) -> tuple[float, float]:
        """Return the permitted retries without progress, and the permitted seconds.

        A hub that was given up in this process is not retried. Before the first answer,
        ``settings.retries`` apply if a server responded with ``status``, else two. After it only
        the time is limited.
        """
        settings = self.settings
        if settings.endpoint in given_up:
            return 0, settings.out_of_order
        if self.answered:
            return float("inf"), settings.stall
        return (settings.retries if status is not None else 2), settings.out_of_order

    def _pause(self, error: BaseException, count: int) -> float:
        after = ""
        if isinstance(error, requests.RequestException) and error.response is not None:
            after = error.response.headers.get("Retry-After", "")
        # A server that is out of order needs more time than a broken connection.
        first = self.settings.backoff * (1 if _lost(error) else 2)
        wait = float(after) if after.isdigit() else first * 2 ** min(count - 1, 10)
        return min(wait, LONGEST_WAIT)

    def _note_retry(
        self, error: BaseException, count: int, retries: float, wait: float, repo: Repo
    ) -> None:
        status = _status(error)
        self.trouble = (
            f"the hub answers {status}"
            if status is not None
            else f"the connection to the hub broke: {_innermost(error)}"
        )
        if self.answered:
            self._lines.put(f"{self.trouble}; trying again in {wait:.0f} s ({repo})")
        elif status is not None:
            self._lines.put(
                f"{self.trouble}; trying again, {count} of {retries:.0f} ({self.settings.endpoint})"
            )

    def _not_a_hub(self, repo: Repo) -> EasiError:
        return self._no_answer(
            f"{self.settings.endpoint} does not answer like a Hugging Face hub (asked for {repo})",
            "check HF_ENDPOINT; a login page of the network or a proxy may be in between",
        )

    def _no_answer(self, message: str, hint: str) -> EasiError:
        """Return the error for a request without a usable answer.

        It is Unreachable if the hub has never answered: the caller may then use the data on disk,
        and later requests do not wait for the hub.
        """
        if self.answered:
            return EasiError(message, hint)
        given_up.add(self.settings.endpoint)
        return Unreachable(message, hint)

    def _proxy_login(self) -> EasiError:
        return self._no_answer(
            "the proxy wants a name and a password (HTTP 407)",
            "write them into the variable: HTTPS_PROXY=http://name:password@host:port",
        )

    def _explain(self, error: BaseException, repo: Repo) -> BaseException:
        """Return an EasiError with a hint on what to do; an unknown error is returned unchanged."""
        here, token = self.settings.endpoint, self.settings.token
        page = f"{here}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.name}"
        status = _status(error)
        match error:
            case EasiError():
                return error
            case OfflineModeIsEnabled():
                return EasiError(
                    f"{repo} is not complete on disk and {self.settings.why_offline}",
                    hint=f"unset {self.settings.offline_by}",
                )
            case GatedRepoError():
                return EasiError(
                    f"{repo} is gated and this login has no access to it",
                    hint=f"accept its terms on {page}, "
                    "then set HF_TOKEN to a token of that account",
                )
            case DisabledRepoError():
                return EasiError(f"{repo} has been disabled by the hub", hint=f"see {page}")
            case RevisionNotFoundError():
                return EasiError(
                    f"{repo.name} has no revision {repo.revision!r}", hint=f"see {page}"
                )
            case LocalEntryNotFoundError():
                return EasiError(
                    f"{repo}: a file is neither on disk nor to be had from {here}",
                    hint="run it again",
                )
            case EntryNotFoundError():
                return EasiError(f"{repo} has not the file that is needed", hint=f"see {page}")
            case HFValidationError():
                return EasiError(
                    f"{repo.name!r} is not the name of a repo", hint="repos are called owner/name"
                )
            case requests.exceptions.SSLError():
                if "WRONG_VERSION_NUMBER" in str(error):
                    return self._no_answer(
                        f"{here} does not speak https",
                        "is it http:// in HF_ENDPOINT, or another port?",
                    )
                return self._no_answer(
                    f"no safe connection to {here}: {_innermost(error)}",
                    "certificates of your own network go into "
                    "REQUESTS_CA_BUNDLE=/path/to/bundle.pem",
                )
            case requests.exceptions.ProxyError():
                if "407" in _innermost(error):
                    return self._proxy_login()
                return self._no_answer(
                    f"the proxy does not let us through to {here}: {_innermost(error)}",
                    "check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY",
                )
            case requests.exceptions.JSONDecodeError() | FileMetadataError():
                return self._not_a_hub(repo)
            case (
                requests.exceptions.InvalidURL()
                | requests.exceptions.InvalidSchema()
                | requests.exceptions.MissingSchema()
                | requests.exceptions.InvalidHeader()
            ):
                return EasiError(
                    f"{here} cannot be asked: {error}",
                    hint="check HF_ENDPOINT, HTTPS_PROXY, HTTP_PROXY and ALL_PROXY",
                )
        if status == 407:
            return self._proxy_login()
        if status == 511:
            return self._not_a_hub(repo)
        if status == 401 and token:
            return EasiError(
                f"the hub at {here} does not accept the token (asked for {repo})",
                hint="replace HF_TOKEN or the stored login; public data needs neither",
            )
        if status in (401, 404):
            return EasiError(
                f"there is no {repo.kind} {repo} at {urlsplit(here).netloc}, or it is private",
                hint="check the name and HF_ENDPOINT"
                + ("" if token else "; for private data set HF_TOKEN"),
            )
        if status == 403:
            return EasiError(
                f"this login has no access to {repo}", hint=f"see {page} and the rights of HF_TOKEN"
            )
        if _busy(status):
            return self._no_answer(
                f"the hub at {here} keeps answering HTTP {status} (asked for {repo})",
                "try again later: what was downloaded is kept and continued",
            )
        if status is not None:
            return EasiError(f"the hub at {here} refuses {repo}: HTTP {status}", hint=f"see {page}")
        if _lost(error) and not self.answered:
            return self.unreachable(error)
        if _lost(error) or isinstance(error, (RuntimeError, requests.RequestException)):
            return EasiError(
                f"the download from {repo} keeps breaking off: {_innermost(error)}",
                hint="run it again, it continues where it was; "
                "HF_HUB_DISABLE_XET=1 avoids one kind of storage",
            )
        if is_full(error):
            return DiskFull(
                f"the disk took no more while {repo} was fetched ({error})",
                "what was downloaded is kept",
            )
        if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
            return EasiError(
                f"cannot write {repo} to disk: {error}",
                hint="HF_HOME and --dataset-dir choose other places",
            )
        if isinstance(error, OSError):
            return EasiError(
                f"{repo} could not be fetched: {error}",
                hint="run it again, it continues where it was",
            )
        if isinstance(error, (KeyError, TypeError)):
            return self._not_a_hub(repo)
        return error


def _lock(lock_file: str | Path, *, timeout: float | None = None) -> AbstractContextManager[object]:
    """Replace the library's file lock on file systems without locks.

    There the library's lock fails, or waits for a file that a real lock left behind.
    """
    return (
        file_lock(lock_file)
        if lacks_locks(Path(lock_file).absolute().parent)
        else WeakFileLock(lock_file, timeout=timeout)
    )


def _cause(error: BaseException) -> BaseException:
    """Return the error behind a "not found locally", in which the library wraps all HEAD errors."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return error.__cause__
    return error


def _status(error: BaseException) -> int | None:
    response = (
        getattr(error, "response", None) if isinstance(error, requests.RequestException) else None
    )
    return None if response is None else response.status_code


def _busy(status: int | None) -> bool:
    """Return whether a server with this status cannot answer now but may later."""
    return status in (408, TOO_MANY) or (
        status is not None and status >= 500 and status not in (501, 505, 511)
    )


def _lost(error: BaseException) -> bool:
    """Return whether the connection failed, rather than the request."""
    return isinstance(
        error,
        (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError),
    )


def _transient(error: BaseException) -> bool:
    """Return whether the same request may succeed later."""
    if isinstance(
        error,
        (
            EasiError,
            OfflineModeIsEnabled,
            requests.exceptions.SSLError,
            FileMetadataError,
            NotImplementedError,
        ),
    ):
        return False
    if isinstance(error, requests.exceptions.ProxyError) and "407" in _innermost(error):
        return False
    status = _status(error)
    if status is not None:
        return _busy(status)
    if _lost(error):
        return True
    # The library raises a bare OSError for a wrong size, and its Xet and hf_transfer clients raise
    # RuntimeError for any failure.
    return isinstance(error, RuntimeError) or (
        isinstance(error, OSError)
        and error.errno is None
        and not isinstance(error, requests.RequestException)
    )


def _innermost(error: object) -> str:
    """Return the innermost reason of a chain of library errors, as one line."""
    text, seen = error, 0
    while isinstance(text, BaseException) and seen < 10:
        reason = getattr(text, "reason", None)
        inner = (
            reason
            if isinstance(reason, BaseException)
            else next((arg for arg in text.args if isinstance(arg, BaseException)), None)
        )
        if inner is None:
            break
        text, seen = inner, seen + 1
    return (str(text).rsplit(": ", 1)[-1].strip().splitlines() or [type(text).__name__])[0]


def list_all(repos: Sequence[Repo], hub: Hub, pulse: Pulse) -> dict[Repo, Listing]:
    """Ask the hub for all listings in parallel.

    Raises:
        Unreachable: No answer came in time.
        EasiError: A repository cannot be listed; the first such error.
    """
    answers: dict[Repo, Listing] = {}

    def ask(repo: Repo) -> Callable[[], None]:
        return lambda: answers.__setitem__(repo, hub.list(repo))

    run_all([ask(repo) for repo in repos], hub.settings.workers, pulse, hub.watch)
    return answers
