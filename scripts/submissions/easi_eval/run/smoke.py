"""``--smoke``: a whole run offline, on tiny data from a local hub, apart from the user's caches."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from .. import __version__
from ..backends import make_backend
from ..benchmarks import REHEARSED_KEYS
from ..config import RunConfig
from ..core.errors import EasiError
from ..core.events import Notice
from ..data.local_hub.server import LocalHub
from ..data.needs import HubSettings
from .context import RunContext, make_context

OUTPUT_DIR = Path("eval_results_smoke")
MODEL = "easi-smoke/Tiny-VLM"
LMMS_MODEL = "qwen2_5_vl"
# At most 4 visual tokens per image, so that 32 frames are quick; by default lmms-eval's class would
# enlarge each image to 256.
PIXELS = "min_pixels=784,max_pixels=3136"
LMMS_ARGS = f"pretrained={MODEL},device_map=cpu,{PIXELS}"
SEED = 20260801

# Variables that would lead a client to the user's caches, or to another hub.
_USERS_OWN = (
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_DATASETS_CACHE",
    "HF_MODULES_CACHE",
    "HF_ASSETS_CACHE",
    "HF_XET_CACHE",
    "TRANSFORMERS_CACHE",
    "LMMS_EVAL_DATASETS_CACHE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "MMEVAL_ROOT",
    "LMUData",
)


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
    cfg = replace(cfg, output_dir=output_dir, dataset_dir=_home(output_dir) / "datasets")
    if cfg.model:
        return cfg if gpus else replace(cfg, device=cfg.device or "cpu")
    if cfg.kind.needs_model_args:
        return replace(cfg, model=LMMS_MODEL, model_args=LMMS_ARGS, device="cpu")
    return replace(cfg, model=MODEL, model_args=PIXELS, device="cpu")


def planned_hub(cfg: RunConfig) -> HubSettings:
    """The settings of ``rehearsal_hub``, for a plan that starts nothing; the port is not known."""
    return HubSettings(
        endpoint="http://127.0.0.1:PORT", hf_home=_home(cfg.output_dir) / "huggingface"
    )


@contextmanager
def rehearsal(context: RunContext) -> Iterator[RunContext]:
    """Serve the data of a rehearsal, and yield the context that uses them.

    A model named by the user comes from the real hub. Other runs keep their context.
    """
    if not context.cfg.smoke:
        yield context
        return
    from ..data.fetch import fetch  # loads the hub's client, which is slow

    model = context.model
    if context.asked.model:
        for found in fetch(context.backend.weights(model), _print_notice, context.hub):
            model = context.backend.localise(model, found.need.repo, found.path)
    with rehearsal_hub(context.cfg) as hub:
        backend = make_backend(context.cfg.backend, hub)
        yield make_context(context.asked, context.cfg, backend, hub, model)


def _print_notice(event: object) -> None:
    if isinstance(event, Notice):
        print(event.text)


@contextmanager
def rehearsal_hub(cfg: RunConfig) -> Iterator[HubSettings]:
    """Serve the tiny data and model on loopback for the length of the ``with`` block.

    Within the block the process environment is changed to use this hub only.
    """
    home = _home(cfg.output_dir)
    root = _build(home)
    before = dict(os.environ)
    with LocalHub(root) as served:
        for name in _USERS_OWN:
            os.environ.pop(name, None)
        for name in ("NO_PROXY", "no_proxy"):
            os.environ[name] = ",".join(filter(None, ["127.0.0.1,localhost", before.get(name)]))
        os.environ["HF_HUB_DISABLE_XET"] = "1"
        if cfg.plain:  # lmms-eval's own launch requires a token even for public data
            os.environ["HF_TOKEN"] = "hf_rehearsal"
        try:
            yield replace(planned_hub(cfg), endpoint=served.endpoint)
        finally:
            os.environ.clear()
            os.environ.update(before)


def _home(output_dir: Path) -> Path:
    return output_dir.absolute() / "rehearsal"


def _build(home: Path) -> Path:
    """The folder to serve, built once per version of the code that builds it.

    It is built under another name and renamed at the end, so that an interruption never leaves an
    incomplete folder.
    """
    from ..data.rehearsal import checkpoint, repositories

    sources = sorted(Path(repositories.__file__).parent.glob("*.py"))
    stamp = hashlib.sha256(
        __version__.encode() + b"".join(path.read_bytes() for path in sources)
    ).hexdigest()[:12]
    root = home / f"hub-{stamp}"
    if not root.exists():
        part = home / f".hub-{os.getpid()}"
        shutil.rmtree(part, ignore_errors=True)
        repositories.build(part, SEED)
        checkpoint.build(part / "models" / MODEL)
        place(part, root)
    return root


def place(part: Path, root: Path) -> None:
    """Move the finished folder to ``root``; if another smoke run made it first, that one stays."""
    try:
        part.rename(root)
    except OSError:
        if not root.exists():
            raise
        shutil.rmtree(part)
