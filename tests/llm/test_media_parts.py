"""Media on the wires: data and addresses go out as they are, and no path is ever opened."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from wires import CONVERSATION, WIRES, anthropic, gemini, openai, responses

import loom
from loom import media
from loom.errors import ConfigError
from loom.llm.media import Media, MediaPart, Misfit, load_media, read_media, refuse_misfits
from loom.testing import ModelServer, call
from loom.types import (
    AudioPart,
    ChatMessage,
    FilePart,
    ImagePart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
    VideoPart,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
ENCODED = base64.b64encode(PNG).decode()
WHERE: list[Role] = [Role.USER, Role.TOOL, Role.ASSISTANT]

_opened: list[list[str]] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened and event == "open":
        _opened[-1].append(str(arguments[0]))


sys.addaudithook(_watch)


@contextmanager
def opened() -> Iterator[list[str]]:
    """The files that are opened meanwhile, by whomever, as the interpreter sees it."""
    _opened.append([])
    try:
        yield _opened[-1]
    finally:
        _opened.clear()


async def sent(wire: Any, *messages: ChatMessage) -> Any:
    outgoing = await wire("http://h")._request(messages, None, "m", None, False)
    return msgspec.json.decode(outgoing.body)[CONVERSATION[wire]]


async def attempt(wire: Any, *messages: ChatMessage) -> tuple[str, str]:
    """The body as text, or the error."""
    try:
        return str(await sent(wire, *messages)), ""
    except ConfigError as error:
        return "", str(error)


def message(role: Role, *parts: MediaPart) -> ChatMessage:
    return ChatMessage(role, (TextPart("Look:"), *parts), tool_call_id="c" if role is Role.TOOL else None)


@pytest.mark.parametrize("role", WHERE)
@pytest.mark.parametrize("wire", WIRES)
async def test_no_path_is_opened_whoever_wrote_it(wire: Any, role: Role, tmp_path: Path) -> None:
    there = tmp_path / "there.png"
    there.write_bytes(PNG)
    for source in (str(there), f"file://{there}", os.path.relpath(there), f" {there}"):
        for kind in (ImagePart, FilePart):
            with opened() as files:
                body, error = await attempt(wire, message(role, kind(source)))
            assert not [file for file in files if "there" in file]
            assert "there.png" not in body
            assert ENCODED not in body
            assert "names a file" in error or "cannot be sent" in error or role is Role.ASSISTANT


def test_a_path_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"'/etc/hosts' names a file.*loom\.media"):
        read_media(FilePart("/etc/hosts"))
    with pytest.raises(ConfigError, match="…") as caught:
        read_media(FilePart("/x" * 5000))
    assert len(str(caught.value)) < 300


async def test_text_that_looks_like_parts_is_text() -> None:
    looks = '[{"type": "image", "source": "/etc/hosts"}]'
    for wire in WIRES:
        assert "/etc/hosts" in str(await sent(wire, ChatMessage(Role.USER, looks)))
        assert "image_url" not in str(await sent(wire, ChatMessage(Role.USER, looks)))


@pytest.mark.parametrize("wire", WIRES)
async def test_what_the_assistant_showed_does_not_stop_a_conversation(wire: Any) -> None:
    """A picture or a sound that a model made goes into the history; the next request must still be possible."""
    for part in (ImagePart(f"data:image/png;base64,{ENCODED}"), AudioPart("data:audio/wav;base64,AAAA")):
        talk = [message(Role.USER), ChatMessage(Role.ASSISTANT, (part,)), message(Role.USER)]
        roles = [one["role"] for one in await sent(wire, *talk)]
        assert roles in (["user", "assistant", "user"], ["user", "model", "user"], ["user", "user"], ["user"])
        said = await sent(wire, message(Role.USER), message(Role.ASSISTANT, part))
        assert "Look:" in str(said[-1])
        if wire is gemini:  # which takes back what it drew, to go on with it
            assert part.source.partition(",")[2] in str(said[-1])
        else:
            assert ENCODED not in str(said)


async def test_a_text_document_is_sent_as_text() -> None:
    (user,) = await sent(anthropic, message(Role.USER, media.document("\ufeffOlá".encode())))
    assert user["content"][1] == {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "Olá"},
    }


@pytest.mark.parametrize("wire", WIRES)
async def test_a_large_image_is_encoded_once(wire: Any) -> None:
    picture = message(Role.USER, media.image(PNG + os.urandom(1024 * 1024)))
    provider = wire("http://h")
    await provider._request([picture], None, "m", None, False)
    (kept,) = vars(picture).values()
    await provider._request([picture, ChatMessage(Role.USER, "And?")], None, "m", None, False)
    assert next(iter(vars(picture).values())) is kept


async def test_addresses_are_passed_on_whatever_their_capitals() -> None:
    parts = (ImagePart("HTTPS://x.example/a.png"), ImagePart(f"DATA:image/PNG;base64,{ENCODED}"))
    (user,) = await sent(openai, message(Role.USER, *parts))
    assert [part["image_url"]["url"] for part in user["content"][1:]] == [
        "HTTPS://x.example/a.png",
        f"data:image/png;base64,{ENCODED}",
    ]


# --- what a wire has no place for --------------------------------------------------------------------

SOUND = AudioPart("data:audio/wav;base64,UklGRg==")
OGG = AudioPart("data:audio/ogg;base64,T2dnUw==")
FAR_SOUND = AudioPart("https://x.example/a.wav")
FILM = VideoPart("data:video/mp4;base64,AAAA")
FAR_PDF = FilePart("https://x.example/a.pdf")
MISFITS: list[tuple[Any, MediaPart, str]] = [
    (anthropic, SOUND, "[an audio part was left out: this service takes none]"),
    (anthropic, FILM, "[a video part was left out: this service takes none]"),
    (openai, FILM, "[a video part was left out: this service takes none]"),
    (openai, FAR_SOUND, "[an audio part was left out: this service takes none from an address]"),
    (openai, FAR_PDF, "[a file part was left out: this service takes none from an address]"),
    (responses, FILM, "[a video part was left out: this service takes none]"),
    (responses, FAR_SOUND, "[an audio part was left out: this service takes none from an address]"),
    (responses, OGG, "[an audio part was left out: this service takes none of type audio/ogg]"),
]
REPLY = ChatMessage(Role.ASSISTANT, "I see.")
CALLING = ChatMessage(Role.ASSISTANT, None, tool_calls=(ToolCall("c", "film"),))


def texts(sent: Any) -> list[str]:
    """Every string in a body, in order."""
    if isinstance(sent, str):
        return [sent]
    inner = sent.values() if isinstance(sent, dict) else sent if isinstance(sent, list) else ()
    return [text for one in inner for text in texts(one)]


@pytest.mark.parametrize(("wire", "part", "note"), MISFITS)
async def test_new_media_without_a_place_are_an_error_every_time(
    wire: Any, part: MediaPart, note: str
) -> None:
    talk = [message(Role.USER), REPLY, message(Role.USER, part)]
    for more in ([], [message(Role.USER)], [ChatMessage(Role.SYSTEM, "Be brief.")]):
        _, error = await attempt(wire, *talk, *more)
        assert "parts" in error
        assert "cannot be sent" in error
    # Whatever was encoded meanwhile: it is told again, and once there is a reply it is a note.
    assert note in str(await sent(wire, *talk, REPLY, message(Role.USER)))
    assert (await attempt(wire, *talk))[1] == error


@pytest.mark.parametrize(("wire", "part", "note"), MISFITS)
async def test_old_media_without_a_place_are_a_note_in_their_place(
    wire: Any, part: MediaPart, note: str
) -> None:
    old = ChatMessage(Role.USER, (TextPart("before"), part, TextPart("after")))
    said = "|".join(texts(await sent(wire, old, REPLY, message(Role.USER))))
    places = [said.index(text) for text in ("before", note, "after", "I see.")]
    assert places == sorted(places)
    assert part.source not in said
    alone = await sent(wire, ChatMessage(Role.USER, (part,)), REPLY, message(Role.USER))
    assert note in texts(alone)


@pytest.mark.parametrize(("wire", "part", "note"), [*MISFITS, (responses, SOUND, MISFITS[0][2])])
async def test_a_tool_may_return_media_without_a_place(wire: Any, part: MediaPart, note: str) -> None:
    picture = ImagePart(f"data:image/png;base64,{ENCODED}")
    note = note.partition(" none")[0]  # of some kinds a tool has no place for any
    result = ChatMessage(Role.TOOL, (TextPart("Here:"), part, picture), tool_call_id="c", name="film")
    body = str(await sent(wire, message(Role.USER), CALLING, result))
    assert note in body
    assert ENCODED in body
    alone = ChatMessage(Role.TOOL, (part,), tool_call_id="c", name="film")
    assert note in str(await sent(wire, message(Role.USER), CALLING, alone))


async def test_gemini_has_a_place_for_everything() -> None:
    for part in (SOUND, OGG, FAR_SOUND, FILM, FAR_PDF):
        body = str(await sent(gemini, message(Role.USER, part), REPLY, message(Role.USER)))
        assert part.source.rpartition(",")[2] in body
        assert "left out" not in body


async def test_a_tool_result_without_a_place_does_not_end_a_run() -> None:
    @loom.tool
    def listen() -> ToolResult:
        """Records a sound."""
        return ToolResult("Recorded.", content_parts=(SOUND,))

    async with (
        ModelServer([call("listen"), "Heard.", "Again."]) as server,
        anthropic(server.base_url) as model,
    ):
        session = loom.Agent(model=model, tools=[listen]).session()
        assert (await session.run("Listen")).output == "Heard."
        assert (await session.run("Once more")).output == "Again."
    assert MISFITS[0][2] in str(server.requests[-1].body)


def films_only(part: MediaPart, role: Role) -> Misfit | None:
    return None if isinstance(part, VideoPart) else Misfit()


async def test_loading_by_kind() -> None:
    film = message(Role.USER, FILM)
    assert await load_media(film, films_only) == (film, {FILM.source: Media("video/mp4", "AAAA")})
    refuse_misfits([film], films_only, "that wire")
    with pytest.raises(ConfigError, match="that wire cannot be sent audio parts; turn the audio into text"):
        refuse_misfits([message(Role.USER, SOUND)], films_only, "that wire")
    showed = message(Role.ASSISTANT, SOUND)
    assert await load_media(showed, films_only) == (showed, {})
    text = ChatMessage(Role.USER, "text")
    assert await load_media(text, films_only) == (text, {})
