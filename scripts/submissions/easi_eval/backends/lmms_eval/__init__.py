"""lmms-eval: how it is launched, which model type runs, and what its files say."""

from ...core.backend_facts import BACKEND_FACTS

FACTS = BACKEND_FACTS["lmms-eval"]
