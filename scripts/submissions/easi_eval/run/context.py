"""What every step of a run is given: made once, before anything is started, and handed on."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..backends.base import Backend
from ..backends.shared.launch_env import libraries_of
from ..config import RunConfig
from ..core.model import ModelChoice
from ..core.run_folder import RunPaths, sanitise
from ..data.needs import HubSettings
from ..scores import judging
from ..scores.comparability import with_comparability
from ..scores.score_table import BenchmarkScore
from .find_run import FoundRun, find_run


@dataclass(frozen=True)
class RunContext:
    """What a run is about.

    Attributes:
        asked: The options as the user gave them; they form the command for a retry.
        cfg: The options that hold; differs from ``asked`` for ``--smoke`` and imported results.
        backend: The backend that answers and scores.
        hub: The hub and its cache.
        model: The model to evaluate.
        run: Identity and folder of the run.
        libraries: Installed version by name, as the backend's processes find them.
        policy: Whether and when a judge model reads the answers.
        log: Log file of all processes.
    """

    asked: RunConfig
    cfg: RunConfig
    backend: Backend
    hub: HubSettings
    model: ModelChoice
    run: FoundRun
    libraries: Mapping[str, str]
    policy: judging.Policy
    log: Path

    @property
    def paths(self) -> RunPaths:
        """The files of the run."""
        return self.run.paths

    def compare(self, score: BenchmarkScore, settings: Mapping[str, object]) -> BenchmarkScore:
        """Return a score with the verdict on whether older rows of the leaderboard compare."""
        return with_comparability(
            score, self.backend.name, self.model.cls, settings, self.model.cuts, self.cfg.smoke
        )


def make_context(
    asked: RunConfig,
    cfg: RunConfig,
    backend: Backend,
    hub: HubSettings,
    model: ModelChoice,
    run: FoundRun | None = None,
) -> RunContext:
    """Make the context of a run; ``run`` is its folder, if the options do not tell it."""
    libraries = libraries_of(cfg, model.profile)
    stamp = time.strftime("%Y%m%d_%H%M%S")
    return RunContext(
        asked,
        cfg,
        backend,
        hub,
        model,
        run or find_run(cfg, backend.version(cfg), model, libraries),
        libraries,
        judging.policy(cfg, os.environ),
        (cfg.output_dir / f"eval_{sanitise(model.name)}_{stamp}.log").absolute(),
    )
