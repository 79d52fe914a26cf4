"""Door: who can be asked."""

from .base import Answer, Human, Request
from .callback import CallbackHuman
from .terminal import TerminalHuman

__all__ = ["Answer", "CallbackHuman", "Human", "Request", "TerminalHuman"]
