"""From a hub to disk: data and weights; the entry points are ``fetch`` and ``model_file``."""
