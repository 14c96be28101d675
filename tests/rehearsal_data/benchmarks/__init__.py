"""The rehearsal's questions and files, a module per benchmark; to add one, copy the most alike.

Each has ``ASKED``: by the benchmark's key, the function that makes its questions from a seed; and
``vlmevalkit`` and ``lmms_eval``, which write them below ``datasets`` as that backend reads them.
"""
