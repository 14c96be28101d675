#!/usr/bin/env bash
# A check on a machine with GPUs, about ten minutes without a network: see tests/benchmarks/gpu_check.py --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

bash "$EASI_ROOT/scripts/setup.sh" --quiet --test
exec "$EASI_VENV_PYTHON" "$EASI_ROOT/tests/benchmarks/gpu_check.py" "$@"
