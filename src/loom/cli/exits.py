"""Exit codes: documented in docs/cli.md, and stable."""

from __future__ import annotations

from ..errors import AuthenticationError, ConfigError, LoomError, RecordNotFound, RequestClosed
from ..types import RunState

COMPLETED = 0
FAILED = 1
USAGE = 2
WAITING = 3
LIMIT_REACHED = 4
CANCELLED = 130
"""What shells report for a program that Ctrl-C ended: 128 and SIGINT's number."""

_BY_STATE = {
    RunState.COMPLETED: COMPLETED,
    RunState.WAITING: WAITING,
    RunState.LIMIT_REACHED: LIMIT_REACHED,
    RunState.CANCELLED: CANCELLED,
}
_ASKED_WRONGLY = (AuthenticationError, ConfigError, RecordNotFound, RequestClosed)


def code_of_state(state: RunState) -> int:
    """The exit code for how a run ended."""
    return _BY_STATE.get(state, FAILED)


def code_of_error(error: LoomError) -> int:
    """The exit code for an error that kept the command from doing its work."""
    return USAGE if isinstance(error, _ASKED_WRONGLY) else FAILED
