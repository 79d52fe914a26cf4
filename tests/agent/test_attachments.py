"""Pictures and documents beside the text: read at the door, kept in the log once, and never by a model's word."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from services import WIRES, Wire, openai, reply

from loom import Agent, RunContext, RunState, Runtime, RuntimeTask, SessionRestorePolicy, loop, media, tool
from loom.errors import ConfigError
from loom.events import RunStarted, ToolFinished
from loom.store.file import FileSessionStore
from loom.store.sqlite import SqliteSessionStore
from loom.testing import ModelServer, ScriptedProvider, call
from loom.types import (
    AudioPart,
    ChatMessage,
    FilePart,
    ImagePart,
    Role,
    TextPart,
    ThinkingPart,
    ToolResult,
    VideoPart,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
OTHER = b"\x89PNG\r\n\x1a\n" + bytes(50)
ENCODED = base64.b64encode(PNG).decode()


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    file = tmp_path / "cat.png"
    file.write_bytes(PNG)
    return file


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteSessionStore]:
    one = SqliteSessionStore(tmp_path / "s.db")
    yield one
    await one.aclose()


def blocks(body: Any) -> list[tuple[str, str]]:
    """The parts of the last message in a request, as kind and content, whatever the wire."""
    shown: list[tuple[str, str]] = []
    for block in body["messages"][-1]["content"]:
        if block["type"] == "text":
            shown.append(("text", block["text"]))
        else:
            source = block.get("source") or block["image_url"]
            shown.append(("image", source.get("data") or source["url"].partition(",")[2]))
    return shown


# --- in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_text_and_a_picture_are_sent(wire: Wire, cat: Path) -> None:
    async with ModelServer(["a cat"] * 4) as server:
        provider = wire(server)
        agent = Agent(model=provider)
        asked = ["What is on this picture?", ImagePart(str(cat))]
        assert (await agent.run(asked)).output == "a cat"
        assert [e async for e in agent.stream(asked)][-1].type == "run.finished"
        assert (await agent.session().start(asked)).output == "a cat"
        assert (await agent.session().run(tuple(asked))).output == "a cat"
        await provider.aclose()
    for request in server.requests:
        assert blocks(request.body) == [("text", "What is on this picture?"), ("image", ENCODED)]


async def test_sync(cat: Path) -> None:
    model = ScriptedProvider(["a cat"])
    result = await asyncio.to_thread(Agent(model=model).run_sync, ["What?", ImagePart(str(cat))])
    assert result.output == "a cat"


@pytest.mark.parametrize("wire", WIRES)
async def test_the_order_of_text_and_pictures_is_kept(wire: Wire, cat: Path) -> None:
    async with ModelServer(["the first"] * 2) as server:
        provider = wire(server)
        agent = Agent(model=provider)
        first, second = ImagePart(str(cat)), media.image(OTHER)
        await agent.run(["First:", first, "Second:", second, "Compare."])
        await agent.run([first, "What is it?"], context=RunContext(inputs={"who": "ana"}))
        await provider.aclose()
    words = [content if kind == "text" else kind for kind, content in blocks(server.requests[0].body)]
    assert words == ["First:", "image", "Second:", "image", "Compare."]
    words = [content if kind == "text" else kind for kind, content in blocks(server.requests[1].body)]
    assert words == ["image", "What is it?", '<context>\n{"who":"ana"}\n</context>']


def test_the_goal_is_the_text() -> None:
    picture = media.image(PNG)
    for given, goal, attachments in [
        ("look", "look", []),
        (["look"], "look", []),
        (["look", picture], "look", [picture]),
        (["look", "  ", TextPart("here"), picture], "look\n\nhere", [picture]),
        ([picture, "look"], "look", [picture, TextPart("look")]),
        (["a", picture, "b"], "a\n\nb", [TextPart("a"), picture, TextPart("b")]),
    ]:
        task = RuntimeTask.from_input(given)  # type: ignore[arg-type]
        assert (task.goal, task.attachments) == (goal, attachments)


@pytest.mark.parametrize(
    "odd",
    [b"x", 7, None, {"a": 1}, ["x", 7], ["x", b"y"], ["x", ThinkingPart("hm")], ["x", Path("a.png")], {"x"}],
)
async def test_what_is_no_task_is_refused(odd: Any) -> None:
    with pytest.raises(TypeError):
        await Agent(model=ScriptedProvider(["x"])).run(odd)


@pytest.mark.parametrize("empty", ["", " ", [], [""], [ImagePart("https://x.example/a.png")]])
async def test_a_task_needs_text(empty: Any) -> None:
    with pytest.raises(ValueError, match="text"):
        await Agent(model=ScriptedProvider(["x"])).run(empty)


async def test_what_cannot_be_read_keeps_the_run_from_beginning(cat: Path, store: SqliteSessionStore) -> None:
    model = ScriptedProvider(["fine"])
    session = Agent(model=model, session_store=store).session("s")
    not_base64 = "data:image/png;base64,????"
    for source in (str(cat.parent / "none.png"), str(cat.parent), not_base64):
        with pytest.raises(ConfigError):
            await session.run(["What?", ImagePart(source)])
        run = session.start(["What?", ImagePart(source)])
        with pytest.raises(ConfigError):
            await run
        assert run.state is RunState.FAILED
    with pytest.raises(ConfigError, match="image/png"):
        await session.run(["Read this.", FilePart(str(cat))])
    assert await store.head("s") == 0
    assert (await session.run("never mind")).output == "fine"


async def test_runs_keep_their_turns_however_long_files_take(cat: Path) -> None:
    model = ScriptedProvider(["one", "two"])
    session = Agent(model=model).session()
    first = session.start(["look", *[ImagePart(str(cat))] * 50])
    second = session.start("and now?")
    assert ((await first).output, (await second).output) == ("one", "two")
    assert len(model.requests[1].messages) == 3


async def test_a_wire_that_takes_no_such_part_says_so() -> None:
    async with ModelServer(["x"]) as server:
        provider = openai(server)
        result = await Agent(model=provider).run(["Watch.", VideoPart("https://h.example/film.mp4")])
        await provider.aclose()
    assert result.state is RunState.FAILED
    assert "video parts" in str(result.error)


# --- kept ---------------------------------------------------------------------------------------------


@tool(destructive=True)
def wipe() -> str:
    """Wipe it."""
    return "wiped"


async def test_a_resume_elsewhere_sends_what_was_sent(cat: Path, store: SqliteSessionStore) -> None:
    asked = ["What?", ImagePart(str(cat))]
    first = Agent(model=ScriptedProvider([call("wipe")]), tools=[wipe], session_store=store)
    waiting = await first.session("s").run(asked)
    assert waiting.state is RunState.WAITING
    cat.write_bytes(b"something else")
    cat.unlink()
    model = ScriptedProvider(["a cat"])
    second = Agent(model=model, tools=[wipe], session_store=store)
    answers = [waiting.pending[0].approve(by="ana")]
    assert (await second.session("s").resume(answers=answers)).output == "a cat"
    assert model.requests[0].messages[0].content == (TextPart("What?"), media.image(PNG))
    (started,) = [e for e in await store.read("s") if isinstance(e, RunStarted)]
    assert started.task == RuntimeTask("What?", attachments=[media.image(PNG)])
    record = store.load_transcript(waiting.run_id)
    assert record is not None
    assert record.messages[0]["content"][1]["source"] == media.image(PNG).source


@pytest.mark.parametrize("kind", [FileSessionStore, SqliteSessionStore])
async def test_a_picture_is_kept_and_encoded_once(kind: Any, tmp_path: Path) -> None:
    picture = tmp_path / "big.png"
    picture.write_bytes(PNG + os.urandom(1024 * 1024))
    store = kind(tmp_path / "sessions")
    sizes: list[int] = []

    async def size() -> int:
        return sum(len(msgspec.json.encode(event)) for event in await store.read("s"))

    async with ModelServer(["one", "two", "three"]) as server:
        provider = openai(server)
        session = Agent(model=provider, session_store=store).session("s")
        results = [await session.run(["What?", ImagePart(str(picture))])]
        (fragment,) = vars(results[0].messages[0]).values()
        sizes.append(await size())
        for more in ("And?", "So?"):
            results.append(await session.run(more))
            sizes.append(await size())
        assert vars(results[0].messages[0]) == {"openai_chat": fragment}
        assert next(iter(vars(results[0].messages[0]).values())) is fragment
        await provider.aclose()
    await store.aclose()
    assert [len(request.body["messages"]) for request in server.requests] == [1, 3, 5]
    assert all(bytes(fragment) in request.raw for request in server.requests)
    once = picture.stat().st_size * 4 // 3
    assert once < sizes[0] < once + 5_000
    assert sizes[2] < sizes[0] + 10_000
    on_disk = sum(file.stat().st_size for file in tmp_path.iterdir() if file.name.startswith("sessions"))
    assert on_disk < 2.5 * once, "in the log, and at most a second time in a database's own journal"


async def test_a_window_of_the_past_is_its_text(cat: Path) -> None:
    model = ScriptedProvider(["one", "two"])
    runtime = Runtime(session_restore=SessionRestorePolicy.transcript_only())
    session = Agent(model=model, runtime=runtime).session()
    await session.run(["What?", ImagePart(str(cat))])
    await session.run("And?")
    assert [m.content for m in model.requests[1].messages] == ["What?", "one", "And?"]


# --- tools of the application -------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_a_function_may_return_a_file(wire: Wire, cat: Path) -> None:
    @tool(read_only=True)
    def photo() -> Any:
        """Take a photo."""
        return ["here", ImagePart(str(cat))]

    @tool(read_only=True)
    async def photos() -> ToolResult:
        """Take photos."""
        return ToolResult(content_parts=[ImagePart(str(cat))])

    async with ModelServer([[call("photo"), call("photos")], "a cat"]) as server:
        provider = wire(server)
        result = await Agent(model=provider, tools=[photo, photos]).run("go")
        await provider.aclose()
    assert result.output == "a cat"
    finished = [e.result.content_parts for e in result.events if isinstance(e, ToolFinished)]
    assert [list(parts or ()) for parts in finished] == [
        [TextPart("here"), media.image(PNG)],
        [media.image(PNG)],
    ]
    assert str(server.requests[1].body).count(ENCODED) == 2


async def test_a_function_that_returns_what_is_not_there_failed(tmp_path: Path) -> None:
    @tool(read_only=True)
    def photo() -> Any:
        """Take a photo."""
        return ImagePart(str(tmp_path / "none.png"))

    result = await Agent(model=ScriptedProvider([call("photo"), "fine"]), tools=[photo]).run("go")
    assert result.output == "fine"
    (finished,) = [e for e in result.events if isinstance(e, ToolFinished)]
    assert finished.outcome == "error"
    assert "none.png" in finished.result.text


# --- the loop face ------------------------------------------------------------------------------------


async def test_a_turn_reads_the_files_of_its_user(cat: Path) -> None:
    async with ModelServer(["a cat", "yes"]) as server:
        provider = openai(server)
        agent = loop.Agent(provider)
        said = [ChatMessage(Role.USER, [TextPart("What?"), ImagePart(str(cat))])]
        before = list(said)
        turn = await agent.run_turn(said)
        assert turn.reply == "a cat"
        assert said == before, "the list is the caller's"
        assert turn.messages is not None
        assert turn.messages[0].content == (TextPart("What?"), media.image(PNG))
        cat.unlink()
        again = await agent.run_turn([*turn.messages, ChatMessage(Role.USER, "Sure?")])
        assert again.messages is not None
        assert again.messages[0] is turn.messages[0]
        await provider.aclose()
    assert blocks({"messages": server.requests[1].body["messages"][:1]}) == blocks(server.requests[0].body)


async def test_a_turn_that_cannot_read_a_file_does_not_begin(tmp_path: Path) -> None:
    model = ScriptedProvider(["x"])
    said = [ChatMessage(Role.USER, (TextPart("What?"), ImagePart(str(tmp_path / "none.png"))))]
    with pytest.raises(ConfigError, match=r"none\.png"):
        await loop.Agent(model).run_turn(said)
    with pytest.raises(ConfigError, match=r"none\.png"):
        _ = [event async for event in loop.Agent(model).run_turn_stream(said)]
    assert model.requests == []


# --- out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_what_a_model_shows_is_in_the_result(wire: Wire) -> None:
    picture, sound = media.image(PNG), AudioPart("data:audio/wav;base64,AAAA")
    model = ScriptedProvider([reply(TextPart("Here."), picture), reply(sound)])
    session = Agent(model=model).session("s")
    first = await session.run("draw")
    assert (first.output, first.media) == ("Here.", (picture,))
    assert media.load_file_bytes(first.media[0].source) == (PNG, "image/png")
    second = await session.run("sing")
    assert (second.state, second.output, second.media) == (RunState.COMPLETED, "", (sound,))
    assert first["media"] == (picture,)
    # and a conversation that holds them goes on at any service
    async with ModelServer(["lovely"]) as server:
        provider = wire(server)
        turn = await loop.Agent(provider).run_turn(
            [*first.messages, *second.messages, ChatMessage(Role.USER, "Well?")]
        )
        await provider.aclose()
    assert turn.reply == "lovely"


async def test_a_reply_of_nothing_is_still_nothing() -> None:
    result = await Agent(model=ScriptedProvider([reply(TextPart(""))])).run("go")
    assert result.error is not None
    assert result.error.code == "empty_reply"


async def test_a_tasks_extensions_are_shown_beside_its_input_and_survive_the_store(tmp_path: Path) -> None:
    from loom.signals import RuntimeTask
    from loom.store.sqlite import SqliteSessionStore
    from loom.testing.scripted import ScriptedProvider

    provider = ScriptedProvider(["ok"])
    agent = Agent(model=provider, session_store=SqliteSessionStore(tmp_path / "s.db"))
    task = RuntimeTask("Go", input={"a": 1}, extensions={"ticket": {"id": 7}})
    result = await agent.session("s").run(task)
    assert '{"a":1,"ticket":{"id":7}}' in (provider.requests[0].messages[0].text_content or "")
    [started, *_] = await agent.session("s").store.read("s", run_id=result.run_id)
    assert started.task == task
