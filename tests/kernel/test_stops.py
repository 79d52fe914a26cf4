"""Every way for a reply to stop has its meaning, in the kernel, on the wires and on the loop face."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from loom.events import ModelReplied
from loom.folds.changes import apply
from loom.folds.state import State
from loom.folds.stops import CUT, CUT_SHORT, MEANINGS, TOLD, WITHDRAWN
from loom.folds.transcript import Transcript
from loom.kernel.steps import Decide, Fail, Judge, next_step
from loom.types import ChatMessage, Limits, Role, RunState, StopReason, ToolCall

RUNNING = State(
    run_id="r",
    session_id="s",
    status=RunState.RUNNING,
    limits=Limits(max_iterations=None),
    transcript=Transcript([ChatMessage(Role.USER, "go")]),
)
CALL = ToolCall("c1", "t", "{}")


def test_every_way_to_stop_has_its_meaning() -> None:
    assert set(MEANINGS) == set(StopReason)


@pytest.mark.parametrize("stop", StopReason)
def test_a_reply_that_is_not_whole_fails_by_its_meaning_with_calls_and_without(stop: StopReason) -> None:
    said = ModelReplied(message=ChatMessage(Role.ASSISTANT, "so"), stop_reason=stop, iteration=1)
    called = replace(said, message=replace(said.message, tool_calls=(CALL,)))
    steps = [type(next_step(apply(RUNNING, event))) for event in (said, called)]
    assert steps == ([Fail, Fail] if stop in CUT_SHORT else [Judge, Decide])


@pytest.mark.parametrize("stop", StopReason)
def test_what_no_call_outvotes_fails_its_run(stop: StopReason) -> None:
    meaning = MEANINGS[stop]
    assert (stop in CUT) is not meaning.outvoted
    if stop in CUT:
        assert meaning.error is not None
    if stop in WITHDRAWN:
        assert stop in CUT


def test_a_conversation_that_is_too_long_is_raised_by_the_loop_face_and_what_was_cut_is_told() -> None:
    assert {meaning.error.code for meaning in MEANINGS.values() if meaning.error} - TOLD == {
        "context_overflow"
    }
