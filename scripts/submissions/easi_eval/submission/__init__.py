"""Submission: checks, the leaderboard's payload, the HTTP request, the record of submissions."""
