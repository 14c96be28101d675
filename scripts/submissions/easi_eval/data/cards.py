"""Check that a model is public on the hub, and which license its card names."""

from __future__ import annotations

from dataclasses import replace

from ..core.errors import EasiError
from .hub import Hub
from .needs import HubSettings
from .parallel import Pulse, run_all


def license_of(name: str, settings: HubSettings) -> str | None:
    """Return the license of a model as a user without a login sees it.

    Returns:
        "" if the card names no license; None if no such model is visible.

    Raises:
        EasiError: The hub gives no answer, or the run is offline.
    """
    if settings.offline:
        raise EasiError(settings.why_offline, hint=f"unset {settings.offline_by}")
    pulse = Pulse()
    hub = Hub(
        replace(settings, token=None, retries=1, stall=min(settings.stall, settings.out_of_order)),
        pulse,
    )
    found: list[str | None] = []
    run_all([lambda: found.append(hub.license(name))], 1, pulse, hub.watch)
    return found[0]
