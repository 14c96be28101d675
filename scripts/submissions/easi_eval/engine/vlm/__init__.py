"""Loading of checkpoints with transformers, and the generic model class."""
