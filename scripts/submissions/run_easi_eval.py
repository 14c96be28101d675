#!/usr/bin/env python3
"""EASI evaluation and submission. `--help` lists the options; `easi-eval` is the same program."""

# No syntax newer than Python 3.0 in this file: an old interpreter must be able to print which
# version is needed.
import os
import sys


def start():
    """Check the Python version and run the program; return its exit code."""
    if sys.version_info < (3, 11):
        sys.stderr.write(
            "error: this is Python %d.%d, and 3.11 or newer is needed\n" % sys.version_info[:2]
        )
        sys.stderr.write("hint: run: bash scripts/setup.sh && source .venv/bin/activate\n")
        return 2
    try:
        from easi_eval.cli import main
    except ImportError as error:
        if error.name != "easi_eval":
            raise
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        from easi_eval.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(start())
