"""A human behind a function of the application: a chat, a form, a test."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from ..requests import Answer, Request
from ..safety.declared import function, takes

Reply = Answer | bool | str | None


class CallbackHuman:
    """Asks ``callback(request)``, sync or async.

    True and False approve and deny, an ``Answer`` is taken as it is, None leaves the request open (the run
    waits), and any other value answers a question. For an approval only True and an ``Answer`` approve. Raises
    ConfigError for what is no function of one request.
    """

    def __init__(
        self, callback: Callable[[Request], Reply | Awaitable[Reply] | Any], *, by: str = ""
    ) -> None:
        what = "the callback of CallbackHuman"
        self._callback = takes(what, function(what, callback), "request")
        self._by = by

    async def ask(self, request: Request) -> Answer | None:
        """See Human."""
        said = self._callback(request)
        if inspect.isawaitable(said):
            said = await said
        if said is None or isinstance(said, Answer):
            return said
        if request.kind == "question" and not isinstance(said, bool):
            return request.answer(said, by=self._by)
        if said is True and request.kind == "approval":
            return request.approve(by=self._by)
        if request.kind == "question" and said is True:
            return request.answer(True, by=self._by)
        return request.deny("" if said is False else f"the answer {said!r} is not a yes", by=self._by)
