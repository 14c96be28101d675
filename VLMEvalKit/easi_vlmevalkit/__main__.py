"""Command line of ``VLMEvalKit/run.py``."""

from __future__ import annotations

import argparse
from pathlib import Path

from easi_eval.benchmarks import VLMEVALKIT
from easi_eval.core.errors import EasiError
from easi_eval.engine.driver import (
    DriverOptions,
    keep_worker,
    run_role,
    split_options,
)
from easi_eval.engine.work import load_work

RUN_PY = Path(__file__).resolve().parents[1] / "run.py"


def main(argv: list[str]) -> int:
    """Run one role of an EASI run, or VLMEvalKit's own command line.

    ``--easi-run`` selects an EASI run and ``--easi-role`` its role (keeper, worker or scorer).
    Without ``--easi-run`` the arguments go to VLMEvalKit.

    Returns:
        The exit code.
    """
    options, rest = split_options(argv)
    if options.run is None:
        from .direct import run_directly

        return run_role(options, lambda: run_directly(options.model, rest))
    return run_role(options, lambda: _role(options, argv, rest))


def _role(options: DriverOptions, argv: list[str], rest: list[str]) -> int:
    assert options.run is not None
    args = parser().parse_args(rest)
    if options.role == "keep":
        run = options.run
        return keep_worker(
            [str(RUN_PY)],
            options,
            argv,
            lambda: load_work(run, VLMEVALKIT, args.data, args.limit),
        )
    if options.role == "score":
        from .score_worker import score

        return score(options.run, args)
    if options.model is None:
        raise EasiError(
            "--easi-run without --easi-model", hint="copy the command from --dry-run as it is"
        )
    from .answer_worker import answer

    return answer(options.run, options.model, args)


def parser() -> argparse.ArgumentParser:
    """Build the parser for the options of an EASI run, named as in VLMEvalKit's own parser."""
    own = argparse.ArgumentParser(prog="run.py", allow_abbrev=False)
    own.add_argument("--data", nargs="+", required=True)
    own.add_argument("--model", required=True, help="the name VLMEvalKit's files carry")
    own.add_argument("--judge", default="exact_matching")
    own.add_argument("--limit", type=int)
    own.add_argument(
        "--vsi-input",
        choices=("video", "frames"),
        default="video",
        help="frames: VSI-Bench's videos as 32 images for every class",
    )
    own.add_argument("--verbose", action="store_true")
    own.add_argument(
        "--reuse", action="store_true", help="ignored: answers are always reused from the journal"
    )
    own.add_argument("--api-nproc", type=int, default=4)
    own.add_argument("--retry", type=int, default=6)
    own.add_argument("--judge-args", default="{}")
    own.add_argument("--judge-timeout", type=int, default=600)
    return own
