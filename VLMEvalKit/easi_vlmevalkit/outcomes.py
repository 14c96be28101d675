"""How each dataset of a direct run ended, and whether its scores are those of its answers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from easi_eval.core.atomic_files import text_digest, write_atomic

from . import judge

# Reasons of vlmeval/run.py to skip a dataset that are no failure.
INTENDED = (
    "mode_infer",
    "official_submission_only_mmmu_test",
    "official_submission_only_mmt_bench",
    "evaluation_not_supported_for_dataset",
    "external_submission_required",
    "test_split_without_ground_truth",
)


class Outcomes:
    """How each dataset ended, as run.py itself reports it; run.py's exit code is always 0."""

    def __init__(self) -> None:
        self._ended: dict[tuple[str, str], str] = {}
        self._folders: dict[str, Path] = {}

    def watching(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap run.py's ``upsert_dataset_status`` to record each dataset's end.

        Before a dataset is scored, cached scores of other answers are removed.
        """

        def upsert_dataset_status(
            run_dir: Any, model_name: str, dataset_name: str, **fields: Any
        ) -> Any:
            self._folders[model_name] = Path(run_dir)
            if fields.get("status") == "eval":
                from vlmeval.smp import get_pred_file_path

                drop_old_scores(
                    Path(
                        get_pred_file_path(
                            str(run_dir), model_name, dataset_name, use_env_format=True
                        )
                    )
                )
            elif fields.get("status") == "done":
                self._ended[model_name, dataset_name] = _reason(fields)
            return original(
                run_dir=run_dir, model_name=model_name, dataset_name=dataset_name, **fields
            )

        return upsert_dataset_status

    def exit_code(self, models: str | Sequence[str], datasets: Sequence[str]) -> int:
        """Return 1 if any dataset has no score or has unanswered questions, and print these.

        Ranks other than 0 have no outcomes and return 0.
        """
        if int(os.environ.get("RANK") or 0) != 0:
            return 0
        names = [models.replace("/", "--")] if isinstance(models, str) else models
        pairs = [(model, dataset) for model in names for dataset in datasets]
        troubles = {pair: self._ended.get(pair, "it was not reached") for pair in pairs}
        troubles.update(
            {pair: lost for pair, lost in self._unanswered().items() if not troubles.get(pair)}
        )
        failed = {pair: reason for pair, reason in troubles.items() if reason}
        for (model, dataset), reason in failed.items():
            print(f"error: {model} on {dataset}: {' '.join(reason.split())}", file=sys.stderr)
        if failed:
            print(
                f"hint: {len(failed)} of {len(pairs)} failed; the same command with --reuse "
                f"resumes",
                file=sys.stderr,
            )
        return 1 if failed else 0

    def _unanswered(self) -> dict[tuple[str, str], str]:
        """Return the datasets with unanswered questions.

        VLMEvalKit scores its text for a failed request like an answer.
        """
        from vlmeval.smp import collect_run_benchmark_report

        return {
            (
                model,
                row["benchmark"],
            ): f"{row['infer_failed']} of {row['infer_total']} questions have no answer"
            for model, folder in self._folders.items()
            for row in collect_run_benchmark_report(folder)
            if row.get("infer_failed")
        }


def _reason(fields: dict[str, Any]) -> str:
    if fields.get("error_message") is not None:
        return fields["error_message"] or "an error without a message; its traceback is above"
    skipped = fields.get("skip_reason") or ""
    return "" if skipped in INTENDED else skipped


def drop_old_scores(prediction: Path) -> None:
    """Remove cached scores if the answers have changed since.

    BLINK, 3DSRBench and others cache scores by a question's index alone and apply them to new
    answers. A digest of the scored answers is kept beside the prediction file.
    """
    from vlmeval.smp import load

    if not prediction.is_file():
        return
    table = load(str(prediction))
    answers = [
        [str(index), str(answer)]
        for index, answer in zip(table["index"], table["prediction"], strict=True)
    ]
    now = text_digest(json.dumps(sorted(answers)))
    record = prediction.with_name(f"{prediction.stem}_scored_answers.sha256")
    if record.is_file() and record.read_text(encoding="ascii") == now:
        return
    judge.drop_caches(prediction)
    write_atomic(record, now)
