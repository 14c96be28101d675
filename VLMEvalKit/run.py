"""VLMEvalKit's own command line; with ``--easi-run`` its items come from the shared queue."""

import sys
from pathlib import Path

# A script's own folder comes first on the path, and here it holds a folder that is named like the real package.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parent]

from easi_vlmevalkit.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
