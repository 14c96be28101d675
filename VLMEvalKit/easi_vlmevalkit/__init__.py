"""EASI's side of the VLMEvalKit backend: launcher, driver and generic model class. Importing it does not load vlmeval."""
