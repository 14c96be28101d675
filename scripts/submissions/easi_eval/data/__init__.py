"""From a hub to disk: benchmark data and weights; ``benchmark_data`` is the interface."""
