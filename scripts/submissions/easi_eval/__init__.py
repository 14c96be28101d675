"""EASI: one command from a vision-language model to a row on the spatial-intelligence leaderboard."""

__version__ = "0.1.0"
