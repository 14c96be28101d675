"""Errors, events, redaction, files and folders of a run: modules that import no other room."""
