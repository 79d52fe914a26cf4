"""What an approval is bound to.

A yes covers exactly one effect: this tool as it is defined now, these arguments after every edit, in this
session and run. The digest names that effect; the call's position or id does not enter, because providers
choose ids. Idea: capability receipts as asked for in the approval threads of several agent runtimes.
"""

from __future__ import annotations

import hashlib
from typing import Any

from ..types import ToolSpec, canonical_json


def effect_digest(spec: ToolSpec, arguments: dict[str, Any], *, session_id: str, run_id: str) -> str:
    """The name of one effect: equal exactly when tool, definition, arguments, session and run are equal."""
    return hashlib.sha256(canonical_json([spec, arguments, session_id, run_id])).hexdigest()
