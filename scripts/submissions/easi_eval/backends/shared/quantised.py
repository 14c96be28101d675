"""What a quantised checkpoint needs to be loaded with transformers, told from its config.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from ...config import RunConfig
from ...core.errors import EasiError
from ...core.model import ModelChoice
from ...data.needs import HubSettings
from . import model_files, model_paths

SETTINGS = ("quantization_config", "compression_config")
PARTS = ("text_config", "llm_config", "language_config")


@dataclass(frozen=True)
class Method:
    """What transformers requires before it loads a checkpoint quantised by this method.

    See the quantizers of transformers.

    Attributes:
        packages: For each requirement the names of packages that meet it, the usual one first.
        gpu: Whether it refuses the CPU.
    """

    packages: tuple[tuple[str, ...], ...] = ()
    gpu: bool = False


# Not listed: mxfp4, which is unpacked to bfloat16 without kernels, and bitnet, which needs only
# transformers itself. fp8 needs no package either, but a GPU.
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
# Import names of packages that are not imported by their own name.
MODULES = {
    "autoawq": "awq",
    "amd-quark": "quark",
    "flute-kernel": "flute",
    "fbgemm-gpu-genai": "fbgemm_gpu",
}
# Releases that fit the lock files of this environment.
RELEASES = {"compressed-tensors": "compressed-tensors==0.13.0"}


def installed(package: str) -> bool:
    """Return whether a package is there, by its own name or as a module.

    A nightly build or a fork may have another name, but has the same module.
    """
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return find_spec(MODULES.get(package, package.replace("-", "_"))) is not None


def check(cfg: RunConfig, model: ModelChoice, paths: Iterable[str], hub: HubSettings) -> None:
    """Refuse quantised checkpoints that transformers cannot load here.

    Not used for engines, which have their own kernels.

    Raises:
        EasiError: Names the missing package, or says that a GPU is needed.
    """
    for path in paths:
        if cfg.is_rehearsed(path):
            continue
        try:
            config = model_files.model_config(path, hub, str(model.arguments.get("revision", "")))
        except EasiError:  # preparation reports it
            continue
        refuse(model_paths.model_name(path), config or {}, cfg.device in ("cpu", "mps"), installed)


def refuse(
    name: str, config: Mapping[str, object], without_gpu: bool, has: Callable[[str], bool]
) -> None:
    """Refuse one checkpoint by its config.json, see ``check``.

    Args:
        name: The checkpoint's name, for messages.
        config: Its ``config.json``.
        without_gpu: Whether the model runs without a CUDA GPU.
        has: Tells whether a package is installed.

    Raises:
        EasiError: Names the missing package, or says that a GPU is needed.
    """
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
    """Yield how the model, or its language model, is quantised, by transformers' names."""
    for part in (config, *(config.get(name) for name in PARTS)):
        for settings in (part.get(name) for name in SETTINGS) if isinstance(part, Mapping) else ():
            if isinstance(settings, Mapping) and (kind := _method(settings)):
                yield kind


def _method(settings: Mapping[str, object]) -> str:
    """Return the quantisation method; "" if transformers loads the weights as they are.

    That is also the case for bitsandbytes with neither ``load_in_4bit`` nor ``load_in_8bit``.
    """
    kind = str(settings.get("quant_method") or "")
    # These mean bitsandbytes, whatever ``quant_method`` says.
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return "bitsandbytes"
    return "" if kind == "bitsandbytes" else kind
