"""A transcript is a value: versions share what they hold and never see each other's growth."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from loom.folds.transcript import Transcript
from loom.types import ChatMessage, Role

pytestmark = pytest.mark.timeout(60)


def _message(text: int) -> ChatMessage:
    return ChatMessage(Role.USER, str(text))


class Versions(RuleBasedStateMachine):
    """Every version ever made, beside a plain list that says what it must hold."""

    known = Bundle("known")

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[Transcript, list[ChatMessage]]] = []

    def _keep(self, version: Transcript, model: list[ChatMessage]) -> tuple[Transcript, list[ChatMessage]]:
        self.all.append((version, model))
        return self.all[-1]

    @rule(target=known, texts=st.lists(st.integers(), max_size=4))
    def begin(self, texts: list[int]) -> tuple[Transcript, list[ChatMessage]]:
        model = [_message(text) for text in texts]
        return self._keep(Transcript(model), model)

    @rule(target=known, of=known, texts=st.lists(st.integers(), max_size=4))
    def grow(
        self, of: tuple[Transcript, list[ChatMessage]], texts: list[int]
    ) -> tuple[Transcript, list[ChatMessage]]:
        more = [_message(text) for text in texts]
        return self._keep(of[0].plus(*more), [*of[1], *more])

    @rule(target=known, of=known, length=st.integers(0, 12))
    def view(
        self, of: tuple[Transcript, list[ChatMessage]], length: int
    ) -> tuple[Transcript, list[ChatMessage]]:
        return self._keep(of[0].upto(length), of[1][:length])

    @rule(of=known, index=st.integers(-14, 14), start=st.integers(0, 14))
    def look(self, of: tuple[Transcript, list[ChatMessage]], index: int, start: int) -> None:
        version, model = of
        assert version.after(start) == model[start:]
        assert version[start:] == model[start:]
        assert version[:index] == model[:index]
        assert version[::2] == model[::2]
        if -len(model) <= index < len(model):
            assert version[index] == model[index]
        else:
            with pytest.raises(IndexError):
                version[index]

    @rule(of=known)
    def spoil_what_was_handed_out(self, of: tuple[Transcript, list[ChatMessage]]) -> None:
        of[0].after(0).clear()
        of[0][:].clear()
        list(of[0]).clear()

    @invariant()
    def all_versions_are_what_they_were(self) -> None:
        for version, model in self.all[-30:]:
            assert list(version) == model
            assert len(version) == len(model)
            assert version == Transcript(model)


TestVersions = Versions.TestCase
TestVersions.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True)


def test_growing_the_newest_version_does_not_copy() -> None:
    transcript = Transcript()
    for n in range(2_000):
        grown = transcript.plus(_message(n))
        assert grown._items is transcript._items, "each step would cost as much as the whole conversation"
        transcript = grown


def test_what_a_transcript_is_made_of_may_change_later() -> None:
    given = [_message(1)]
    transcript = Transcript(given)
    given.append(_message(2))
    assert len(transcript) == 1


def test_reading_while_it_grows() -> None:
    transcript = Transcript([_message(1), _message(2)])
    seen = []
    for message in transcript:
        seen.append(message)
        transcript.plus(_message(3))
    assert len(seen) == 2
