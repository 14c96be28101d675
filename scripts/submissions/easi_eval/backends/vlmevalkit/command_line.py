"""VLMEvalKit's own command line, and which of its options may follow ``--``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...config import RunConfig
from ...core.places import REPOSITORY
from ..shared import catalog, parsers
from . import FACTS

RUN_PY = REPOSITORY / FACTS.folder / "run.py"
DRIVER = REPOSITORY / FACTS.folder / "easi_vlmevalkit" / "__main__.py"
# Options of VLMEvalKit's command line that this program sets, and its own option to use instead.
OURS = {
    "data": "--benchmarks",
    "model": "--model",
    "config": "--model and --benchmarks",
    "work_dir": "--output-dir",
    "mode": "--model, a whole run",
    "limit": "--limit",
    "judge": "--judge",
    "nproc": "--nproc",
    "vsi_input": "--vsi-input",
    "judge_base_url": "OPENAI_API_BASE in the environment",
    "judge_key": "OPENAI_API_KEY in the environment",
}
# With --base-url our own client asks.
SERVED = {
    "api_nproc": "--model-args num_concurrent=N",
    "base_url": "--base-url, before the --",
    "key": "OPENAI_API_KEY in the environment",
    "max_tokens": "--model-args max_tokens=N",
    "temperature": "--model-args temperature=X",
    "top_p": "--model-args top_p=X",
    "timeout": "--model-args timeout=SECONDS",
}
OWN_LOOP = "only VLMEvalKit's own loop uses it: add --plain"


def check_words(cfg: RunConfig) -> None:
    """Refuse arguments after ``--`` that would fail late or do nothing."""
    if not cfg.backend_args:
        return
    known = parser(cfg.backend_path)
    used = {action.dest for action in parsers.read_parser(DRIVER, "parser", "VLMEvalKit")._actions}
    unused = (
        {}
        if cfg.plain
        else {action.dest: OWN_LOOP for action in known._actions if action.dest not in used}
    )
    ours = {**OURS, **SERVED} if cfg.base_url else OURS
    parsers.check_words(cfg.backend_args, known, ours, unused)


def parser(backend_path: Path | None = None) -> argparse.ArgumentParser:
    """Return a parser with the options of VLMEvalKit's own command line."""
    return parsers.read_parser(
        catalog.locate(FACTS, backend_path).root / "run.py", "parse_args", "VLMEvalKit"
    )
