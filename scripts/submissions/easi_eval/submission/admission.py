"""Check what the leaderboard demands of a model: it is public, and its card names a license."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..config import RunConfig, SubmissionConfig
from ..core.errors import EasiError, ExitCode
from ..data.needs import HubSettings

# Returns a model's license: "" if its card names none, None if there is no such model. Raises
# EasiError if the hub does not answer.
License = Callable[[str], "str | None"]


def check_admission(
    cfg: RunConfig, hub: HubSettings, code: ExitCode = ExitCode.REFUSED
) -> tuple[str, ...]:
    """Check on the hub what the leaderboard will check there.

    Args:
        cfg: The run; nothing is checked without ``--submit``.
        hub: The hub to ask.
        code: Exit code of the error.

    Returns:
        A note if the hub does not answer.

    Raises:
        EasiError: The leaderboard would reject the model.
    """
    if not cfg.submit or cfg.submission is None:
        return ()

    def license_of(name: str) -> str | None:
        from ..data import cards  # loads the hub's client

        return cards.license_of(name, hub)

    return tuple(filter(None, [check_public(cfg.submission, license_of, code)]))


def check_public(
    given: SubmissionConfig, license_of: License, code: ExitCode = ExitCode.REFUSED
) -> str:
    """Check that the submitted model and its base model are public and have a license.

    Args:
        given: The submission's metadata.
        license_of: Looks up a model's license on the hub.
        code: The exit code of a refusal.

    Returns:
        A warning if the hub could not be asked, else "".

    Raises:
        EasiError: The leaderboard would reject the model.
    """
    named = [("modelName", given.modelName)]
    if given.weightType != "Original":
        named.append(("baseModel", given.baseModel.strip()))
    for field, name in named:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII):
            raise EasiError(
                f"--submission-configs: {field} is {name!r}, not a Hugging Face model id",
                hint="the leaderboard looks it up on the hub: write org/model",
                code=code,
            )
        try:
            license = license_of(name)
        except EasiError as error:
            return (
                f"it could not be checked whether {' and '.join(each for _, each in named)} is "
                f"public and has a license, as the leaderboard requires ({error.message})"
            )
        if license is None:
            raise EasiError(
                f"{field} {name} is not on the hub, or it is private: the leaderboard requires a "
                f"public model",
                hint=f"make it public, or correct {field}",
                code=code,
            )
        if not license:
            raise EasiError(
                f"the card of {field} {name} names no license, which the leaderboard requires",
                hint="add a line like license: apache-2.0 to the head of its README.md on the hub",
                code=code,
            )
    return ""
