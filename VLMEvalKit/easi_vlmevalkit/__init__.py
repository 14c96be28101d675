"""EASI's side of the VLMEvalKit backend: worker, scorer and generic model class.

Importing this package does not import vlmeval.
"""
