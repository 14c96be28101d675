"""Generators of the tiny data and model that ``--smoke`` serves; ``build.py`` makes the archive."""
