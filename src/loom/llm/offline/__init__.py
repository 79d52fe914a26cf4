"""The embedded offline model: a deterministic provider without a network that says what it is.

This door hands on the provider. How it reads a conversation, plans, parses and writes lives in the siblings;
nothing here runs a tool or reads a file: it only asks for the tools it is offered.
"""

from __future__ import annotations

from .provider import OfflineProvider

__all__ = ["OfflineProvider"]
