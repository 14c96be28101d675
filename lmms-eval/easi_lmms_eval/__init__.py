"""EASI's side of the lmms-eval backend: driver, plug-in models. Importing it does not load lmms_eval."""
