"""What ``--import-results`` would take over, decided without writing anything.

Adopted results have an identity of their own, so no evaluation of the same model mixes with them.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

from ..backends import make_backend
from ..benchmarks import ALL_KEYS
from ..config import RunConfig
from ..core.atomic_files import digest
from ..core.backend_facts import BACKEND_FACTS
from ..core.errors import EasiError
from ..core.model import ModelChoice
from ..core.redact import secret_argument
from ..core.run_folder import RunPaths
from ..data.needs import HubSettings
from ..scores.outputs import Candidate, Survey
from .adopt import Adoption
from .plan import Plan

NOT_RECORDED = "not recorded"


def survey(folder: Path, keys: Sequence[str] = ALL_KEYS, judge: str = "") -> Survey:
    """Survey ``folder`` for results of the benchmarks ``keys``.

    Args:
        folder: The folder with the results.
        keys: The benchmarks to look for.
        judge: If given, only results read by this judge, or by rules (``exact_matching``), are
            considered on a backend with judges.

    Raises:
        EasiError: The folder holds no results, or results of both backends or of several models.
    """
    if not folder.is_dir():
        raise EasiError(
            f"{folder} is {'not a folder' if folder.exists() else 'not there'}",
            hint="name the folder that holds the results",
        )
    hub = HubSettings.from_env()
    found = [
        one
        for name in BACKEND_FACTS
        if (one := make_backend(name, hub).survey(folder, keys, judge)) is not None
    ]
    if not found:
        every = BACKEND_FACTS.values()
        raise EasiError(
            f"{folder} holds no results of {' or '.join(facts.title for facts in every)} "
            "for any EASI benchmark",
            hint="name the folder their files are in: "
            + ", or ".join(facts.result_files for facts in every),
        )
    if len(found) > 1:
        raise EasiError(
            f"{folder} holds results of both backends", hint="name the folder of one of them"
        )
    return found[0]


def consider(cfg: RunConfig) -> Adoption:
    """Examine ``cfg.import_results`` and plan the import.

    Raises:
        EasiError: The folder as a whole cannot be imported.
    """
    assert cfg.import_results is not None
    source = cfg.import_results.expanduser().resolve()
    asked = tuple(bench.key for bench in cfg.selected) if cfg.benchmarks else None
    found = survey(source, asked or ALL_KEYS, cfg.judge or "")
    # The default is not told from a backend that was named.
    if cfg.backend not in (RunConfig.backend, found.backend):
        raise EasiError(
            f"{source} holds results of {BACKEND_FACTS[found.backend].title}",
            hint="leave out --backend: it is read from the files",
        )
    if asked:
        there = {candidate.key for candidate in found.candidates}
        lacking = tuple(
            Candidate(key, problem="it has no results there") for key in asked if key not in there
        )
        found = dataclasses.replace(found, candidates=(*found.candidates, *lacking))
    name = cfg.as_model or found.model
    if not name:
        raise EasiError(
            f"{source} does not name the model of its results",
            hint="name it: --as-model org/model",
        )
    # The manifest is shared with the results: arguments with secrets are left out.
    arguments = {
        key: value
        for key, value in found.arguments.items()
        if not secret_argument([f"{key}={value}"])
    }
    model = ModelChoice(
        name,
        name,
        found.cls or NOT_RECORDED,
        "results of another program",
        arguments=dict(arguments),
        needs_gpu=False,
        served=True,
    )
    fields: dict[str, object] = {"backend": found.backend, "model": name, "imported": True}
    identity = digest(fields)
    shown = {**fields, "backend version": found.version or NOT_RECORDED, "--device": NOT_RECORDED}
    paths = RunPaths.of(cfg.output_dir, found.backend, name, identity)
    plan = Plan(model, found.backend, identity, shown, paths, (), ())
    return Adoption(source, found, plan, tuple(candidate.key for candidate in found.candidates))


def elsewhere(adoption: Adoption, folder: Path) -> Adoption:
    """Return the same import into a copy of its run folder, below ``folder``.

    A dry run uses it to show the outcome without changing the real folder.
    """
    root = adoption.plan.paths.root
    copy = RunPaths(folder / root.name)
    if root.is_dir():
        shutil.copytree(root, copy.root)
    return dataclasses.replace(adoption, plan=dataclasses.replace(adoption.plan, paths=copy))
