"""Models behind OpenAI-compatible servers: probing them, and keeping many questions open."""
