# Sourced by setup.sh, smoke.sh and test.sh: where things are, and an environment that cannot leak into ours.

EASI_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
case "${EASI_VENV:=$EASI_ROOT/.venv}" in
    /*) ;;
    *) EASI_VENV="$PWD/$EASI_VENV" ;;
esac
EASI_VENV_PYTHON="$EASI_VENV/bin/python"
export EASI_VENV

# A user's own packages (PYTHONPATH, ~/.local), another activated environment or conda must not be mixed with the pinned ones.
unset PYTHONPATH PYTHONHOME VIRTUAL_ENV __PYVENV_LAUNCHER__
export PYTHONNOUSERSITE=1

is_python311() {
    "$1" -E -s -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1
}

# Every interpreter worth a look, one per line: the ones on PATH, then where installers usually put 3.11.
python_candidates() {
    type -ap python3.11 python3 python 2>/dev/null || true
    printf '%s\n' /usr/bin/python3.11 /usr/local/bin/python3.11 /opt/python3.11/bin/python3.11
    ls -d "$HOME"/.pyenv/versions/3.11*/bin/python3.11 "$HOME"/.local/share/uv/python/cpython-3.11*/bin/python3.11 2>/dev/null || true
}

hint_python311() {
    echo "hint: apt install python3.11 (or: conda create -n py311 python=3.11; or: uv python install 3.11), then EASI_PYTHON=/path/to/python3.11 bash scripts/setup.sh" >&2
}

# Prints the interpreter to build with: EASI_PYTHON, else the first 3.11 outside an active conda, else conda's own.
find_python311() {
    local candidate conda=""
    if [ -n "${EASI_PYTHON:-}" ]; then
        candidate="$(type -P "$EASI_PYTHON")" && is_python311 "$candidate" && printf '%s\n' "$candidate" && return 0
        echo "error: EASI_PYTHON=$EASI_PYTHON is not a working Python 3.11" >&2
        hint_python311
        return 1
    fi
    while IFS= read -r candidate; do
        [ -x "$candidate" ] && is_python311 "$candidate" || continue
        case "$candidate" in
            "${CONDA_PREFIX:-/nonexistent}"/*) conda="${conda:-$candidate}" ;;
            *) printf '%s\n' "$candidate"; return 0 ;;
        esac
    done < <(python_candidates)
    if [ -n "$conda" ]; then
        printf '%s\n' "$conda"
        return 0
    fi
    echo "error: Python 3.11 is needed; $(python3 -E -s -c 'import platform; print("python3 here is " + platform.python_version())' 2>/dev/null || echo "none was found")" >&2
    hint_python311
    return 1
}
