"""Results: reading the backends' files, checking and recomputing scores, and writing the tables."""
