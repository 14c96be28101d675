"""lmms-eval's own command line, and which of its options may follow ``--``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...config import RunConfig
from ..shared import catalog, parsers
from . import FACTS

# Options of lmms-eval's command line that this program sets, and its own option to use instead.
OURS = {
    "model": "--model",
    "model_args": "--model-args",
    "tasks": "--benchmarks",
    "output_path": "--output-dir",
    "limit": "--limit",
    "device": "--device",
    "config": "a file would replace the options that this program sets",
}
# With --base-url our own client asks, and the server has the chat template.
SERVED = {
    "batch_size": "--model-args num_concurrent=N",
    "max_batch_size": "--model-args num_concurrent=N",
    "system_instruction": "--model-args system_prompt=TEXT",
    "apply_chat_template": "the server's own options",
    "fewshot_as_multiturn": "the server's own options",
    "force_simple": "async_openai as --model, which may be lmms-eval's simple client",
}
# Options that are refused with every launch, and what this program does instead.
NEVER = {
    "predict_only": "every benchmark is scored",
    "repeats": "each question is answered once",
    "offset": "every question of a benchmark is asked",
    "tui": "this program has its own display",
}
# Options that take effect only with lmms-eval's own launch, not with workers that share the
# questions.
OWN_LAUNCH = "only lmms-eval's own launch supports it: add --plain"
WITHOUT_EFFECT = {
    "use_cache": "answers are kept in the run's journal and are never asked twice",
    "hf_hub_log_args": OWN_LAUNCH,
    **dict.fromkeys(
        (
            "wandb_args",
            "wandb_log_samples",
            "swanlab_args",
            "swanlab_log_samples",
            "power_analysis",
            "effect_size",
            "alpha",
            "power",
            "correlation",
            "std_a",
            "std_b",
        ),
        OWN_LAUNCH,
    ),
}


def check_words(cfg: RunConfig) -> None:
    """Refuse arguments after ``--`` that would fail late or do nothing."""
    if cfg.backend_args:
        parsers.check_words(
            cfg.backend_args,
            parser(cfg.backend_path),
            {**OURS, **SERVED} if cfg.base_url else OURS,
            NEVER if cfg.plain else {**NEVER, **WITHOUT_EFFECT},
        )


def parser(backend_path: Path | None = None) -> argparse.ArgumentParser:
    """Return a parser with the options of lmms-eval's own command line."""
    return parsers.read_parser(
        catalog.locate(FACTS, backend_path).root / "__main__.py", "parse_eval_args", "lmms-eval"
    )
