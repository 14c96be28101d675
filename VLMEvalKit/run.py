"""VLMEvalKit's own command line; with ``--easi-run`` its items come from the shared queue."""

import sys

from easi_vlmevalkit.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
