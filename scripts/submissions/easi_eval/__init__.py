"""EASI: evaluate a vision-language model and submit the result to the spatial leaderboard."""

__version__ = "0.1.0"
