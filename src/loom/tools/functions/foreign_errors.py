"""The words in which an error of the application is told to a model: its kind and text, without secrets."""

from __future__ import annotations

from ...types import describe_error
from .returned import clean_text

__all__ = ["told"]


def told(error: BaseException) -> str:
    """The error in one line: a failing validator may quote whatever it was comparing with."""
    from ...llm.redact import redact_sensitive_text  # costs its tables, and most code never raises

    return redact_sensitive_text(clean_text(describe_error(error)))
