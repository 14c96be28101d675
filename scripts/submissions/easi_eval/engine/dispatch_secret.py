"""How worker and dispatcher prove to each other that they know the run's secret."""

from __future__ import annotations

import hashlib
import hmac


def proof(secret: str, who: str, nonce: str) -> str:
    """HMAC-SHA256 of a role and the other side's nonce, in hex digits."""
    return hmac.new(secret.encode(), f"{who} {nonce}".encode(), hashlib.sha256).hexdigest()
