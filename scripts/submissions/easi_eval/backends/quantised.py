"""What a quantised checkpoint needs to be loaded with transformers, told from its config.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from ..config import RunConfig
from ..data.needs import HubSettings
from ..errors import EasiError
from ..model import ModelChoice
from . import common

SETTINGS = ("quantization_config", "compression_config")
PARTS = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True)
class Method:
    """What transformers asks for before it loads a checkpoint of this method (its ``quantizers``).

    ``packages``: per need the names under which it may be installed, the usual one first. ``gpu``: it refuses the CPU.
    """

    packages: tuple[tuple[str, ...], ...] = ()
    gpu: bool = False


# Without kernels mxfp4 is unpacked to bfloat16, and bitnet and fp8 need nothing beside transformers itself.
METHODS: Mapping[str, Method] = {
    "aqlm": Method((("aqlm",),)),
    "auto-round": Method((("auto-round",),)),
    "awq": Method((("autoawq",),)),
    "bitsandbytes": Method((("bitsandbytes",),)),
    "compressed-tensors": Method((("compressed-tensors",),)),
    "eetq": Method((("eetq",),), gpu=True),
    "fbgemm_fp8": Method((("fbgemm-gpu", "fbgemm-gpu-genai"),), gpu=True),
    "fp8": Method(gpu=True),
    "fp_quant": Method((("fp-quant",),), gpu=True),
    "gptq": Method((("optimum",), ("gptqmodel", "auto-gptq"))),
    "higgs": Method((("flute-kernel",), ("fast-hadamard-transform",)), gpu=True),
    "hqq": Method((("hqq",),)),
    "quanto": Method((("optimum-quanto",),)),
    "quark": Method((("amd-quark",),)),
    "spqr": Method((("spqr-quant",),), gpu=True),
    "torchao": Method((("torchao",),)),
    "vptq": Method((("vptq",),)),
}
# Import names of packages whose name is another one.
MODULES = {
    "autoawq": "awq",
    "amd-quark": "quark",
    "flute-kernel": "flute",
    "fbgemm-gpu-genai": "fbgemm_gpu",
}
# The release that the locks of this environment go with.
RELEASES = {"compressed-tensors": "compressed-tensors==0.13.0"}


def installed(package: str) -> bool:
    """Whether a package is there, under its own name or as a module (a nightly or a fork has another name)."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return find_spec(MODULES.get(package, package.replace("-", "_"))) is not None


def check(cfg: RunConfig, model: ModelChoice, paths: Iterable[str], hub: HubSettings) -> None:
    """Refuse (EasiError) quantised checkpoints that transformers cannot load here. Not for engines: they have kernels of their own."""
    for path in paths:
        if cfg.smoke and common.is_hub_id(path):  # the rehearsal's hub is not up yet
            continue
        try:
            config = common.model_config(path, hub, str(model.arguments.get("revision", "")))
        except EasiError:  # preparation says why
            continue
        refuse(common.model_name(path), config or {}, cfg.device in ("cpu", "mps"), installed)


def refuse(
    name: str, config: Mapping[str, object], without_gpu: bool, has: Callable[[str], bool]
) -> None:
    """Pure: as ``check``, of this config.json."""
    otherwise = "give the checkpoint that it was quantised from"
    for kind in methods(config):
        method = METHODS.get(kind, Method())
        lacking = [names[0] for names in method.packages if not any(map(has, names))]
        if lacking:
            packages = " ".join(RELEASES.get(package, package) for package in lacking)
            raise EasiError(
                f"{name} is quantised with {kind}, which needs {' and '.join(lacking)}, and "
                "that is not installed",
                hint=f"{otherwise}; or: python -m pip install --no-deps {packages} (leaves the "
                "pinned packages as they are)",
            )
        if method.gpu and without_gpu:
            raise EasiError(
                f"{name} is quantised with {kind}, which transformers loads on a GPU only",
                hint=f"{otherwise}, or use a GPU",
            )


def methods(config: Mapping[str, object]) -> Iterator[str]:
    """How the model, or its language model, is quantised, by transformers' names."""
    for part in (config, *(config.get(name) for name in PARTS)):
        for settings in (part.get(name) for name in SETTINGS) if isinstance(part, Mapping) else ():
            if isinstance(settings, Mapping) and (kind := _method(settings)):
                yield kind


def _method(settings: Mapping[str, object]) -> str:
    """ "" where transformers loads the weights as they are: bitsandbytes that is told to leave them alone."""
    kind = str(settings.get("quant_method") or "")
    if settings.get("load_in_4bit") or settings.get(
        "load_in_8bit"
    ):  # whatever the method is called
        return "bitsandbytes"
    return "" if kind == "bitsandbytes" else kind
