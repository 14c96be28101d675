"""Static facts about each backend, cheap enough to load for the command line parser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BackendFacts:
    """Static facts about one backend.

    Attributes:
        name: As given to ``--backend``.
        title: As its authors write its name.
        package: The name it is imported by.
        distribution: The name it is installed by.
        folder: Its project in this repository.
        needs_model_args: EASI's guide: "Required for lmms-eval".
        takes_judge: EASI's guide: "ignored for lmms-eval".
        takes_no_accelerate: Whether ``--no-accelerate`` applies.
        takes_dataset_dir: Whether ``--dataset-dir`` applies.
        takes_vsi_input: Whether ``--vsi-input`` applies.
        takes_no_corrections: Whether ``--no-corrections`` applies.
        plain_cuts_at_commas: Whether its own launch (``--plain``) cannot take a path with commas.
        result_files: Its result files, for users who look for them.
        archive_bytes: Bytes that a question without its answer takes in the smallest form of the
            archive, where its benchmark does not say otherwise. Measured with
            tests/benchmarks/archive_size.py.
        same_answers: Options of the backend's own command line that change no answer and no score,
            each with the number of words after it.
        image_variables: Variables by which its clients of servers encode pictures otherwise.
    """

    name: str
    title: str
    package: str
    distribution: str
    folder: str
    needs_model_args: bool
    takes_judge: bool
    takes_no_accelerate: bool
    takes_dataset_dir: bool
    takes_vsi_input: bool
    takes_no_corrections: bool
    plain_cuts_at_commas: bool
    result_files: str
    archive_bytes: float
    same_answers: Mapping[str, int] = field(default_factory=dict)
    image_variables: tuple[str, ...] = ()

    def versioned(self, version: str) -> str:
        """Return its title and version, with the distribution's name if that is another one."""
        package = f"{self.distribution} {version}".strip()
        return package if self.distribution == self.title else f"{self.title} ({package})"

    def image_encoding(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return those of ``image_variables`` that are set."""
        return {name: environ[name] for name in self.image_variables if environ.get(name)}

    def answer_arguments(self, words: Sequence[str]) -> list[str]:
        """Return those of the backend's own arguments that may change an answer.

        They are part of a run's identity.
        """
        kept: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            option, equals, _ = word.partition("=")
            if option not in self.same_answers:
                kept.append(word)
            elif not equals:
                del rest[: self.same_answers[option]]
        return kept


BACKEND_FACTS: Mapping[str, BackendFacts] = {
    kind.name: kind
    for kind in (
        BackendFacts(
            name="vlmevalkit",
            title="VLMEvalKit",
            package="vlmeval",
            distribution="ms-vlmeval",
            folder="VLMEvalKit",
            needs_model_args=False,
            takes_judge=True,
            takes_no_accelerate=False,
            takes_dataset_dir=True,
            takes_vsi_input=True,
            takes_no_corrections=False,
            plain_cuts_at_commas=False,
            result_files="*_acc.csv with *.xlsx",
            archive_bytes=13.0,
            same_answers={
                "--verbose": 0,
                "--reuse": 0,
                "--api-nproc": 1,
                "--judge-timeout": 1,
                "--judge-api-nproc": 1,
                "--judge-retry": 1,
            },
            image_variables=("VLMEVAL_MAX_IMAGE_SIZE", "VLMEVAL_MIN_IMAGE_EDGE"),
        ),
        BackendFacts(
            name="lmms-eval",
            title="lmms-eval",
            package="lmms_eval",
            distribution="lmms-eval",
            folder="lmms-eval",
            needs_model_args=True,
            takes_judge=False,
            takes_no_accelerate=True,
            takes_dataset_dir=False,
            takes_vsi_input=False,
            takes_no_corrections=True,
            plain_cuts_at_commas=True,
            result_files="*_results.json with *_samples_*.jsonl",
            archive_bytes=12.5,
            same_answers={
                "--verbosity": 1,
                "--log_samples": 0,
                "--log_samples_suffix": 1,
                "--write_out": 0,
                "-w": 0,
                "--show_config": 0,
                "--timezone": 1,
                "--process_docs_parallel": 1,
                "--process-docs-parallel": 1,
                "--check_integrity": 0,
            },
            image_variables=("LMMS_IMAGE_ENCODE_FORMAT", "LMMS_IMAGE_JPEG_QUALITY"),
        ),
    )
}
