"""Which model type of lmms-eval runs, with which checkpoint and arguments.

This is decided from files, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...core.model_args import unquoted
from ...core.suggest import nearest
from ...data.needs import HubSettings
from ..shared import catalog, model_files, model_paths
from ..shared.class_source import ClassSource
from ..shared.generic_check import ALIKE, refuse_unloadable
from ..shared.lineage import lineage
from ..shared.signature import signature
from . import FACTS, stops
from .class_checks import BASE_KEYS, check_names, check_weights, engine_of, model_id

GENERIC = "easi_vlm"
OWN_TYPE = "if lmms-eval has a type of its own for this model, name that as --model"
# Model arguments that name weights: an adapter or a delta, and the base under it. The first that is
# given names the checkpoint.
ADAPTER_KEYS = ("peft", "delta")
WEIGHT_KEYS = (*ADAPTER_KEYS, *BASE_KEYS)
# Model arguments that name the model on a server. For other types they are not weights (llava's
# model_name is a conversation template).
NAME_KEYS = ("model", "model_version", "model_name", "engine")
THINKING = "enable_thinking"  # where it is True by default, a class removes a model's thoughts
# Types that load no weights: clients of an API, and types without a model (lmms-eval 0.7.3).
# srt_api is not one of them, because it starts a server on the GPUs of this machine.
SERVED_TYPES = frozenset(
    {
        "async_openai",
        "batch_gpt4",
        "claude",
        "gemini",
        "generation_api",
        "gpt4o_audio",
        "gpt4v",
        "litellm",
        "openai",
        "qwen_vl_api",
        "reka",
        "dummy",
        "from_log",
    }
)


def class_sources(cfg: RunConfig) -> list[ClassSource]:
    """Return the source of the class that runs the type, and of its bases; [] if none is known."""
    package = catalog.locate(FACTS, cfg.backend_path)
    known = catalog.lmms_models(package).models.get(cfg.model)
    if known is None:
        return []
    simple = "--force_simple" in cfg.backend_args
    return lineage(package, (known.simple or known.cls) if simple else known.cls)


def choose(cfg: RunConfig, classes: Sequence[ClassSource], hub: HubSettings) -> ModelChoice:
    """Return the model that the type and ``--model-args`` name.

    Args:
        cfg: The run's options.
        classes: ``class_sources`` of the type.
        hub: Where a checkpoint's ``config.json`` is read.

    Raises:
        EasiError: If an argument is unknown, no checkpoint is named, or a path does not exist.
    """
    arguments, takes = cfg.model_arguments, signature(classes)
    if "base_url" in arguments or model_id(cfg) in SERVED_TYPES:
        check_names(cfg, takes)
        return _served(cfg, arguments)
    keys = [key for key in WEIGHT_KEYS if key in arguments]
    arguments |= {key: unquoted(arguments[key]) for key in keys}
    check_weights(cfg, {key: arguments[key] for key in keys}, takes)
    check_names(cfg, takes)
    arguments |= {key: model_paths.model_path(arguments[key]) for key in keys}
    if cfg.plain and (commas := next((key for key in keys if "," in arguments[key]), "")):
        raise EasiError(
            f"--plain: lmms-eval's own launch cannot take a path with commas ({commas}=)",
            hint="leave out --plain, or give a link to the folder",
        )
    config: Mapping[str, object] | None = None
    for key in (key for key in reversed(keys) if not cfg.is_rehearsed(arguments[key])):
        with suppress(EasiError):  # preparation reports a missing config
            config = model_files.model_config(arguments[key], hub, arguments.get("revision", ""))
    checkpoint = arguments[keys[0]] if keys else cfg.model
    if cfg.model == GENERIC:
        name = model_paths.model_name(checkpoint)
        refuse_unloadable(name, config or {}, cfg.trust_remote_code, _own_type(cfg, config or {}))
    own, notes = _supported(cfg, arguments, takes.names)
    if takes.defaults.get(THINKING) is True and THINKING not in arguments:
        thinking, note = _thinking(cfg, checkpoint, hub, arguments.get("revision", ""))
        own, notes = {**own, **thinking}, (*notes, note)
    arguments = {**own, **arguments}
    cuts = _cuts(cfg, classes)
    return ModelChoice(
        model_paths.model_name(checkpoint),
        checkpoint,
        cfg.model,
        f"--model {cfg.model}",
        notes=(*notes, *filter(None, [cuts])),
        arguments=dict(arguments),
        cuts=cuts,
        revision=model_files.revision(
            [arguments[key] for key in keys], arguments.get("revision", "")
        ),
        needs_gpu=cfg.device != "cpu",
        engine=engine_of(cfg) or "",
    )


def _own_type(cfg: RunConfig, config: Mapping[str, object]) -> str:
    """Return the hint which of lmms-eval's own types may load a checkpoint."""
    known = catalog.lmms_models(catalog.locate(FACTS, cfg.backend_path)).models
    near = nearest(str(config.get("model_type")), known, n=1, cutoff=ALIKE)
    return f"lmms-eval has a type for it: --model {near[0]}" if near else OWN_TYPE


def _served(cfg: RunConfig, arguments: Mapping[str, str]) -> ModelChoice:
    """Return the choice for a type that asks a server, or that has no model."""
    name = next((arguments[key] for key in NAME_KEYS if key in arguments), cfg.model)
    note = (
        f"--nproc {cfg.nproc} has no effect: a served model has one client, with its own "
        "concurrency"
    )
    return ModelChoice(
        name,
        name,
        cfg.model,
        f"--model {cfg.model}",
        notes=(note,) if cfg.nproc > 1 else (),
        arguments=dict(arguments),
        needs_gpu=False,
        served=True,
    )


def _cuts(cfg: RunConfig, classes: Sequence[ClassSource]) -> str:
    """Return a description of where the class truncates answers; "" if it does not."""
    cutting = stops.cutting(classes)
    asked = _generation_argument(cfg, stops.UNTIL)
    found = cutting.stops([stops.INHERITED if asked is None else asked]) if cutting else ()
    return (
        stops.said(cfg.model, classes[0].name, found, asked is not None)
        if found and found != (stops.NEVER,)
        else ""
    )


def _generation_argument(cfg: RunConfig, name: str) -> str | None:
    """Return the value of one of the ``--gen_kwargs`` after ``--``; None if it is not given."""
    found: dict[str, str] = {}
    for word, following in zip_longest(cfg.backend_args, cfg.backend_args[1:], fillvalue=""):
        option, given, value = word.partition("=")
        if option == "--gen_kwargs":
            found = dict(
                part.partition("=")[::2] for part in (value if given else following).split(",")
            )
    return found.get(name)


def _supported(
    cfg: RunConfig, arguments: dict[str, str], taken: frozenset[str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the arguments that our own options add, and notes on ineffective options.

    Args:
        cfg: The run's options.
        arguments: The user's model arguments, which win.
        taken: The parameters that the class takes; empty if they are not known.

    Raises:
        EasiError: For a revision that the class would silently ignore.
    """
    if "revision" in arguments and taken and "revision" not in taken:
        raise EasiError(
            f"lmms-eval's type {cfg.model} takes no revision",
            hint="download that revision and give its folder",
        )
    own: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    # The default of device_map places weights, and then inputs, on a GPU.
    if cfg.device == "cpu" and "device_map" in taken:
        own["device_map"] = "cpu"
    if cfg.trust_remote_code and "trust_remote_code" in taken:
        own["trust_remote_code"] = "True"
    elif cfg.trust_remote_code:
        notes = (
            f"--trust-remote-code has no effect: lmms-eval's type {cfg.model} does not take it",
        )
    return own, notes


def _thinking(
    cfg: RunConfig, checkpoint: str, hub: HubSettings, revision: str
) -> tuple[dict[str, str], str]:
    """Return an argument with which a class that removes a model's thoughts leaves answers whole.

    It is not given where the chat template has thoughts, or cannot be had. The note says which.
    """
    known = not cfg.is_rehearsed(checkpoint)
    template = model_files.chat_template(checkpoint, hub, revision) if known else ""
    if template and "think>" not in template:
        return {THINKING: "False"}, f"{THINKING}=False: the chat template has no thoughts"
    return {}, (
        f"lmms-eval's type {cfg.model} takes an answer without </think> for an empty one, also "
        f"where max_new_tokens of a task ends the thoughts: --model-args {THINKING}=False"
    )
