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
