"""What both backends share: launching, checkpoints, and reading a package without importing it."""
