"""Generators of the tiny data and checkpoint that ``--smoke`` runs on."""
