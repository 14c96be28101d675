#!/usr/bin/env bash
# The tests, in two processes (tests/README.md). --fast leaves out what imports a backend or takes long (under 10 minutes); other
# arguments go on to pytest.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

bash "$EASI_ROOT/scripts/setup.sh" --quiet --test

arguments=()
for argument in "$@"; do
    case "$argument" in
        --fast) arguments+=(-m "not slow") ;;
        *) arguments+=("$argument") ;;
    esac
done
cd "$EASI_ROOT"
exec "$EASI_VENV_PYTHON" -m pytest -n 2 --max-worker-restart 0 ${arguments[@]+"${arguments[@]}"}
