"""The evaluated model, as all modules know it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace

from .errors import EasiError
from .profiles import BASE


@dataclass(frozen=True)
class ModelChoice:
    """Which model class runs which weights, and why. Part of plan, manifest and identity.

    Attributes:
        name: Name of the checkpoint for users and for ``modelName``: ``org/model`` or a folder's
            name.
        path: What is loaded: a hub id or a local folder.
        cls: The class that loads it.
        why: Why this class was chosen.
        entry: The backend's registered name for class and arguments together, if one is used.
        revision: Revision requested from the hub, or a digest of the local folder.
        arguments: Keyword arguments that change answers, as plain JSON values.
        notes: Remarks for the user.
        needs_gpu: False for served models and with ``--device cpu``.
        served: The weights are on a server.
        source: Digest of the user's own class file, if one is used.
        engine: Package of the engine that runs the model in the worker's process, if it is not
            transformers.
        refers_to: Other checkpoints that its files refer to (an adapter's base, a vision tower), by
            repository or folder, with the digest of a folder. A repository's commit is in the
            manifest. See ``backends/shared/references.py``.
        cuts: Where the class truncates answers, as far as its code shows; shown beside every score.
        server: Name and version of the engine on the servers of ``--base-url``; {} if unknown.
        base: Folder or hub id of the model under an adapter that has no ``config.json`` of its own.
        profile: The libraries that it is loaded with; see ``core/profiles.py``.
    """

    name: str
    path: str
    cls: str
    why: str
    entry: str = ""
    revision: str = ""
    arguments: dict[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    needs_gpu: bool = True
    served: bool = False
    source: str = ""
    engine: str = ""
    refers_to: dict[str, str] = field(default_factory=dict)
    cuts: str = ""
    base: str = ""
    profile: str = BASE
    server: dict[str, str] = field(default_factory=dict)

    def to_argument(self) -> str:
        """Return the fields that a driver needs to load the model, as the JSON of --easi-model."""
        fields = asdict(replace(self, why="", notes=()))
        told = {name: value for name, value in fields.items() if value not in ("", (), {})}
        return json.dumps(told, ensure_ascii=False)

    @classmethod
    def from_argument(cls, text: str) -> ModelChoice:
        """Return the choice that ``to_argument`` wrote.

        Raises:
            EasiError: The text is no such JSON.
        """
        try:
            return cls(**{"why": "", **json.loads(text)})
        except (ValueError, TypeError) as error:
            raise EasiError(
                f"--easi-model cannot be read ({error})",
                hint="copy the command from --dry-run as it is",
            ) from error
