"""VLMEvalKit's own command line; with ``--easi-run`` its items come from the shared queue.

Python puts this folder first on the path. The folder ``vlmeval/`` in it has no ``__init__.py``, so the installed
package of that name, a regular one, is found all the same.
"""

import sys

from easi_vlmevalkit.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
