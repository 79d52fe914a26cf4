"""What a type checker says about programs that use ``loom``. Checked by mypy and pyright, never run.

``assert_type`` holds what must be inferred. A line with an ignore is a mistake a user could make: both
checkers must complain there, or they complain that the ignore is needless.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Optional, Union, assert_type

from pydantic import BaseModel

from loom import (
    Agent,
    Answer,
    AnyEvent,
    FallbackModel,
    Files,
    Model,
    Request,
    RoutedModel,
    Run,
    RunResult,
    RuntimeTask,
    Session,
    SessionConfig,
    SqliteSessionStore,
    ToolContext,
    media,
    tool,
)
from loom.errors import RateLimitError
from loom.events import ModelReplied, PartialOutput
from loom.llm.base import LLMProvider
from loom.llm.registry import ProviderRegistry
from loom.routing import MessageCategory, ModelStrengths, choose_model, classify_message
from loom.types import (
    Attempt,
    AudioPart,
    ChatMessage,
    ErrorInfo,
    FilePart,
    ImagePart,
    Role,
    TextPart,
    VideoPart,
)


class Report(BaseModel):
    title: str


@dataclass
class Database:
    url: str


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(read_only=True)
async def find(name: str, context: ToolContext[Database]) -> str:
    """Find a row."""
    assert_type(context.deps, Database)
    return context.deps.url + name


def a_tool_is_still_the_function() -> None:
    assert_type(add(1, 2), int)
    add("1", 2)  # type: ignore[arg-type]


async def text_is_the_output_unless_told_otherwise() -> None:
    agent = Agent(model=Model.offline(), tools=[add, find], capabilities=[Files(read_only=True)])
    result = await agent.run("hello")
    assert_type(result.output, str | None)
    assert_type(result.text, str)
    assert_type(result.unwrap(), str)
    assert_type(result.cost, float | None)
    result.output = "edited"  # type: ignore[misc]


async def the_output_type_is_the_type_of_the_output() -> None:
    agent = Agent(model="openai:gpt", output_type=Report)
    result = await agent.run("hello")
    assert_type(result, RunResult[Report])
    assert_type(result.output, Report | None)
    print(result.output.title)  # type: ignore[union-attr]
    assert_type(result.unwrap().title, str)
    assert_type(agent.run_sync("hello").unwrap(), Report)


async def any_type_can_be_the_output_type() -> None:
    assert_type(Agent(output_type=None), Agent[str, Any])
    assert_type(Agent(output_type=str), Agent[str, Any])
    assert_type(Agent(output_type=list[Report]), Agent[list[Report], Any])
    assert_type(Agent(output_type=Report | Database), Agent[Report | Database, Any])
    assert_type(Agent(output_type=Report | None, deps=7), Agent[Report | None, int])
    assert_type(Agent(output_type=Optional[Report]), Agent[Report | None, Any])  # noqa: UP045
    assert_type(Agent(output_type=Union[Report, int]), Agent[Report | int, Any])  # noqa: UP007
    assert_type(Agent(output_type=Literal["yes", "no"]), Agent[Literal["yes", "no"], Any])
    assert_type((await Agent(output_type=Literal["yes", "no"]).run("?")).unwrap(), Literal["yes", "no"])
    assert_type((await Agent(output_type=Report | None).run("?")).unwrap(), Report | None)


async def a_session_keeps_the_types_of_its_agent() -> None:
    agent = Agent(model="auto", output_type=Report, session_store=SqliteSessionStore("sessions.db"))
    session = agent.session(SessionConfig(id="a"))
    assert_type(session, Session[Report, Any])
    run = session.start("hello")
    assert_type(run, Run[Report])
    async for event in run.events():
        assert_type(event, AnyEvent)
    assert_type(run.output, Report | None)
    assert_type((await run).unwrap(), Report)
    assert_type(await run.wait(), RunResult[Report])


async def dependencies_are_typed() -> None:
    agent = Agent(model="auto", tools=[find], deps=Database("sqlite://"))
    assert_type(agent, Agent[str, Database])
    await agent.run("hello", deps=Database("other://"))
    await agent.run("hello", deps="other://")  # type: ignore[arg-type]
    assert_type(agent.session("a"), Session[str, Database])


async def requests_make_answers() -> None:
    session = Agent(model="auto").session("a")
    pending = await session.pending()
    assert_type(pending, list[Request])
    answers = [request.approve(by="ana") for request in pending]
    assert_type(answers, list[Answer])
    assert_type(session.resume(answers=answers), Run[str])


async def several_models_are_one(mine: LLMProvider) -> None:
    async def choose(messages: list[ChatMessage]) -> str:
        return "quick"

    fallback = FallbackModel([Model.offline(), "openai:gpt", mine], on=(RateLimitError, KeyError))
    assert_type(fallback.identifier, str)
    routed = RoutedModel(choose, models={"quick": fallback, "deep": Model.offline(), "own": mine})
    RoutedModel(lambda messages: None, models={"quick": "openai:gpt"}, default="quick")
    RoutedModel(models={"quick": Model.offline()}, strengths={"quick": ModelStrengths(speed=9)})
    nested = FallbackModel([routed, Model.offline()])
    assert_type(Agent(model=nested, output_type=Report), Agent[Report, Any])
    event = ModelReplied(iteration=1, message=ChatMessage(Role.ASSISTANT, "hi"))
    assert_type(event.attempts, tuple[Attempt, ...])
    assert_type(event.attempts[0].error, ErrorInfo | None)
    fallback.models = []  # type: ignore[misc]
    FallbackModel(7)  # type: ignore[arg-type]
    FallbackModel([7])  # type: ignore[list-item]
    FallbackModel(["openai:gpt"], on=RateLimitError)  # type: ignore[arg-type]
    RoutedModel(models={"quick": 7})  # type: ignore[dict-item]
    RoutedModel(lambda messages: 7, models={"quick": mine})  # type: ignore[arg-type,return-value]


def messages_are_judged(registry: ProviderRegistry) -> None:
    assert_type(classify_message("hello"), MessageCategory)
    assert_type(choose_model("hello", registry, {"a": ModelStrengths()}, "a"), str | None)
    ModelStrengths(speed="fast")  # type: ignore[arg-type]


async def text_and_parts_are_a_task() -> None:
    agent = Agent(model="auto")
    result = await agent.run(["What is this?", ImagePart("cat.png"), media.document(b"%PDF-1.7")])
    assert_type(result.unwrap(), str)
    assert_type(result.media, tuple[ImagePart | AudioPart | VideoPart | FilePart, ...])
    agent.stream(("Look:", media.image("cat.png")))
    agent.run_sync(RuntimeTask("Look", attachments=[media.audio("purr.mp3")]))
    session = agent.session()
    assert_type(session.start([TextPart("Look"), ImagePart("cat.png")]), Run[str])
    assert_type(media.attachment("cat.png"), ImagePart | AudioPart | VideoPart | FilePart)
    assert_type(media.load_file_bytes("cat.png"), tuple[bytes, str])
    await agent.run(["What?", 7])  # type: ignore[list-item]
    await agent.run(b"What?")  # type: ignore[arg-type]


async def a_typed_answer_is_seen_while_it_grows() -> None:
    async for event in Agent(model="auto", output_type=Report).stream("hello"):
        if isinstance(event, PartialOutput):
            assert_type(event.value, Any)


def mistakes_are_noticed() -> None:
    Agent(modle="auto")  # type: ignore[call-overload]
    Agent(model=7)  # type: ignore[call-overload]
