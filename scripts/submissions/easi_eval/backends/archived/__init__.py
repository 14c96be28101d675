"""Results archives of any origin: opened, read, and their scores computed again."""
