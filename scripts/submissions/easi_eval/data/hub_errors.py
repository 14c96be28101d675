"""What an error of huggingface_hub means: an EasiError with a hint, and whether to try again."""

from __future__ import annotations

import errno
from urllib.parse import urlsplit

import requests
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)

from ..core.errors import DiskFull, EasiError, Unreachable, is_full
from .needs import HubSettings, Repo

TOO_MANY = 429
PROXY_LOGIN, NETWORK_LOGIN = 407, 511  # the codes of a proxy and of a network's login page
NOT_WRITABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
}


def explain(
    error: BaseException, repo: Repo, settings: HubSettings, answered: bool
) -> BaseException:
    """Return an EasiError with a hint on what to do; an unknown error is returned unchanged.

    It is Unreachable if the hub has never ``answered``: the caller may then use the data on disk.

    Args:
        error: The error behind which ``cause_of`` has looked.
        repo: The repository that was asked for.
        settings: Address and login.
        answered: Whether the hub has decided an earlier request.
    """
    if isinstance(error, EasiError):
        return error
    return (
        _of_library(error, repo, settings)
        or _of_connection(error, repo, settings, answered)
        or _of_status(status_of(error), repo, settings, answered)
        or _of_transfer(error, repo, settings, answered)
        or error
    )


def _page(repo: Repo, settings: HubSettings) -> str:
    return f"{settings.endpoint}/{'datasets/' if repo.kind == 'dataset' else ''}{repo.name}"


def _of_library(error: BaseException, repo: Repo, settings: HubSettings) -> EasiError | None:
    """Explain what the library itself recognised."""
    page = _page(repo, settings)
    match error:
        case OfflineModeIsEnabled():
            return EasiError(
                f"{repo} is not complete on disk and {settings.why_offline}",
                hint=f"unset {settings.offline_by}",
            )
        case GatedRepoError():
            return EasiError(
                f"{repo} is gated and this login has no access to it",
                hint=f"accept its terms on {page}, then set HF_TOKEN to a token of that account",
            )
        case DisabledRepoError():
            return EasiError(f"{repo} has been disabled by the hub", hint=f"see {page}")
        case RevisionNotFoundError():
            return EasiError(f"{repo.name} has no revision {repo.revision!r}", hint=f"see {page}")
        case LocalEntryNotFoundError():
            return EasiError(
                f"{repo}: a file is neither on disk nor available from {settings.endpoint}",
                hint="run it again",
            )
        case EntryNotFoundError():
            return EasiError(f"{repo} lacks a file that is needed", hint=f"see {page}")
        case HFValidationError():
            return EasiError(
                f"{repo.name!r} is not the name of a repo", hint="repos are called owner/name"
            )
    return None


def _of_connection(
    error: BaseException, repo: Repo, settings: HubSettings, answered: bool
) -> EasiError | None:
    """Explain a connection with which no request can succeed."""
    here = settings.endpoint
    match error:
        case requests.exceptions.SSLError():
            if "WRONG_VERSION_NUMBER" in str(error):
                return _no_answer(
                    f"{here} does not use https",
                    "check HF_ENDPOINT: http:// instead of https://, or another port",
                    answered,
                )
            return _no_answer(
                f"no secure connection to {here}: {innermost(error)}",
                "for certificates of your own network set REQUESTS_CA_BUNDLE=/path/to/bundle.pem",
                answered,
            )
        case requests.exceptions.ProxyError():
            if "407" in innermost(error):
                return _proxy_login(answered)
            return _no_answer(
                f"the proxy refuses the connection to {here}: {innermost(error)}",
                "check HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY",
                answered,
            )
        case requests.exceptions.JSONDecodeError() | FileMetadataError():
            return not_a_hub(repo, settings, answered)
        case (
            requests.exceptions.InvalidURL()
            | requests.exceptions.InvalidSchema()
            | requests.exceptions.MissingSchema()
            | requests.exceptions.InvalidHeader()
        ):
            return EasiError(
                f"the request to {here} failed: {error}",
                hint="check HF_ENDPOINT, HTTPS_PROXY, HTTP_PROXY and ALL_PROXY",
            )
    return None


def _of_status(
    status: int | None, repo: Repo, settings: HubSettings, answered: bool
) -> EasiError | None:
    """Explain the status code of a response."""
    here, token, page = settings.endpoint, settings.token, _page(repo, settings)
    if status is None:
        return None
    if status == PROXY_LOGIN:
        return _proxy_login(answered)
    if status == NETWORK_LOGIN:
        return not_a_hub(repo, settings, answered)
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
    if is_busy(status):
        return _no_answer(
            f"the hub at {here} keeps answering HTTP {status} (asked for {repo})",
            "try again later: what was downloaded is kept and continued",
            answered,
        )
    return EasiError(f"the hub at {here} refuses {repo}: HTTP {status}", hint=f"see {page}")


def _of_transfer(
    error: BaseException, repo: Repo, settings: HubSettings, answered: bool
) -> EasiError | None:
    """Explain a download that broke off, or that the disk did not take."""
    if is_lost(error) and not answered:
        return unreachable(settings, error)
    if is_lost(error) or isinstance(error, (RuntimeError, requests.RequestException)):
        return EasiError(
            f"the download from {repo} was interrupted repeatedly: {innermost(error)}",
            hint="the same command continues the download; HF_HUB_DISABLE_XET=1 may help",
        )
    if is_full(error):
        return DiskFull(
            f"the disk is full: {repo} could not be fetched ({error})",
            "what was downloaded is kept",
        )
    if isinstance(error, OSError) and error.errno in NOT_WRITABLE:
        return EasiError(
            f"cannot write {repo} to disk: {error}",
            hint="set HF_HOME or --dataset-dir to another folder",
        )
    if isinstance(error, OSError):
        return EasiError(
            f"{repo} could not be fetched: {error}", hint="the same command continues the download"
        )
    if isinstance(error, (KeyError, TypeError)):
        return not_a_hub(repo, settings, answered)
    return None


def unreachable(settings: HubSettings, cause: BaseException | None = None) -> Unreachable:
    """Return the error for a hub that does not answer."""
    said = f": {innermost(cause)}" if cause is not None else ""
    return Unreachable(
        f"the hub at {settings.endpoint} cannot be reached{said}",
        hint="check the network, HF_ENDPOINT and the proxy variables; "
        "where all data is present already, HF_HUB_OFFLINE=1 works without a network",
    )


def not_a_hub(repo: Repo, settings: HubSettings, answered: bool) -> EasiError:
    """Return the error for an answer that no hub would give."""
    return _no_answer(
        f"{settings.endpoint} does not answer like a Hugging Face hub (asked for {repo})",
        "check HF_ENDPOINT; a login page of the network or a proxy may be in between",
        answered,
    )


def _proxy_login(answered: bool) -> EasiError:
    return _no_answer(
        "the proxy requires a name and a password (HTTP 407)",
        "write them into the variable: HTTPS_PROXY=http://name:password@host:port",
        answered,
    )


def _no_answer(message: str, hint: str, answered: bool) -> EasiError:
    return EasiError(message, hint) if answered else Unreachable(message, hint)


def cause_of(error: BaseException) -> BaseException:
    """Return the error behind a "not found locally", in which the library wraps all HEAD errors."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return error.__cause__
    return error


def status_of(error: BaseException) -> int | None:
    """Return the status code of the response that an error is about, if there is one."""
    response = (
        getattr(error, "response", None) if isinstance(error, requests.RequestException) else None
    )
    return None if response is None else response.status_code


def is_busy(status: int | None) -> bool:
    """Return whether a server with this status cannot answer now but may later."""
    return status in (408, TOO_MANY) or (
        status is not None and status >= 500 and status not in (501, 505, 511)
    )


def is_lost(error: BaseException) -> bool:
    """Return whether the connection failed, rather than the request."""
    return isinstance(
        error,
        (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError),
    )


def is_transient(error: BaseException) -> bool:
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
    if isinstance(error, requests.exceptions.ProxyError) and "407" in innermost(error):
        return False
    status = status_of(error)
    if status is not None:
        return is_busy(status)
    if is_lost(error):
        return True
    # The library raises a bare OSError for a wrong size, and its Xet and hf_transfer clients raise
    # RuntimeError for any failure.
    return isinstance(error, RuntimeError) or (
        isinstance(error, OSError)
        and error.errno is None
        and not isinstance(error, requests.RequestException)
    )


def innermost(error: object) -> str:
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
