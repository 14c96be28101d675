"""Everything particular to lmms-eval (PyPI ``lmms-eval``)."""
