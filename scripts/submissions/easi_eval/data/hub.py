"""Access to a hub through huggingface_hub: listings, single files, retries."""

from __future__ import annotations

import functools
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import requests
from huggingface_hub import HfApi, _local_folder, constants, file_download, hf_hub_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import WeakFileLock, disable_progress_bars, logging
from huggingface_hub.utils._http import http_backoff, reset_sessions

from ..core.errors import EasiError, Unreachable
from ..core.locks import file_lock, lacks_locks, on_stderr
from .connection import refuse_unusable
from .hub_errors import (
    NETWORK_LOGIN,
    PROXY_LOGIN,
    TOO_MANY,
    cause_of,
    explain,
    innermost,
    is_busy,
    is_lost,
    is_transient,
    not_a_hub,
    status_of,
    unreachable,
)
from .needs import FileRecord, HubSettings, Listing, Repo
from .parallel import Pulse, run_all

LONGEST_WAIT = 60.0  # seconds between two attempts
SAID_AGAIN = 60.0  # seconds until the same message about a retry may be shown again
PIECE = 1 << 16  # bytes per write of a download
Result = TypeVar("Result")


# Endpoints that gave no answer in this process; later requests wait for them less long.
given_up: set[str] = set()


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

    def list_all(self, repos: Sequence[Repo]) -> dict[Repo, Listing]:
        """Return all listings; they are asked for in parallel.

        Raises:
            Unreachable: No answer came in time.
            EasiError: A repository cannot be listed; the first such error.
        """
        answers: dict[Repo, Listing] = {}

        def ask(repo: Repo) -> Callable[[], None]:
            return lambda: answers.__setitem__(repo, self.list(repo))

        run_all([ask(repo) for repo in repos], self.settings.workers, self.pulse, self.watch)
        return answers

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

    def watch(self) -> None:
        """Show messages about retries, and end the fetch if no data came for too long.

        The reporting thread calls this regularly while worker threads fetch.

        Raises:
            Unreachable: No server has responded within the patience of the settings.
            EasiError: Nothing has moved for ``settings.stall`` seconds.
        """
        self.tell()
        silence = self.pulse.silence()
        if not (self.answered or self.spoken) and silence > self._patience:
            raise self._noted(unreachable(self.settings))
        if silence > self.settings.stall:
            why = f" ({self.trouble})" if self.trouble else ""
            raise EasiError(
                f"no data received for {silence:.0f} s "
                f"while fetching from {self.settings.endpoint}{why}",
                hint="the same command continues the download",
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
            raise not_a_hub(repo, self.settings, self.answered)
        self._heard()
        return info.sha

    def _heard(self, status: int = 200) -> None:
        """Record a response.

        A server that is out of order, or a proxy in front of the hub, counts as ``spoken`` but not
        as ``answered``.
        """
        self.spoken = True
        if status == TOO_MANY or not (is_busy(status) or status in (PROXY_LOGIN, NETWORK_LOGIN)):
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
            except Exception as error:  # ``explain`` returns an unknown error unchanged
                cause = cause_of(error)
                status = status_of(cause)
                if status is not None:
                    self._heard(status)
                if not is_transient(cause):
                    raise self._noted(explain(cause, repo, self.settings, self.answered)) from error
                now = progress()
                if failures is None or now > reached:
                    failures = _Failures(time.monotonic())
                else:
                    failures.count += 1
                reached = max(now, reached)
                retries, seconds = self._allowed(status)
                left = failures.since + seconds - time.monotonic()
                if failures.count > retries or left <= 0:
                    raise self._noted(explain(cause, repo, self.settings, self.answered)) from error
                wait = min(self._pause(cause, failures.count), left)
                self._note_retry(cause, failures.count, retries, wait, repo)
                self.pulse.wait(wait)

    def _noted(self, error: BaseException) -> BaseException:
        """Note whether the hub was given up, and return the error."""
        if isinstance(error, Unreachable):
            given_up.add(self.settings.endpoint)
        return error

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
        first = self.settings.backoff * (1 if is_lost(error) else 2)
        wait = float(after) if after.isdigit() else first * 2 ** min(count - 1, 10)
        return min(wait, LONGEST_WAIT)

    def _note_retry(
        self, error: BaseException, count: int, retries: float, wait: float, repo: Repo
    ) -> None:
        status = status_of(error)
        self.trouble = (
            f"the hub answers {status}"
            if status is not None
            else f"the connection to the hub broke: {innermost(error)}"
        )
        if self.answered:
            self._lines.put(f"{self.trouble}; trying again in {wait:.0f} s ({repo})")
        elif status is not None:
            self._lines.put(
                f"{self.trouble}; trying again, {count} of {retries:.0f} ({self.settings.endpoint})"
            )


def _lock(lock_file: str | Path, *, timeout: float | None = None) -> AbstractContextManager[object]:
    """Replace the library's file lock on file systems without locks.

    There the library's lock fails, or waits for a file that a real lock left behind.
    """
    return (
        file_lock(lock_file)
        if lacks_locks(Path(lock_file).absolute().parent)
        else WeakFileLock(lock_file, timeout=timeout)
    )
