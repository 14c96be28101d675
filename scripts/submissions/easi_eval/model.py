"""Which model a run evaluates: what every room may know of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelChoice:
    """Which model class runs which weights, and why. Part of the plan, the manifest and the identity.

    ``name`` names the checkpoint for people and in ``modelName`` (``org/model`` or a folder's name);
    ``path`` is what is loaded (hub id or local folder); ``cls`` the class that loads it, ``entry`` the
    backend's own registered name for class and arguments together, if one is used;
    ``arguments`` are the keyword arguments that change answers, as plain JSON values;
    ``source`` is a digest of the user's own class file, where one is used;
    ``cuts`` says where the class cuts answers, as far as its code tells ("": nowhere); it stands beside every score.
    ``revision`` is the one asked of the hub, or a digest of what lies in the local folder; ``served``: a server holds
    the weights. ``needs_gpu`` is False for those and with ``--device cpu``. ``engine`` is the package of an engine that runs the
    model in the worker's process instead of transformers. ``refers_to``: what else the checkpoint's files name, an adapter's base
    or a vision tower, by repository or folder, with a digest of a folder (a repository's commit is in the manifest); see
    ``backends/references.py``. ``base``: the folder or hub id that an adapter without a config.json of its own is laid over.
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
