"""Processes: start them, watch them, and end everything they started; GPUs and launchers."""
