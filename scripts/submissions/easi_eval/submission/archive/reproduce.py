"""``REPRODUCE.md``: how an archive's scores were made, and the command that makes them again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence

from ...benchmarks import ALL_KEYS, CORE_KEYS
from ...core.formats import duration
from ...core.manifest import BenchmarkState, Manifest, own_arguments
from ...scores.score_table import State, title_of

PROGRAM = ("python", "scripts/submissions/run_easi_eval.py")
# Options that do not affect scores, each with its number of values: where files are, what is shown
# or submitted, and which part of the work to do.
DROPPED = {
    "--output-dir": 1,
    "--dataset-dir": 1,
    "--submission-configs": 1,
    "--benchmarks": 1,
    "--limit": 1,
    "--submit": 0,
    "--resubmit": 0,
    "--model-name-differs": 0,
    "--include-extra": 0,
    "--rerun": 0,
    "--dry-run": 0,
    "--verbose": 0,
    "--no-rich": 0,
}


def reproduce(manifest: Manifest, adopted: Mapping[str, str] | None = None) -> str:
    """Return the text of ``REPRODUCE.md``.

    Args:
        manifest: The manifest of the run.
        adopted: The folder that a benchmark's results were imported from, by key.
    """
    model = manifest.model
    lines = [
        "# How these results were made",
        "",
        f"- Model: {manifest.modelName}",
        f"- Loaded from: {model.get('path') or 'unknown'}",
    ]
    commit = manifest.revisions.get(str(model.get("path")))
    asked = str(model.get("revision") or "")
    lines.append(f"- Revision: {_revision(asked, commit)}")
    lines += [
        f"- Model class: {model.get('cls') or 'unknown'}"
        + (f" ({model['why']})" if model.get("why") else ""),
        (
            "- Arguments: "
            f"`{json.dumps(model.get('arguments') or {}, ensure_ascii=False, sort_keys=True)}`"
        ),
        f"- Backend: {manifest.fields.get('backend')} {manifest.fields.get('backend version')}",
        f"- GPUs: {'; '.join(manifest.machines) or 'not recorded'}",
    ]
    lines += [
        "",
        "## Versions",
        "",
        *(f"- {name} {version}" for name, version in manifest.versions.items()),
    ]
    lines += [
        "",
        "## Commits of the data and of the model",
        "",
        *(
            [f"- {repo}: {revision}" for repo, revision in sorted(manifest.revisions.items())]
            or ["- not recorded"]
        ),
    ]
    lines += [
        "",
        "## Benchmarks",
        "",
        "| benchmark | task | how answers were read | time | state |",
        "|---|---|---|---:|---|",
    ]
    for key in (key for key in ALL_KEYS if key in manifest.benchmarks):
        state = manifest.benchmarks[key]
        took = "-" if state.seconds is None else duration(state.seconds)
        lines.append(
            f"| {title_of(key)} | {state.settings.get('task', '')} | {_method(state)} | "
            f"{took} | {state.state or 'open'} |"
        )
    for key, folder in (adopted or {}).items():
        lines.append(
            f"\n{title_of(key)} was not made by this program; it was imported from {folder}."
        )
    command = command_of(manifest)
    if command:
        lines += ["", "## The command", "", "```bash", command, "```"]
    lines += [
        "",
        (
            "Every command that was run is in `run_manifest.json`. `easi-eval --verify "
            "easi_results.zip` recomputes the scores from this archive."
        ),
    ]
    return "\n".join(lines) + "\n"


def _revision(asked: str, commit: str | None) -> str:
    name = asked or "main"
    return f"{name} (commit {commit})" if commit and commit != asked else name


def _method(state: BenchmarkState) -> str:
    said = state.evidence.get("method") or state.settings.get("judge") or "by the task's own rules"
    threshold = state.settings.get("extraction threshold")
    if not state.evidence.get("method") and isinstance(threshold, (int, float)):
        judge = state.settings.get("judge model")
        said = f"setting: by rules; by {judge} if they cannot read more than {100 * threshold:g} %"
    return ", ".join(str(one) for one in said) if isinstance(said, (list, tuple)) else str(said)


def command_of(manifest: Manifest) -> str:
    """Return the command that makes all complete benchmarks of the run again.

    It is the latest recorded launch of this program without the options in ``DROPPED``; "" if no
    launch is recorded.
    """
    words = own_arguments(manifest.last_command)
    if words is None:
        return ""
    cut = words.index("--") if "--" in words else len(words)
    kept = [*_without(words[:cut]), *_benchmarks(manifest)]
    return shlex.join([*PROGRAM, *kept, *words[cut:]])


def _without(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = 0
    for word in words:
        name, equals, _ = word.partition("=")
        if skip:
            skip -= 1
        elif name in DROPPED:
            skip = 0 if equals else DROPPED[name]
        else:
            kept.append(word)
    return kept


def _benchmarks(manifest: Manifest) -> list[str]:
    done = tuple(
        key
        for key in ALL_KEYS
        if key in manifest.benchmarks and manifest.benchmarks[key].state == State.COMPLETE
    )
    if not done or done == CORE_KEYS:
        return []
    return ["--include-extra"] if done == ALL_KEYS else ["--benchmarks", ",".join(done)]
