"""Whether everybody can see a model on the hub, and which license its card names."""

from __future__ import annotations

from dataclasses import replace

from ..errors import EasiError
from .hub import Hub
from .needs import HubSettings
from .parallel import Pulse, run_all


def license_of(name: str, settings: HubSettings) -> str | None:
    """As a stranger sees it: "" where the card names none, None where there is no such model.

    Raises EasiError where the hub gives no answer.
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
