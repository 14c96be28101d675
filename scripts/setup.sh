#!/usr/bin/env bash
# Makes .venv ready: the orchestrator and both backends, pinned with hashes. See --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

python="$(find_python311)" || exit 2
# -E -s: the bare interpreter sees neither PYTHON* variables nor packages of the user. -B: no caches in the checkout.
exec "$python" -E -s -B "$EASI_ROOT/scripts/setup" "$@"
