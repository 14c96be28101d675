"""The evaluation backends, by the name given to ``--backend``."""

from __future__ import annotations

from collections.abc import Callable

from ..data.needs import HubSettings
from .base import Backend


def make_backend(name: str, hub: HubSettings) -> Backend:
    """The backend of that name, reading from ``hub``. Each is one file; nothing else tells them apart."""
    from .lmms_eval import LmmsEval
    from .vlmevalkit import VLMEvalKit

    makers: dict[str, Callable[[HubSettings], Backend]] = {VLMEvalKit.name: VLMEvalKit, LmmsEval.name: LmmsEval}
    return makers[name](hub)
