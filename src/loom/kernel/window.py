"""What the model is shown: the instructions, then the transcript. Most stable first, most volatile last."""

from __future__ import annotations

from ..folds.state import State
from ..types import ChatMessage, Role
from .engine import Engine

_system: dict[str, ChatMessage] = {}


def render(engine: Engine, state: State) -> list[ChatMessage]:
    """The messages of the next model call. Earlier ones are the very same objects as last time."""
    if not engine.instructions:
        return list(state.transcript)
    return [system_message(engine.instructions), *state.transcript]


def system_message(instructions: str) -> ChatMessage:
    """The system message for these instructions: one object per text, so that a wire encodes it once."""
    message = _system.get(instructions)
    if message is None:
        if len(_system) >= 256:
            _system.clear()
        message = _system[instructions] = ChatMessage(Role.SYSTEM, instructions)
    return message
