"""``OfflineProvider``: decides the next reply from the conversation alone.

The order of decisions is here. Recognising a task is in ``tasks``, the next look at a repository in
``survey``, the words of the answer in ``summary`` and ``speech``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ...errors import OfflineError
from ...types import ChatMessage, ChatResponse, Role, StopReason, ToolCall, ToolSpec, Usage, to_json
from ..base import ContentDeltaEvent, LLMProvider, ModelSettings, ProviderEvent
from .conversation import Offered, Turn, Wanted, read_turn
from .speech import (
    blind,
    call_failed,
    call_report,
    introduction,
    no_schema,
    not_callable,
    remote_repository,
)
from .summary import write_summary
from .survey import Survey, next_calls
from .tasks import direct_call, goal_of, is_survey_task, survey_root, url_in

MODEL_NAME = "offline"
# A runaway guard far above what a survey needs: past it, it answers with what it has.
_MOST_CALLS = 40


class OfflineProvider(LLMProvider):
    """A deterministic embedded "model": rules, not a language model, and it says so in its answers.

    Asked to summarise a repository, it asks for the file tools it is offered (``List``, ``Glob``, ``Grep``,
    ``Read``) and writes an extractive summary that quotes its sources. Asked to ``call <tool> {json}``, it
    calls that tool and repeats the result. Anything else it cannot do, and raises OfflineError, which says why
    and how to connect a model: a task that was not done is no reply.

    It keeps nothing between calls: the same messages and tools give the same reply. Usage is zero, for no
    tokens are counted.
    """

    @property
    def unmetered(self) -> bool:
        """See LLMProvider."""
        return True

    async def chat(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> ChatResponse:
        """Return the next reply; ``model`` is ignored. Raises OfflineError for what it cannot do, as for a schema."""
        return _reply(messages, tools or (), settings)

    async def chat_stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[ToolSpec] | None = None,
        model: str | None = None,
        settings: ModelSettings | None = None,
    ) -> AsyncIterator[ProviderEvent]:
        """Yield the text of ``chat``'s reply line by line, then that reply whole. Raises as ``chat`` does."""
        response = _reply(messages, tools or (), settings)
        for line in (response.message.text_content or "").splitlines(keepends=True):
            yield ContentDeltaEvent(line)
        yield response


def _reply(
    messages: Sequence[ChatMessage], tools: Sequence[ToolSpec], settings: ModelSettings | None
) -> ChatResponse:
    turn = read_turn(messages)
    move = _next_move(turn, Offered(tools), settings)
    if isinstance(move, str):
        return ChatResponse(
            ChatMessage(Role.ASSISTANT, move), Usage(), stop_reason=StopReason.STOP, model=MODEL_NAME
        )
    calls = tuple(
        ToolCall(f"offline_{turn.next_number + index}", call.name, to_json(call.arguments))
        for index, call in enumerate(move)
    )
    message = ChatMessage(Role.ASSISTANT, tool_calls=calls)
    return ChatResponse(message, Usage(), stop_reason=StopReason.TOOL_USE, model=MODEL_NAME)


def _next_move(turn: Turn, offered: Offered, settings: ModelSettings | None) -> str | list[Wanted]:
    if settings is not None and settings.output_schema is not None:
        raise OfflineError(no_schema(offered.names))
    goal = goal_of(turn.task)
    named = direct_call(goal)
    if named is not None and (named[0] in offered.names or "{" in goal):
        return _named_call(turn, offered, *named)
    if not is_survey_task(goal):
        raise OfflineError(introduction(offered.names))
    url = url_in(goal)
    if url is not None:
        raise OfflineError(remote_repository(url))
    return _survey(turn, offered, survey_root(goal))


def _named_call(turn: Turn, offered: Offered, name: str, arguments: object) -> str | list[Wanted]:
    for exchange in turn.exchanges:
        if exchange.name == name:
            if exchange.failed:
                raise OfflineError(call_failed(exchange))
            return call_report(exchange)
    problem = offered.objection(name, arguments)
    if problem is not None or not isinstance(arguments, dict):
        problem = problem or "its arguments are not a JSON object"
        raise OfflineError(not_callable(name, problem, offered.names))
    return [Wanted(name, arguments)]


def _survey(turn: Turn, offered: Offered, root: str) -> str | list[Wanted]:
    survey = Survey.of(root, turn.exchanges)
    calls = next_calls(survey, offered)
    if calls and len(turn.exchanges) + len(calls) <= _MOST_CALLS:
        return calls
    if not survey.made:
        raise OfflineError(introduction(offered.names, survey=True))
    if not survey.saw_anything:
        raise OfflineError(blind(survey.failures))
    return write_summary(survey)
