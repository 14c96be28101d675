"""The report: a score table and the rows of its questions become ``report.html``."""
