"""Check that ``modelName`` and ``revision`` name the evaluated model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import RunConfig, SubmissionConfig
from ..core.errors import EasiError, ExitCode
from ..core.manifest import Manifest
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths
from ..data.needs import HubSettings

if TYPE_CHECKING:
    from .checkpoint_match import CheckpointMatch

MAIN = "main"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_SNAPSHOT = re.compile(r"models--([\w.-]+?)--([\w.-]+)/snapshots/([0-9a-f]{40})/?$")
_COMMIT = re.compile(r"[0-9a-f]{7,40}")

Compare = Callable[
    [Path, str, str], "CheckpointMatch"
]  # folder, repository, revision; raises EasiError


@dataclass(frozen=True)
class Evaluated:
    """The model that was evaluated.

    Attributes:
        repo: Its id on the hub; "" if it was not a checkpoint of the hub.
        asked: The revision that was asked for.
        commit: The commit of that revision; "" if not known yet.
        folder: The local folder with the checkpoint, if it is not from the hub.
        digest: A digest of the config and weights in that folder.
        served: The name that a server has for the model, if it was evaluated through a server.
    """

    repo: str = ""
    asked: str = MAIN
    commit: str = ""
    folder: Path | None = None
    digest: str = ""
    served: str = ""

    @classmethod
    def of(cls, model: ModelChoice, revisions: Mapping[str, str]) -> Evaluated:
        """Return the evaluated model, from the user's choice and the commits in the manifest."""
        if model.served:
            return cls(served=model.path)
        folder = Path(model.path)
        if not folder.is_absolute() and _HUB_ID.fullmatch(model.path):
            asked = model.revision or MAIN
            return cls(
                model.path,
                asked,
                revisions.get(model.path)
                or (asked if len(asked) == 40 and _COMMIT.fullmatch(asked) else ""),
            )
        cached = _SNAPSHOT.search(model.path)
        if cached:  # a checkpoint of the hub, given by its path in the cache
            main = folder.parent.parent / "refs" / MAIN
            at_main = main.is_file() and main.read_text(encoding="utf-8").strip() == cached[3]
            return cls(f"{cached[1]}/{cached[2]}", MAIN if at_main else cached[3], cached[3])
        return cls(folder=folder, digest=model.revision)


@dataclass(frozen=True)
class Naming:
    """The outcome of the check.

    Attributes:
        differs: How the metadata differ from the evaluated model, one line each.
        remarks: Lines for the submission's remarks.
        unchecked: Whether ``differs`` only says why nothing could be compared.
    """

    differs: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    unchecked: bool = False


def check_metadata(cfg: RunConfig, model: ModelChoice, paths: RunPaths, hub: HubSettings) -> Naming:
    """Compare the submission's metadata with the model that is evaluated.

    Raises:
        EasiError: They name another model or revision, and ``--model-name-differs`` is not given.
    """
    if cfg.submission is None or cfg.smoke:
        return Naming()

    def compare(folder: Path, repo: str, revision: str) -> CheckpointMatch:
        from .checkpoint_match import match_checkpoint  # loads the hub's client

        print(f"comparing the files of {folder} with {repo} on the hub")
        return match_checkpoint(folder, repo, revision, hub)

    before = Manifest.load(paths.manifest)
    found = compare_with_evaluated(
        cfg.submission, Evaluated.of(model, before.revisions if before else {}), compare
    )
    refuse_other_model(found, cfg.model_name_differs)
    return found


def compare_with_evaluated(
    given: SubmissionConfig, evaluated: Evaluated, compare: Compare | None = None
) -> Naming:
    """Compare the metadata with the evaluated model.

    Args:
        given: The submission's metadata.
        evaluated: The evaluated model.
        compare: Compares a local folder with a repository of the hub; None to skip this.
    """
    if evaluated.served:
        same = (
            given.modelName.casefold().endswith(evaluated.served.casefold().rpartition("/")[2])
            and given.revision == MAIN
        )
        line = (
            f"{given.modelName} at {given.revision} is named, "
            f"and what a server calls {evaluated.served} was evaluated"
        )
        return Naming(
            () if same else (line,),
            (
                (
                    f"answered by a server that calls the model {evaluated.served}; "
                    "its weights were not seen"
                ),
            ),
        )
    if evaluated.folder is not None:
        return _folder(given, evaluated, compare)
    differs = []
    if given.modelName.casefold() != evaluated.repo.casefold():
        differs.append(f"modelName is {given.modelName}, and {evaluated.repo} was evaluated")
    if not _same_revision(given.revision, evaluated):
        at = (
            f"{evaluated.asked} (commit {evaluated.commit})"
            if evaluated.commit and evaluated.commit != evaluated.asked
            else evaluated.asked
        )
        differs.append(f"revision is {given.revision}, and {at} was evaluated")
    commit = f"revision {given.revision} is commit {evaluated.commit}"
    known = evaluated.commit and given.revision != evaluated.commit and not differs
    return Naming(tuple(differs), (commit,) if known else ())


def _same_revision(given: str, evaluated: Evaluated) -> bool:
    if given == evaluated.asked:
        return True
    return bool(
        evaluated.commit and _COMMIT.fullmatch(given) and evaluated.commit.startswith(given)
    )


def _folder(given: SubmissionConfig, evaluated: Evaluated, compare: Compare | None) -> Naming:
    assert evaluated.folder is not None
    what = (
        f"the folder {evaluated.folder.name} (digest of its config and weights: {evaluated.digest})"
    )
    if compare is None:
        return Naming(remarks=(f"evaluated from {what}",))
    try:
        found = compare(evaluated.folder, given.modelName, given.revision)
    except EasiError as error:
        return Naming(
            (
                (
                    f"{given.modelName} cannot be compared with {what}, which was evaluated: "
                    f"{error.message}"
                ),
            ),
            (
                f"confirmed by the submitter, not compared with the hub: {given.modelName} at "
                f"{given.revision} is {what}, which was evaluated",
            ),
            unchecked=True,
        )
    if found.differs:
        names = ", ".join(found.differs[:3]) + (" ..." if len(found.differs) > 3 else "")
        return Naming(
            (
                (
                    f"{given.modelName} at {given.revision} is not {what}, which was evaluated: "
                    f"{names} differ"
                ),
            ),
        )
    return Naming(
        remarks=(f"evaluated from {what}, equal to {given.modelName} at commit {found.commit}",)
    )


def refuse_other_model(
    naming: Naming, differs_is_meant: bool, code: ExitCode = ExitCode.REFUSED
) -> None:
    """Raise EasiError if the metadata name another model, unless ``differs_is_meant``."""
    if naming.differs and not differs_is_meant:
        hint = (
            "let the hub be asked, correct modelName, or vouch for the name with "
            "--model-name-differs, which is noted in the remarks"
            if naming.unchecked
            else "correct modelName and revision, or add --model-name-differs, "
            "which is noted in the remarks"
        )
        raise EasiError(f"--submission-configs: {'; '.join(naming.differs)}", hint=hint, code=code)


def naming_remarks(naming: Naming) -> tuple[str, ...]:
    """Return the lines for the payload's remarks."""
    differs = () if naming.unchecked else naming.differs
    return (*(f"confirmed by the submitter: {line}" for line in differs), *naming.remarks)
