"""Fetch benchmark data and weights from a hub to disk; ``easi_eval.datasets`` is the interface."""
