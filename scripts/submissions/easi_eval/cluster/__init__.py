"""Placing the nodes of a run with Slurm; Slurm places, starts, restarts and ends, we only ask."""
