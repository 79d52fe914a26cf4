"""``loom.Agent`` over the wires other than chat completions."""

from __future__ import annotations

import loom

from ..client import KEY, MODEL
from .loom_agent import LoomAgent


class Anthropic(LoomAgent):
    """Anthropic messages."""

    def model(self, base_url: str) -> loom.Model:
        return loom.Model.anthropic(MODEL, base_url=base_url, api_key=KEY)


class Gemini(LoomAgent):
    """Gemini's own wire."""

    def model(self, base_url: str) -> loom.Model:
        return loom.Model.gemini(MODEL, base_url=base_url, api_key=KEY)


class Responses(LoomAgent):
    """OpenAI's Responses API."""

    def model(self, base_url: str) -> loom.Model:
        return loom.Model.openai(MODEL, base_url=base_url, api_key=KEY, wire="responses")
