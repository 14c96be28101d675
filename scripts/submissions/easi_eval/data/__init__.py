"""How benchmark data gets from a hub to disk; ``easi_eval.datasets`` is the way in."""
