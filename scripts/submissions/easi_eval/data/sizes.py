"""What a fetch would download, without downloading anything."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from ..core.errors import EasiError, Unreachable
from .hub import Hub
from .local_store import local_listing
from .needs import HubSettings, Listing, Need, Repo, Size
from .parallel import Pulse, run_all
from .planning import (
    archive_names,
    plan_needs,
    repo_of,
    target_of,
)


def size_of(needs: Sequence[Need], settings: HubSettings) -> list[Size]:
    """Return what fetching would download and what is present, in the order given.

    Downloads and writes nothing. If the hub does not answer, the size is unknown and the result
    says why; this is not an error.
    """
    pulse = Pulse()
    repos = list(dict.fromkeys(repo_of(need) for need in needs))
    problems: dict[Repo, str] = {}
    listings = {repo: local_listing(settings, repo) for repo in repos}
    if not settings.offline:
        for repo, answer in _ask_each(repos, settings, pulse).items():
            if isinstance(answer, EasiError):
                problems[repo] = answer.message
            else:
                listings[repo] = answer
    return [
        _size(need, listings[repo_of(need)], problems.get(repo_of(need), ""), settings)
        for need in needs
    ]


def _ask_each(
    repos: Sequence[Repo], settings: HubSettings, pulse: Pulse
) -> dict[Repo, Listing | EasiError]:
    """Like ``Hub.list_all``, but return an error in place of each listing that failed."""
    answers: dict[Repo, Listing | EasiError] = {}
    try:
        hub = Hub(settings, pulse)
    except EasiError as error:
        return dict.fromkeys(repos, error)

    def ask(repo: Repo) -> None:
        try:
            answers[repo] = hub.list(repo)
        except Unreachable:
            raise
        except EasiError as error:
            answers[repo] = error

    try:
        run_all(
            [functools.partial(ask, repo) for repo in repos],
            hub.settings.workers,
            pulse,
            hub.watch,
        )
    except EasiError as error:
        return {repo: answers.get(repo, error) for repo in repos}
    return answers


def _size(need: Need, listing: Listing, problem: str, settings: HubSettings) -> Size:
    source = {"hub": settings.endpoint, "record": "the last fetch", "cache": "the cache"}[
        listing.source
    ]
    try:
        planned = plan_needs([need], {listing.repo: listing}, settings)[0]
    except EasiError as error:
        return Size(need, None, 0, 0, source, problem or error.message)
    present = sum(
        item.file.size for item in planned.items if item.file.size >= 0 and item.looks_present()
    )
    to_unpack = 0
    if need.unpack is not None:
        target, names = (
            target_of(planned, settings),
            {part for _, parts in archive_names(planned) for part in parts},
        )
        if not target.folder.exists() or (
            target.sentinel and not (target.folder / target.sentinel).is_file()
        ):
            to_unpack = sum(item.file.size for item in planned.items if item.file.path in names)
    # A cache without a listing does not tell which files are missing, so the total is unknown.
    total = None if listing.source == "cache" else planned.bytes
    return Size(need, total, present, to_unpack, source, problem)
