"""The story of a run: check, plan, prepare, evaluate, collect, deliver."""
