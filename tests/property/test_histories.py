"""Over random histories: folding is folding, every state has a sensible step, nothing orphaned is ever shown."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from histories import histories, walk_to_the_end
from hypothesis import HealthCheck, given, settings
from stage import faults_of_pairing

from loom.events import Event, decode_event, encode_event
from loom.folds.changes import apply, fold
from loom.folds.state import Phase, State
from loom.kernel.engine import Engine
from loom.kernel.steps import (
    AskModel,
    Await,
    Decide,
    Done,
    Execute,
    Finish,
    Judge,
    Recover,
    Settle,
    Stop,
    next_step,
)
from loom.kernel.window import render
from loom.testing.scripted import ScriptedProvider
from loom.types import Role, RunState

pytestmark = pytest.mark.timeout(60)

quick = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
ENGINE = Engine(
    provider=ScriptedProvider(), estimate=lambda messages, tools: len(messages), instructions="be good"
)


def _states(events: list[Event]) -> list[State]:
    states = [State()]
    for event in events:
        states.append(apply(states[-1], event))
    return states


def _plain(state: State) -> dict[str, Any]:
    """The state as comparable values. Sequences come back from JSON as lists, so all are compared as JSON."""
    fields = {name: getattr(state, name) for name in state.__struct_fields__}
    fields["transcript"] = list(state.transcript)
    return msgspec.json.decode(msgspec.json.encode(fields))  # type: ignore[no-any-return]


@quick
@given(histories())
def test_folding_in_two_parts_is_folding_at_once(events: list[Event]) -> None:
    whole = _plain(fold(events))
    for cut in range(len(events) + 1):
        assert _plain(fold(events[cut:], fold(events[:cut]))) == whole


@quick
@given(histories())
def test_a_fold_changes_no_earlier_state(events: list[Event]) -> None:
    """All states are alive at once and share what they can; each must stay what it was."""
    states = _states(events)
    for length, state in enumerate(states):
        assert _plain(state) == _plain(fold(events[:length]))


@quick
@given(histories())
def test_what_was_stored_folds_to_the_same(events: list[Event]) -> None:
    stored = [decode_event(encode_event(event)) for event in events]
    for cut in range(0, len(events) + 1, 5):
        assert _plain(fold(stored[:cut])) == _plain(fold(events[:cut]))
    assert [encode_event(event) for event in stored] == [encode_event(event) for event in events]


@quick
@given(histories())
def test_every_state_has_a_sensible_step(events: list[Event]) -> None:
    for state in _states(events)[1:]:
        step = next_step(state)
        assert isinstance(step, Done) == state.status.terminal
        if isinstance(step, Settle):
            assert state.ending
            assert step.calls
            assert set(step.calls) == set(state.unsettled)
        elif isinstance(step, Decide):
            assert step.calls
            assert {c.phase for c in step.calls} <= {Phase.REQUESTED, Phase.ANSWERED}
        elif isinstance(step, Execute):
            assert step.calls
            assert {c.phase for c in step.calls} == {Phase.ALLOWED}
        elif isinstance(step, Recover):
            assert step.calls
            assert {c.phase for c in step.calls} == {Phase.STARTED}
        elif isinstance(step, Await):
            assert state.requests, "the run waits for nothing"
        elif isinstance(step, Finish):
            assert not state.unsettled
            if step.state is RunState.COMPLETED:
                assert not state.ending
                assert state.stop_reason is not None
                assert step.error is None
            else:
                assert state.ending
                assert step.error is not None or step.state is RunState.CANCELLED
        elif isinstance(step, Judge):
            assert state.stop_reason is not None
            assert not state.calls
            assert not state.ending
        elif isinstance(step, Stop):
            assert step.spent >= step.allowed
            assert not state.ending
        if not isinstance(step, Settle | Finish | Done):
            assert not state.ending


@quick
@given(histories())
def test_nothing_orphaned_is_shown_to_a_model(events: list[Event]) -> None:
    for state in _states(events)[1:]:
        if isinstance(next_step(state), AskModel):
            messages = render(ENGINE, state)
            assert faults_of_pairing(messages) is None
            assert messages[0].role is Role.SYSTEM
            assert messages[-1].role is not Role.ASSISTANT
        if state.status.terminal:
            assert faults_of_pairing(list(state.transcript)) is None


@quick
@given(histories())
def test_each_call_has_one_result_in_the_end(events: list[Event]) -> None:
    finished: dict[tuple[int, str], int] = {}
    reply = 0
    for event in events:
        if event.type == "model.replied":
            reply += 1
        if event.type == "tool.finished":
            key = (reply, event.call_id)  # type: ignore[attr-defined]
            finished[key] = finished.get(key, 0) + 1
    assert all(count == 1 for count in finished.values())
    state = fold(events)
    results = [m for m in state.transcript if m.role is Role.TOOL]
    assert len(results) <= len(finished)


@quick
@given(histories())
def test_every_state_can_come_to_an_end(events: list[Event]) -> None:
    """From wherever a history is cut, if all goes well from there, the run ends soon, and rightly."""
    for length, state in enumerate(_states(events)[1:], start=1):
        states = walk_to_the_end(events[:length], state)
        last = states[-1]
        assert last.status.terminal
        assert faults_of_pairing(list(last.transcript)) is None
        assert not last.requests
        assert not last.calls
        if state.cancelling and not state.status.terminal:
            assert last.status is RunState.CANCELLED


@quick
@given(histories())
def test_time_and_money_only_grow(events: list[Event]) -> None:
    states = _states(events)
    for before, after in itertools.pairwise(states):
        assert after.active_seconds >= before.active_seconds
        assert after.usage.total_tokens >= before.usage.total_tokens
        assert after.tool_calls >= before.tool_calls
        assert after.iterations >= before.iterations
        assert len(after.transcript) >= len(before.transcript)
        assert list(after.transcript)[: len(before.transcript)] == list(before.transcript)
