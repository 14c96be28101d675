"""VLMEvalKit: how it is launched, which class runs a model, and what its files say."""

from ...core.backend_facts import BACKEND_FACTS

FACTS = BACKEND_FACTS["vlmevalkit"]
