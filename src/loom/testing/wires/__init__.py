"""The server's half of every wire: replies of a script in the words of the services, whole and streamed."""

from .anthropic import ANTHROPIC
from .base import ServerWire
from .gemini import GEMINI
from .openai_chat import OPENAI_CHAT
from .openai_responses import OPENAI_RESPONSES

__all__ = ["ServerWire", "WIRES", "wire_of"]

WIRES: tuple[ServerWire, ...] = (ANTHROPIC, GEMINI, OPENAI_RESPONSES, OPENAI_CHAT)


def wire_of(path: str) -> ServerWire:
    """The wire that posts to ``path``; chat completions when no other does."""
    return next((wire for wire in WIRES if path.endswith(wire.paths)), OPENAI_CHAT)
