"""The folder of a run: the names of its files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """The files of one run, below the folder of its backend and model identity.

    Creating an instance touches no file.
    """

    root: Path

    @classmethod
    def of(cls, output_dir: Path, backend: str, model_name: str, identity: str) -> RunPaths:
        """Return the paths of a run; the folder is named by model and start of the identity."""
        return cls(output_dir / "runs" / backend / f"{sanitise(model_name)}-{identity[:8]}")

    @property
    def work(self) -> Path:
        """The benchmarks and settings that the workers read."""
        return self.root / "work.json"

    @property
    def journal(self) -> Path:
        """Folder of the workers' journals, which hold the answers."""
        return self.root / "journal"

    @property
    def items(self) -> Path:
        """Folder of each benchmark's list of questions."""
        return self.root / "items"

    @property
    def outputs(self) -> Path:
        """Folder of the backend's output, with one subfolder per benchmark."""
        return self.root / "outputs"

    @property
    def manifest(self) -> Path:
        """The manifest; see ``Manifest``."""
        return self.root / "run_manifest.json"

    @property
    def answering_done(self) -> Path:
        """An empty file that the pipeline writes when no worker is left."""
        return self.root / "answering.done"

    @property
    def dispatcher(self) -> Path:
        """Address and secret of the dispatcher while it runs; only the owner can read it."""
        return self.root / "dispatcher.json"

    @property
    def events(self) -> Path:
        """The events of all launches; see ``event_log.py``."""
        return self.root / "events.jsonl"

    @property
    def errors(self) -> Path:
        """Folder of the tracebacks that workers have printed, one of each kind."""
        return self.root / "errors"

    @property
    def judge_answers(self) -> Path:
        """The judges' answers, one per line."""
        return self.root / "judge_answers.jsonl"

    @property
    def checkpoint(self) -> Path:
        """Folder of checkpoints that are laid out for the workers."""
        return self.root / "checkpoint"

    @property
    def lock(self) -> Path:
        """The lock file; see ``run_lock``."""
        return self.root / "run.lock"

    def item_list(self, key: str) -> Path:
        """The list of one benchmark's questions."""
        return self.items / f"{key}.json"

    def output(self, key: str) -> Path:
        """The output folder of one benchmark."""
        return self.outputs / key

    def plain(self, key: str) -> Path:
        """The folder that the backend's own launch (``--plain``) of one benchmark writes to."""
        return self.outputs / f".{key}.plain"

    def scoring(self, key: str) -> Path:
        """The folder in which a benchmark is being scored."""
        return self.outputs / f".{key}.scoring"

    def scored(self, key: str) -> Path:
        """The folder of a scored benchmark, until the pipeline moves it to ``output(key)``."""
        return self.outputs / f".{key}.scored"

    def failed(self, key: str) -> Path:
        """The file with the reason why a benchmark was not scored."""
        return self.outputs / f".{key}.failed.json"

    def importing(self, key: str) -> Path:
        """The folder in which adopted files of a benchmark are checked."""
        return self.outputs / f".{key}.importing"

    def old(self, key: str) -> Path:
        """The folder that ``output(key)`` is moved to while another one takes its place."""
        return self.outputs / f".{key}.old"

    def half_made(self, key: str) -> tuple[Path, ...]:
        """What an interrupted launch may leave of a benchmark."""
        return tuple(
            made(key) for made in (self.scoring, self.scored, self.failed, self.plain, self.old)
        )

    def aside(self, key: str, epoch: int) -> Path:
        """The folder that ``output(key)`` of an earlier epoch is moved to before a new run."""
        return self.outputs / f".before-{key}.{epoch}"


def sanitise(name: str) -> str:
    """Return a model's name as one folder name: ``org/model`` becomes ``org__model``.

    The result is never empty, hidden or longer than 100 characters.
    """
    words = name.strip().strip("/").replace("/", "__")
    return re.sub(r"[^\w.+-]+", "_", words).lstrip(".")[-100:] or "model"
