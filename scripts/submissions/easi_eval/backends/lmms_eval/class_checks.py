"""Checks of lmms-eval's model types: arguments, checkpoints and engines."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.model_args import check_number
from ...core.suggest import did_you_mean
from ..shared import catalog, model_paths
from ..shared.engines import how_to_get
from ..shared.signature import Signature
from . import FACTS

BASE_KEYS = model_paths.CHECKPOINT_KEYS
# Types that run an engine with its own batching, and the package each needs. Each worker runs one
# engine.
ENGINES = {"vllm": "vllm", "vllm_generate": "vllm", "sglang": "sglang"}
# Other types that answer with an engine, or with a server that they start.
OTHER_ENGINES = frozenset(
    {"aero_realtime_vllm", "llava_sglang", "longvila", "srt_api", "whisper_vllm"}
)


def model_id(cfg: RunConfig) -> str:
    """Return the name under which lmms-eval registers the type; "" if it is not known."""
    known = catalog.lmms_models(catalog.locate(FACTS, cfg.backend_path)).models.get(cfg.model)
    return known.model_id if known is not None else ""


def engine_of(cfg: RunConfig) -> str | None:
    """Return the package of the engine that the model type runs; None if it runs none."""
    return ENGINES.get(model_id(cfg))


def tensor_parallel(cfg: RunConfig) -> int:
    """Return the number of GPUs that one engine uses."""
    given = cfg.model_arguments.get("tensor_parallel_size", "1")
    if not given.isdecimal() or int(given) < 1:
        raise EasiError(
            f"--model-args tensor_parallel_size is {given}",
            hint="it is the number of GPUs per engine, 1 or more",
        )
    return int(given)


def check_engine(cfg: RunConfig, package: str | None) -> None:
    """Refuse an engine that is not installed, or that does not fit the number of GPUs."""
    if package is None:
        return
    if find_spec(package) is None:
        raise EasiError(
            f"lmms-eval's type {cfg.model} needs {package}, which is not installed",
            hint=how_to_get(package),
        )
    if cfg.model_arguments.get("data_parallel_size", "1") != "1":
        raise EasiError(
            "--model-args data_parallel_size is not supported: this program starts one engine per "
            "group of GPUs",
            hint="leave it out; --nproc is the total number of GPUs, tensor_parallel_size the "
            "number per engine",
        )
    size = tensor_parallel(cfg)
    if cfg.nproc % size:
        raise EasiError(
            f"--nproc {cfg.nproc} is no multiple of tensor_parallel_size={size}",
            hint=f"--nproc counts GPUs: --nproc {max(size, cfg.nproc - cfg.nproc % size)} runs "
            f"{max(1, cfg.nproc // size)} engine(s) of {size}",
        )


def check_names(cfg: RunConfig, takes: Signature) -> None:
    """Refuse an argument that the class would fail on after everything is fetched."""
    for name, value in cfg.model_arguments.items():
        check_number(name, value, takes.defaults.get(name), f"lmms-eval's type {cfg.model}")
    for name in cfg.model_arguments if not takes.open else ():
        if name not in takes.names:
            raise EasiError(
                f"lmms-eval's type {cfg.model} takes no {name}=",
                hint=did_you_mean(name, takes.names, f"it takes {', '.join(sorted(takes.names))}"),
            )


def check_weights(cfg: RunConfig, given: Mapping[str, str], takes: Signature) -> None:
    """Refuse a checkpoint that cannot be meant, or a missing one.

    Without a checkpoint the class would load its own default, and the results would carry the name
    of another model.

    Args:
        cfg: The run's options.
        given: Those of ``WEIGHT_KEYS`` that are among the model arguments.
        takes: The signature of the class.
    """
    # A name may be anything that the class knows, but a path that does not exist is a mistake.
    for key, value in given.items():
        if not value:
            raise EasiError(
                f"--model-args {key}= is empty",
                hint="write org/model, or a folder, or leave it out",
            )
        if model_paths.is_missing_path(value):
            raise _no_folder(cfg, key, value)
        model_paths.check_folder(Path(value).expanduser())
        if value.endswith("/") and not Path(value).expanduser().exists():
            raise EasiError(
                f"--model-args {key}={value} is neither a folder nor a hub id",
                hint="write org/model, or an existing folder",
            )
    taken = [key for key in BASE_KEYS if key in takes.names]
    bases = [key for key in BASE_KEYS if key in given]
    if not taken or takes.names.intersection(bases):
        return
    if bases:
        raise EasiError(
            f"lmms-eval's type {cfg.model} takes {taken[0]}=, not {bases[0]}=",
            hint=f"write --model-args {taken[0]}={given[bases[0]]}",
        )
    default = takes.defaults.get(taken[0], "org/model")
    if default is not None:
        raise EasiError(
            "--model-args names no checkpoint", hint=f"write {taken[0]}={default or 'org/model'}"
        )


def _no_folder(cfg: RunConfig, key: str, value: str) -> EasiError:
    """Return the error for a path that does not exist.

    An unquoted path with commas was cut at the first one; the hint then gives the whole path in
    quotes.
    """
    uncut = cfg.model_args.partition(f"{key}=")[2]
    cuts = [at for at, char in enumerate(uncut) if char == ","] + [len(uncut)]
    if whole := next(
        (
            uncut[:at]
            for at in cuts
            if Path(uncut[:at]).expanduser().is_dir() and uncut[:at] != value
        ),
        "",
    ):
        return EasiError(
            f"--model-args {key}={value} is not a folder: commas separate the arguments",
            hint=f"put the path in quotes: {key}='{whole}'",
        )
    return EasiError(
        f"--model-args {key}={value}: there is no such folder", hint=model_paths.folder_hint(value)
    )
