#!/usr/bin/env bash
# Makes .venv ready: the orchestrator and both backends, pinned with hashes. See --help.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# Prints a Python to run set-up with, which lets uv find another if this one does not fit: best one that fits, outside
# an active conda; else any that can fetch uv.
find_python() {
    local range candidate
    for range in '(3, 11) <= sys.version_info < (3, 13)' '(3, 8) <= sys.version_info'; do
        while IFS= read -r candidate; do
            "$candidate" -E -s -c "import sys; sys.exit(not ($range))" >/dev/null 2>&1 && printf '%s\n' "$candidate" && return
        done < <(
            PATH="${PATH//"${CONDA_PREFIX:-/nonexistent}/bin:"/}" type -ap python3 python3.11 python3.12 python
            type -ap python3 python
            true
        )
    done
    echo "error: no Python 3.11 or 3.12 here, and none (3.8 or newer) that could fetch one" >&2
    echo "hint: apt install python3 python3-pip, then again" >&2
    return 1
}

python="$(find_python)" || exit 2
# -E -s: the bare interpreter sees neither PYTHON* variables nor packages of the user. -B: no caches in the checkout.
exec "$python" -E -s -B "$EASI_ROOT/scripts/setup" "$@"
