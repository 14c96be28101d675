"""The evaluation backends, by the name given to ``--backend``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.backend_facts import BACKEND_FACTS
from ..core.errors import EasiError
from ..data.needs import HubSettings
from .base import Backend

if TYPE_CHECKING:
    from ..config import RunConfig
    from ..core.model import ModelChoice


def make_backend(name: str, hub: HubSettings) -> Backend:
    """Return the backend with this name, which reads from ``hub``.

    Each backend is one module; no other module distinguishes between them.
    """
    from .lmms_eval.backend import LmmsEval
    from .vlmevalkit.backend import VLMEvalKit

    makers: dict[str, Callable[[HubSettings], Backend]] = {
        VLMEvalKit.name: VLMEvalKit,
        LmmsEval.name: LmmsEval,
    }
    return makers[name](hub)


def resolved(cfg: RunConfig, backend: Backend, hub: HubSettings) -> ModelChoice:
    """Return the model of a run, after the backend's own checks.

    Raises:
        EasiError: If a check fails or no model class fits. If another backend knows the name, the
            hint says how to run it there.
    """
    try:
        backend.check(cfg)
        return backend.resolve(cfg)
    except EasiError as error:
        others = (
            [make_backend(name, hub) for name in BACKEND_FACTS if name != backend.name]
            if not backend.offers(cfg.model)
            else []
        )
        hint = next((said for other in others if (said := other.offers(cfg.model))), "")
        if not hint:
            raise
        raise EasiError(error.message, hint=hint, code=error.code) from error
