"""Everything particular to VLMEvalKit (PyPI ``ms-vlmeval``)."""
