"""How two processes of a run prove to each other that they know its secret, and are alive."""

from __future__ import annotations

import hashlib
import hmac

# Until the other side has proven that it knows the secret.
FIRST_LINE = 4 << 10  # longest line in bytes
PROVE_WITHIN = 10.0  # seconds
CONNECT_WITHIN = 10.0  # seconds
# Seconds. Machines that joined a run send each other a line at least every BEAT, and each takes the
# other for gone after GONE_AFTER without one, by its own clock.
# After a cut of five seconds TCP sends a lost line again up to 6.2 seconds after the first time,
# so that it arrives in time only if lines are a second apart.
BEAT = 1
GONE_AFTER = 8
CONNECT_AGAIN_FOR = 20


def proof(secret: str, who: str, nonce: str) -> str:
    """HMAC-SHA256 of a role and the other side's nonce, in hex digits."""
    return hmac.new(secret.encode(), f"{who} {nonce}".encode(), hashlib.sha256).hexdigest()
