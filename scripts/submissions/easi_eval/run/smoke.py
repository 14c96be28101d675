"""The options of ``--smoke``: a whole run offline, apart from the user's folders and caches."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ..benchmarks import REHEARSED_KEYS
from ..config import TINY_MODEL, RunConfig
from ..core.errors import EasiError
from ..data.needs import HubSettings

OUTPUT_DIR = Path("eval_results_smoke")
LMMS_MODEL = "qwen2_5_vl"
# At most 4 visual tokens per image, so that 32 frames are quick; by default lmms-eval's class would
# enlarge each image to 256.
PIXELS = "min_pixels=784,max_pixels=3136"
LMMS_ARGS = f"pretrained={TINY_MODEL},device_map=cpu,{PIXELS}"


def left_out(asked: RunConfig, rehearsed: Collection[str] = REHEARSED_KEYS) -> str:
    """The line on the selected benchmarks that the rehearsal lacks, "" if it has all of them.

    Args:
        asked: The options.
        rehearsed: The benchmarks that the rehearsal has.
    """
    titles = [bench.title for bench in asked.selected if bench.key not in rehearsed]
    return f"left out, the rehearsal has no questions for it: {', '.join(titles)}" if titles else ""


def rehearse(cfg: RunConfig, gpus: int, rehearsed: Collection[str] = REHEARSED_KEYS) -> RunConfig:
    """The options of the smoke run.

    It has its own folders, and leaves out what ``left_out`` names. Without ``--model`` it uses the
    tiny model on the CPU; a model that is named runs on the CPU only where there is no GPU.

    Raises:
        EasiError: The rehearsal has none of the selected benchmarks.
    """
    if line := left_out(cfg, rehearsed):
        kept = tuple(bench.key for bench in cfg.selected if bench.key in rehearsed)
        if not kept:
            raise EasiError(line, hint="choose other --benchmarks")
        cfg = replace(cfg, benchmarks=kept, include_extra=False)
    output_dir = (
        OUTPUT_DIR if cfg.output_dir == RunConfig(smoke=True).output_dir else cfg.output_dir
    )
    cfg = replace(cfg, output_dir=output_dir, dataset_dir=rehearsal_folder(output_dir) / "datasets")
    if cfg.model:
        return cfg if gpus else replace(cfg, device=cfg.device or "cpu")
    if cfg.kind.needs_model_args:
        return replace(cfg, model=LMMS_MODEL, model_args=LMMS_ARGS, device="cpu")
    return replace(cfg, model=TINY_MODEL, model_args=PIXELS, device="cpu")


def planned_hub(cfg: RunConfig) -> HubSettings:
    """The settings of ``rehearsal_hub``, for a plan that starts nothing; the port is not known."""
    return HubSettings(
        endpoint="http://127.0.0.1:PORT", hf_home=rehearsal_folder(cfg.output_dir) / "huggingface"
    )


def rehearsal_folder(output_dir: Path) -> Path:
    """Return the folder that everything of a rehearsal but its results lies in."""
    return output_dir.absolute() / "rehearsal"
