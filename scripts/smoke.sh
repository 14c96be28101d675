#!/usr/bin/env bash
# The rehearsal on the embedded model and data, offline: on VLMEvalKit, then on lmms-eval. Arguments go on to the program.
# Exit code: that of the first of the two that did not end with 0.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

bash "$EASI_ROOT/scripts/setup.sh" --quiet

rehearse() {
    "$EASI_VENV_PYTHON" "$EASI_ROOT/scripts/submissions/run_easi_eval.py" --smoke "$@"
}

for argument in "$@"; do
    case "$argument" in
        --backend|--backend=*|--status|-h|--help|--version|--list) rehearse "$@"; exit $? ;;   # asked for one thing: do that one
    esac
done

first=0
rehearse "$@" || first=$?
case "$first" in
    2|130) exit "$first" ;;     # refused or interrupted: the second would only say the same
esac
second=0
rehearse --backend lmms-eval "$@" || second=$?
if [ "$first" -ne 0 ]; then exit "$first"; fi
exit "$second"
