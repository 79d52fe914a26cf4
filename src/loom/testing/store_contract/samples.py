"""Values to put into a store: one of every kind of event, with every field filled, and shorter ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import msgspec.inspect as types
from msgspec.structs import replace

from ... import events as kinds
from ...events import AnyEvent, Event
from ...requests import Answer, Request
from ...signals import RuntimeTask
from ...types import ChatMessage, Role, RunState

AWKWARD = 'line\nbreak \u2028 nul \x00 quote " back\\slash e\u0301 \U0001f9f5 </script> {"crc":"00000000"}'
"""Text that a careless format breaks on."""

NESTED: dict[str, Any] = {"list": [1, 2.5, None, True, {"deep": AWKWARD}], "empty": {}, "": 0, "big": 2**60}
"""Plain data of every shape JSON has."""

_PLAIN: dict[type, Any] = {
    types.StrType: AWKWARD,
    types.IntType: 7,
    types.FloatType: 2.5,
    types.BoolType: True,
    types.AnyType: NESTED,
    types.DictType: NESTED,
}
_SEQUENCES = (types.CollectionType, types.ListType, types.VarTupleType)


def every_event() -> list[Event]:
    """One event of every kind that is kept, every field filled, without places.

    Made from the fields that the kinds declare, so a kind added tomorrow is tried without a change here.
    """
    durable = [kind for kind in get_args(AnyEvent) if kind.durable]
    return [cast("Event", _filled(types.type_info(kind))) for kind in durable]


def _filled(kind: types.Type, within: tuple[type, ...] = ()) -> Any:
    """A value of that kind. ``within`` are those it is part of; a list of what may hold itself ends at the second."""
    if isinstance(kind, types.StructType):
        within = (*within, kind.cls)
        return kind.cls(**{field.name: _filled(field.type, within) for field in kind.fields})
    if isinstance(kind, types.UnionType):
        return _filled(max(kind.types, key=_richness), within)
    if isinstance(kind, _SEQUENCES):
        item = kind.item_type
        items = item.types if isinstance(item, types.UnionType) else (item,)
        kept = [one for one in items if not (isinstance(one, types.StructType) and one.cls in within)]
        return tuple(_filled(one, within) for one in kept)
    if isinstance(kind, types.EnumType):
        return list(kind.cls)[-1]
    if isinstance(kind, types.LiteralType):
        return kind.values[-1]
    return _PLAIN[type(kind)]


def _richness(kind: types.Type) -> int:
    return 2 if isinstance(kind, _SEQUENCES) else 0 if isinstance(kind, types.NoneType) else 1


def placed(
    events: Sequence[Event], *, head: int = 0, run_id: str = "run_1", session_id: str = "s"
) -> list[Event]:
    """The events as they stand in a session's log after ``head``."""
    return [
        replace(event, run_id=run_id, session_id=session_id, seq=seq, at=1000.0 + seq)
        for seq, event in enumerate(events, start=head + 1)
    ]


def started(goal: str = "work") -> Event:
    """A run begins."""
    return kinds.RunStarted(task=RuntimeTask(goal))


def finished(state: RunState = RunState.COMPLETED, output: str = "done") -> Event:
    """A run ends."""
    return kinds.RunFinished(state=state, output=output)


def said(text: str) -> Event:
    """The model replies with some text."""
    return kinds.ModelReplied(iteration=1, message=ChatMessage(Role.ASSISTANT, text))


def opened(request_id: str, *, run_id: str = "run_1", session_id: str = "s") -> Event:
    """A request is opened. ``run_id`` and ``session_id`` are those of the request itself."""
    request = Request(
        request_id, "approval", AWKWARD, run_id, session_id, arguments='{"a": 1}', expires_at=9.5
    )
    return kinds.RequestOpened(request=request)


def answered(request_id: str) -> Event:
    """A request is answered."""
    return kinds.RequestAnswered(answer=Answer(request_id=request_id, verdict="approve"))
