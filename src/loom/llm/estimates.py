"""The kernel's estimate of what a model call takes, as engines are given it. How it is made is ``tokens``."""

from __future__ import annotations

from collections.abc import Sequence

from ..types import ChatMessage, ToolSpec


def estimated_tokens(messages: Sequence[ChatMessage], tools: Sequence[ToolSpec]) -> int:
    """About how many tokens ``messages`` and ``tools`` are. Its maker is imported when wanted: most services count."""
    from .tokens import TokenEstimator

    return TokenEstimator().count(messages, tools=tools).tokens
