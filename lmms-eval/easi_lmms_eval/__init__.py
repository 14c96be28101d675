"""EASI's side of the lmms-eval backend: worker, scorer and a model class.

Importing this package does not import lmms_eval.
"""
