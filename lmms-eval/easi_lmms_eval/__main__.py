"""lmms-eval's own command line, run by ``python -m easi_lmms_eval``.

With ``--easi-run`` its items come from the shared queue.
"""

from __future__ import annotations

import sys

from easi_eval.engine.driver import DriverOptions, keep_worker, run_role, split_options
from easi_eval.engine.vlm.newer_configs import read_newer_configs

from .tasks import asked_work


def main(argv: list[str]) -> int:
    """Run one role of an EASI run, or lmms-eval's own command line.

    ``--easi-run`` selects an EASI run and ``--easi-role`` its role (keeper, worker or scorer).
    Without ``--easi-run`` the arguments go to lmms-eval.

    Returns:
        The exit code.
    """
    options, rest = split_options(argv)
    # lmms-eval reads its options from sys.argv.
    sys.argv = ["lmms-eval", *rest]
    if options.run is None:
        read_newer_configs()
        from lmms_eval.__main__ import cli_evaluate

        cli_evaluate()
        return 0
    return run_role(options, lambda: _role(options, argv))


def _role(options: DriverOptions, argv: list[str]) -> int:
    assert options.run is not None
    if options.role == "keep":
        run = options.run
        return keep_worker(["-m", "easi_lmms_eval"], options, argv, lambda: asked_work(run))
    if options.role == "work":
        from .answer_worker import answer

        return answer(options.run)
    from .score_worker import score

    return score(options.run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
