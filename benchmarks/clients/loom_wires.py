"""``loom.Agent`` over the wires other than chat completions."""

from __future__ import annotations

from typing import Any

import loom

from ..client import KEY, MODEL
from .loom_agent import LoomAgent


class Anthropic(LoomAgent):
    """Anthropic messages."""

    def model(self, base_url: str) -> Any:
        return loom.Model.anthropic(MODEL, base_url=base_url, api_key=KEY)
