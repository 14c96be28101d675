"""The files that a run delivers: written, described and sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..backends.base import Reader
from ..benchmarks import CORE_KEYS, by_key
from ..config import RunConfig
from ..core.atomic_files import update, write_json
from ..core.errors import EasiError, ExitCode
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths
from ..data.needs import HubSettings
from ..scores import data_check, extraction, table
from ..scores.score_table import ScoreTable, State
from . import payload
from .admission import check_admission
from .archive.anonymize import Scrubber
from .endpoint import by_hand, endpoint
from .metadata import Evaluated, Naming, compare_with_evaluated, naming_remarks, refuse_other_model
from .metadata_hints import metadata_suggestions
from .parcel import Parcel, room_for

PAYLOAD, ARCHIVE = "easi_results.json", "easi_results.zip"
RESULT_FILES = ("easi_scores.csv", "easi_scores.md", PAYLOAD, ARCHIVE, extraction.REPORT)
REAL_DATA = (
    "run these again on the benchmark's own data: unset HF_ENDPOINT, "
    "or move the tables in --dataset-dir away"
)
Revisions = Mapping[str, str]  # commit by repository, as in the manifest


@dataclass
class ResultFiles:
    """The result files of one run, in its folder and at the top of the output folder.

    Attributes:
        asked: The run as the user requested it, for commands in hints.
        cfg: The run as it is carried out.
        backend: The backend.
        hub: The hub and its cache.
        model: The evaluated model.
        paths: Folders of the run.
        naming: Which model the metadata name, as found at the start.
        payload: Content of ``easi_results.json``, set by ``write``.
        archive: Content of ``easi_results.zip``, set by ``write``.
        fits: Whether the archive fits into one request, set by ``write``.
    """

    asked: RunConfig
    cfg: RunConfig
    backend: Reader
    hub: HubSettings
    model: ModelChoice
    paths: RunPaths
    naming: Naming
    payload: dict[str, Any] = field(default_factory=dict)
    archive: bytes = b""
    fits: bool = True

    def write(self, scores: ScoreTable, revisions: Revisions) -> None:
        """Write all files.

        The archive comes last, because a failure (a full disk) then loses no score.
        """
        root = self.paths.root
        write_json(
            root / extraction.REPORT,
            extraction.make_report((row.key, self.paths.output(row.key)) for row in scores.rows),
        )
        self.payload = self._payload(scores, revisions)
        update(root / "easi_scores.csv", table.csv_text(scores))
        update(root / "easi_scores.md", table.markdown_text(scores))
        update(root / PAYLOAD, payload.payload_text(self.payload))
        self._copy(name for name in RESULT_FILES if name != ARCHIVE)
        self.archive = self._archive(scores, self.payload)
        update(root / ARCHIVE, self.archive)
        self._copy([ARCHIVE])

    def notes(self) -> list[str]:
        """Return the lines that the summary shows about the files, once they are written."""
        said = []
        fields = payload.fields_to_fill(self.payload)
        if fields and not self.cfg.smoke:
            suggested = metadata_suggestions(self.cfg, self.model, self.paths, self.hub)
            hints = f" ({'; '.join(suggested)})" if suggested else ""
            said.append(f"to submit, add --submission-configs with {', '.join(fields)}{hints}")
        if not self.fits:
            said.append(
                f"the archive has {len(self.archive):,} bytes, too large for --submit: "
                f"{by_hand(*self._handed())}"
            )
        return said

    def submit(self, scores: ScoreTable, revisions: Revisions, otherwise: ExitCode) -> None:
        """Send the results; returns only if the leaderboard accepted them.

        Args:
            scores: The scores of the run.
            revisions: Commit of each repository.
            otherwise: Exit code if the results are not complete enough to be sent.

        Raises:
            EasiError: The results were not sent or not accepted.
        """
        from .send import open_benchmarks, submit  # loads the client, which is slow

        if open_ones := open_benchmarks(scores, [bench.key for bench in self.cfg.selected]):
            fill = replace(self.asked, benchmarks=open_ones, include_extra=False, rerun=False)
            hint = (
                "import their results too, under the same name"
                if self.cfg.import_results
                else fill.command()
            )
            raise EasiError(
                f"nothing was sent: not complete: {', '.join(open_ones)}", hint=hint, code=otherwise
            )
        if other := self._other_counts(scores):
            raise EasiError(f"nothing was sent: {'; '.join(other)}", hint=REAL_DATA, code=otherwise)
        refuse_other_model(self._named(revisions), self.cfg.model_name_differs, otherwise)
        from .archive.pack import read_index

        needed = dict.fromkeys((*CORE_KEYS, *(bench.key for bench in self.cfg.selected)))
        if unproven := [key for key in needed if key not in read_index(self.archive).tables]:
            again = replace(self.asked, benchmarks=tuple(unproven), include_extra=False, rerun=True)
            raise EasiError(
                f"nothing was sent: the archive does not prove the scores of {', '.join(unproven)}",
                hint=again.command(),
                code=otherwise,
            )

        def admit() -> None:
            for line in check_admission(self.cfg, self.hub, otherwise):
                print(f"{line}; sending anyway")

        submit(
            self.paths.root,
            self._parcel(self.payload, self.archive),
            self.hub.token,
            self.cfg.resubmit,
            admit=admit,
        )

    def describe_request(
        self, scores: ScoreTable, revisions: Revisions, unfinished: Sequence[str]
    ) -> str:
        """Describe what ``--submit`` would send, for ``--dry-run``; writes nothing."""
        from .send import describe_submission, open_benchmarks

        lacking = open_benchmarks(scores, [bench.key for bench in self.cfg.selected])
        if open_ones := dict.fromkeys((*unfinished, *lacking)):
            return f"POST {endpoint()}, once these are complete: {', '.join(open_ones)}"
        if other := self._other_counts(scores):
            return f"nothing would be sent: {'; '.join(other)}"
        made = self._payload(scores, revisions)
        return describe_submission(
            self.paths.root, self._parcel(made, self._archive(scores, made)), self.cfg.resubmit
        )

    def _other_counts(self, scores: ScoreTable) -> list[str]:
        """Name the benchmarks to be sent whose number of questions is not the expected one."""
        rows = [row for row in scores.rows if row.state is State.COMPLETE]
        return [
            f"{row.key} is {data_check.count_note(source, row.total)}"
            for row in rows
            if data_check.is_other_count(
                source := by_key(row.key).source(self.backend.name), row.total
            )
        ]

    def _copy(self, names: Iterable[str]) -> None:
        for name in names:
            update(self.cfg.output_dir / name, (self.paths.root / name).read_bytes())

    def _payload(self, scores: ScoreTable, revisions: Revisions) -> dict[str, Any]:
        return payload.build_payload(
            scores,
            self.backend.payload_name,
            self.cfg.submission,
            naming_remarks(self._named(revisions)),
            self._scrubber().text,
        )

    def _archive(self, scores: ScoreTable, made: Mapping[str, Any]) -> bytes:
        from .archive import build  # loads openpyxl; a refused command line does not wait for it

        packed = build.make(
            self.paths,
            [row.key for row in scores.rows],
            self.backend,
            self._scrubber(),
            made,
            fits=room_for(made),
            copy=self.cfg.output_dir / ARCHIVE,
        )
        self.fits = packed.fits
        return packed.data

    def _scrubber(self) -> Scrubber:
        from .archive import build

        return build.Places(self.cfg, self.hub, self.model.path).scrubber()

    def _named(self, revisions: Revisions) -> Naming:
        """Compare the metadata again, with the commit that is known by now.

        A local folder was compared at the start, which is not repeated.
        """
        if self.cfg.submission is None or self.cfg.smoke:
            return Naming()
        evaluated = Evaluated.of(self.model, revisions)
        return (
            self.naming
            if evaluated.folder is not None
            else compare_with_evaluated(self.cfg.submission, evaluated)
        )

    def _handed(self) -> tuple[Path, Path]:
        return self.cfg.output_dir.absolute() / PAYLOAD, self.cfg.output_dir.absolute() / ARCHIVE

    def _parcel(self, scores: dict[str, Any], zipped: bytes) -> Parcel:
        return Parcel(endpoint(), scores, zipped, self._handed())
