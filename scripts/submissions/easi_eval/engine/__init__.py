"""The engine: workers ask a model the questions, journal each outcome, and have them scored."""
