"""The identity of a run: everything that changes answers, and how two identities differ."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..core.atomic_files import digest
from ..core.libraries import short

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..core.model import ModelChoice


# Version of the rule that chooses ``identity_fields``. Runs of an older rule continue in their
# folders; see ``find_run.py``.
IDENTITY_VERSION = 2


# Fields that may be unknown. An absent field is unknown, and unknown fields never differ.
# Runs with servers had those of ``OF_THIS_MACHINE`` once.
OF_THIS_MACHINE = ("--device", "--trust-remote-code")
MAY_BE_UNKNOWN = frozenset(
    {"identity version", "refers to", "transformers", "engine", "attention", *OF_THIS_MACHINE}
)


# Arguments that select the attention implementation.
ATTENTION = (
    "attn_implementation",
    "_attn_implementation",
    "use_flash_attention_2",
    "use_flash_attn",
)


# Arguments of a served model's class that concern the connection: address, time-outs, concurrency.
# They do not change answers.
CONNECTION = frozenset(
    {
        "api_base",
        "base_url",
        "api_url",
        "url",
        "model_url",
        "httpx_trust_env",
        "timeout",
        "request_timeout",
        "wait",
        "retry",
        "max_retries",
        "retry_backoff_s",
        "num_concurrent",
        "max_concurrent",
        "most_concurrent",
        "readable",
        "num_cpus",
        "batch_size",
        "adaptive_concurrency",
        "adaptive_min_concurrency",
        "adaptive_max_concurrency",
        "adaptive_target_latency_s",
        "adaptive_increase_step",
        "adaptive_decrease_factor",
        "adaptive_failure_threshold",
        "prefix_aware_queue",
        "prefix_hash_chars",
        "verbose",
    }
)


def identity_fields(
    backend: str,
    version: str,
    model: ModelChoice,
    cfg: RunConfig,
    libraries: Mapping[str, str] = {},
) -> dict[str, object]:
    """Return everything that changes the answers, by readable names.

    Settings that only change scores (judge, corrections) belong to a benchmark's settings. Those
    that only change speed, place or display (``--nproc``, ``--no-accelerate``, ``--plain``,
    ``--limit``, folders) belong to neither.

    For a served model, address and connection (``CONNECTION``) are left out, and so are the device,
    the trust in code and the libraries of this machine, because the server computes the answers.
    Its engine is
    included where it is known. Image encoding and sampling are part of the ``class arguments``, and
    so are variables that encode images otherwise.

    Args:
        backend: Name of the backend.
        version: Version of the backend.
        model: The model to evaluate.
        cfg: The run.
        libraries: Installed version by name. Of transformers and the model's engine, major and
            minor version are included.
    """
    fields = first_identity_fields(backend, version, model, cfg) | {
        "identity version": IDENTITY_VERSION
    }
    fields["backend arguments"] = cfg.kind.answer_arguments(cfg.backend_args)
    if model.refers_to:
        fields["refers to"] = model.refers_to
    if model.served:
        for name in OF_THIS_MACHINE:
            del fields[name]
        for name in ("class arguments", "--model-args"):
            fields[name] = {
                key: value for key, value in fields[name].items() if key not in CONNECTION
            }
        if model.server:
            fields["engine"] = {
                name: short(version) or version for name, version in model.server.items()
            }
        if not cfg.base_url and (encoding := cfg.kind.image_encoding(os.environ)):
            fields["image encoding"] = encoding
        return fields
    transformers, engine = (
        short(libraries.get("transformers", "")),
        short(libraries.get(model.engine, "")),
    )
    if transformers:
        fields["transformers"] = transformers
    if engine:
        fields["engine"] = {model.engine: engine}
    return fields | {
        "attention": {name: model.arguments[name] for name in ATTENTION if name in model.arguments}
    }


def first_identity_fields(
    backend: str, version: str, model: ModelChoice, cfg: RunConfig
) -> dict[str, Any]:
    """Return the identity fields by the first rule, which had no version number."""
    return {
        "backend": backend,
        "backend version": version,
        "model": model.path,
        "revision": model.revision,
        "model class": model.cls,
        "registry entry": model.entry,
        "class file": model.source,
        "class arguments": model.arguments,
        # As the backend understood them: `models/m/` and `./models/m` are the same folder.
        "--model-args": {
            name: model.arguments.get(name, value) for name, value in cfg.model_arguments.items()
        },
        "--device": cfg.device_kind,
        "--trust-remote-code": cfg.trust_remote_code,
        "backend arguments": list(cfg.backend_args),
        "--smoke": cfg.smoke,
    }


def identity(
    backend: str,
    version: str,
    model: ModelChoice,
    cfg: RunConfig,
    libraries: Mapping[str, str] = {},
) -> str:
    """Return the digest of ``identity_fields``, 64 hex digits; 8 of them name the folder."""
    return digest(identity_fields(backend, version, model, cfg, libraries))


def fingerprint(identity: str, settings: Mapping[str, object]) -> str:
    """Return a digest (64 hex digits) of a run's identity and one benchmark's settings."""
    return digest({"identity": identity, "settings": dict(settings)})


def differing_fields(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return the names whose values differ.

    In nested mappings the key is named as well (``--model-args max_pixels``).
    """
    names = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            names += [f"{name} {inner}" for inner in differing_fields(before, after)]
        elif _plain(before) != _plain(after):
            names.append(name)
    return names


def known_differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Return ``differing_fields`` without fields that are unknown on one side."""
    unknown = {name for name in MAY_BE_UNKNOWN if name not in old or name not in new} | {
        "identity version"
    }
    return differing_fields(
        {name: value for name, value in old.items() if name not in unknown},
        {name: value for name, value in new.items() if name not in unknown},
    )


def _plain(value: object) -> object:
    # Tuples become lists on disk, so both sides are compared after one round trip.
    return json.loads(json.dumps(value))
