"""A human who says what a script tells them to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..requests import Answer, Request


class ScriptedHuman:
    """Answers one item per request, and remembers what was asked in ``asked``.

    True approves, False denies, text denies an approval with that reason and answers a question, any other
    value answers a question, None cannot answer now. Out of items, nobody can answer any more.
    """

    def __init__(self, answers: Iterable[Any] = (), *, by: str = "scripted") -> None:
        self.asked: list[Request] = []
        self._answers = iter(tuple(answers))
        self._by = by

    async def ask(self, request: Request) -> Answer | None:
        """See Human."""
        self.asked.append(request)
        said = next(self._answers, None)
        if said is None or isinstance(said, Answer):
            return said
        if request.kind == "question":
            return request.answer(said, by=self._by)
        if said is True:
            return request.approve(by=self._by)
        return request.deny("" if said is False else str(said), by=self._by)
