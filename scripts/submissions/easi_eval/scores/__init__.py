"""Scores: rows of questions become numbers, checked and recomputed, and the score table."""
