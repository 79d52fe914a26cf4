"""What goes back to Anthropic: blocks of its own in their place, other services' not at all, marks for the cache."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import pytest
from wires import ADD, HELLO, KEY, anthropic

from loom.errors import ConfigError
from loom.llm.anthropic import AnthropicProvider
from loom.llm.base import ModelSettings
from loom.testing.model_server import ModelServer, served
from loom.types import (
    AudioPart,
    CallPart,
    ChatMessage,
    FilePart,
    ImagePart,
    OpaquePart,
    Part,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
)

PNG, PDF = "iVBORw0KGgo=", "JVBERi0xLjQK"


async def sent(messages: Sequence[ChatMessage], **options: Any) -> dict[str, Any]:
    asked = {name: options.pop(name, None) for name in ("tools", "settings")}
    provider = anthropic("http://h", **options)
    body: dict[str, Any] = json.loads(
        (await provider._request(messages, asked["tools"], "m", asked["settings"], False)).body
    )
    return body


async def blocks(*parts: Part, calls: tuple[ToolCall, ...] = ()) -> list[dict[str, Any]]:
    body = await sent([ChatMessage(Role.ASSISTANT, parts, tool_calls=calls or None)])
    found: list[dict[str, Any]] = body["messages"][0]["content"] if body["messages"] else []
    return found


def opaque(block: Any) -> OpaquePart:
    return OpaquePart("anthropic", json.dumps(block))


CITED = [{"type": "text", "text": "It is "}, {"type": "text", "text": "four.", "citations": [{"x": 1}]}]


async def test_a_reply_goes_back_in_the_order_it_came_in() -> None:
    calls = (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "f", "{}"), ToolCall("c", "f", "{}"))
    found = await blocks(
        ThinkingPart("one", "s1", None, "anthropic"),
        CallPart(0),
        ThinkingPart("", None, "enc", "anthropic"),
        opaque({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
        CallPart(1),
        TextPart("done"),
        calls=calls,
    )
    assert [block.get("id") or block["type"] for block in found] == [
        "thinking", "a", "redacted_thinking", "s", "b", "text", "c",
    ]  # fmt: skip


async def test_places_of_calls_that_are_not_there_are_passed_over() -> None:
    found = await blocks(CallPart(7), CallPart(0), CallPart(0), TextPart("x"), calls=(ToolCall("a", "f"),))
    assert [block["type"] for block in found] == ["tool_use", "text"]


async def test_what_another_service_thought_or_keeps_is_not_sent() -> None:
    assert (
        await blocks(
            ThinkingPart("x", "sig", None, "gemini"),
            ThinkingPart("x", None, "enc", "openai_responses"),
            OpaquePart("openai_chat", '{"reasoning_details":[]}'),
            ThinkingPart("no signature"),
        )
        == []
    )
    assert await blocks(ThinkingPart("x", "sig")) == [
        {"type": "thinking", "thinking": "x", "signature": "sig"}
    ]


async def test_texts_that_cite_go_back_with_their_citations() -> None:
    assert await blocks(TextPart("It is four."), opaque(CITED)) == CITED
    blank = [{"type": "text", "text": "\n\n"}, *CITED]
    assert await blocks(TextPart("\n\nIt is four."), opaque(blank)) == CITED


@pytest.mark.parametrize(
    "parts",
    [
        (TextPart("It is [REDACTED]."), opaque(CITED)),
        (opaque(CITED), TextPart("It is [REDACTED].")),
        (TextPart("It is [REDACTED]."), CallPart(3), opaque(CITED)),
    ],
)
async def test_citations_of_a_text_that_was_changed_since_are_not_sent(parts: tuple[Part, ...]) -> None:
    """A hook may have taken something out of the text: what it took must not go back by another way."""
    assert await blocks(*parts) == [{"type": "text", "text": "It is [REDACTED]."}]


@pytest.mark.parametrize("data", ["", "no json", '"text"', "7", '{"type":'])
async def test_an_opaque_part_that_is_no_block_is_refused(data: str) -> None:
    with pytest.raises(ConfigError, match="JSON object"):
        await blocks(OpaquePart("anthropic", data))


async def test_signatures_of_calls_go_back_when_they_are_ours() -> None:
    caller = {"caller": {"type": "code_execution_20250825", "tool_id": "s"}}
    signed = [
        ToolCall("a", "f", "{}", json.dumps({"anthropic": caller}, separators=(",", ":"))),
        ToolCall("b", "f", "{}", "Y2FsbA=="),
        ToolCall("c", "f", "{}", '{"anthropic":broken'),
        ToolCall("d", "f", "{}", '{"anthropic":{"id":"evil","input":{"x":1}}}'),
    ]
    found = await blocks(calls=tuple(signed))
    plain = {"type": "tool_use", "name": "f", "input": {}}
    assert found == [
        {**plain, "id": "a", **caller},
        {**plain, "id": "b"},
        {**plain, "id": "c"},
        {**plain, "id": "d"},
    ]


@pytest.mark.parametrize(
    ("after", "container"),
    [
        ([], "box"),
        ([ChatMessage(Role.TOOL, "1", tool_call_id="a")], "box"),
        ([ChatMessage(Role.TOOL, "1", tool_call_id="a"), ChatMessage(Role.USER, "new")], None),
        ([ChatMessage(Role.ASSISTANT, "done")], None),
    ],
)
async def test_a_container_is_named_while_its_work_goes_on(
    after: list[ChatMessage], container: str | None
) -> None:
    kept = OpaquePart("anthropic", '{"type":"container","id":"box"}')
    reply = ChatMessage(Role.ASSISTANT, (CallPart(0), kept), tool_calls=(ToolCall("a", "f"),))
    body = await sent([*HELLO, reply, *after])
    assert body.get("container") == container
    assert "box" not in json.dumps(body["messages"])


async def test_pictures_and_documents_of_all_kinds() -> None:
    text = base64.b64encode("Grüße".encode()).decode()
    parts = (
        ImagePart("https://x.example/a.png"),
        FilePart("https://x.example/a.pdf"),
        FilePart(f"data:application/pdf;base64,{PDF}"),
        FilePart(f"data:text/plain;base64,{text}"),
    )
    inline = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    wanted = [
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        {"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}},
        {"type": "document", "source": inline},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Grüße"}},
    ]
    (asked,) = (await sent([ChatMessage(Role.USER, parts)]))["messages"]
    assert asked["content"] == wanted
    (told,) = (await sent([ChatMessage(Role.TOOL, parts, tool_call_id="c")]))["messages"]
    assert told["content"][0]["content"] == wanted


async def test_media_that_a_model_made_are_not_sent_back_to_one_that_cannot_take_them() -> None:
    drawn = (TextPart("Here."), ImagePart(f"data:image/png;base64,{PNG}"), AudioPart("gone.wav"))
    assert await blocks(*drawn) == [{"type": "text", "text": "Here."}]


# --- the cache ----------------------------------------------------------------------------------------


def session(turns: int) -> list[ChatMessage]:
    said = [ChatMessage(Role.SYSTEM, "Be brief.")]
    for turn in range(turns):
        said += [
            ChatMessage(Role.USER, f"question {turn} " + "x" * 50),
            ChatMessage(
                Role.ASSISTANT,
                (ThinkingPart("hm", f"s{turn}", None, "anthropic"), TextPart("Let me see.")),
                tool_calls=(ToolCall(f"a{turn}", "add", '{"a":1}'), ToolCall(f"b{turn}", "add", "{}")),
            ),
            ChatMessage(Role.TOOL, "1", tool_call_id=f"a{turn}"),
            ChatMessage(Role.TOOL, "2", tool_call_id=f"b{turn}"),
            ChatMessage(Role.ASSISTANT, f"answer {turn}"),
        ]
    return said


def asking_points(messages: list[ChatMessage]) -> list[int]:
    """Where in a session the model is asked: after the user, and after the last result."""
    roles = [message.role for message in messages] + [Role.ASSISTANT]
    return [
        place
        for place in range(1, len(roles))
        if roles[place] is Role.ASSISTANT and roles[place - 1] in (Role.USER, Role.TOOL)
    ]


@pytest.mark.parametrize("ttl", ["5m", "1h"])
async def test_requests_of_a_session_share_all_but_the_moving_mark(ttl: str) -> None:
    lasting = b"" if ttl == "5m" else b',"ttl":"1h"'
    mark = b',"cache_control":{"type":"ephemeral"' + lasting + b"}"
    provider = anthropic("http://h", prompt_caching=True, cache_ttl=ttl)
    talk, before = session(4), b""
    for place in asking_points(talk):
        body = (await provider._request(talk[:place], [ADD], "m", None, False)).body
        head, _, messages = body.partition(b'"messages":')
        assert body.count(mark) == head.count(mark) + messages.count(mark) <= 4
        assert head.count(mark) == 2
        end = b"]}]}"
        assert messages.endswith(mark + b"}" + end)
        if before:
            # Without marks, one request is the beginning of the next ...
            plain, longer = before.replace(mark, b""), body.replace(mark, b"")
            assert longer.startswith(plain.removesuffix(end))
            # ... and what was marked at its end is marked there still: written then, read now.
            written = before.removesuffix(end).partition(b'"messages":')[2].rpartition(mark)[0]
            assert any(
                messages[: found.start()].replace(mark, b"") == written.replace(mark, b"")
                for found in _places(mark, messages)
            )
        before = body


def _places(mark: bytes, body: bytes) -> list[Any]:
    import re

    return list(re.finditer(re.escape(mark), body))


async def test_a_mark_of_the_users_own_is_left_alone() -> None:
    own = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    body = await sent([ChatMessage(Role.USER, (opaque(own),))], prompt_caching=True)
    assert body["messages"][0]["content"] == [own]
    tool = {"type": "web_search_20250305", "name": "web_search", "cache_control": {"type": "ephemeral"}}
    raw = await anthropic("http://h", prompt_caching=True, extensions={"tools": [tool]})._request(
        HELLO, None, "m", None, False
    )
    assert json.loads(raw.body)["tools"] == [tool]


# --- tools of the service -----------------------------------------------------------------------------

SEARCH = {"type": "web_search_20250305", "name": "web_search"}


async def test_tools_of_the_service_stand_beside_ours() -> None:
    settings = ModelSettings(extensions={"tools": [{"type": "code_execution_20250825", "name": "code"}]})
    body = await sent(HELLO, tools=[ADD], settings=settings, extensions={"tools": [SEARCH]})
    assert [tool["name"] for tool in body["tools"]] == ["web_search", "code", "add"]
    shaped = ModelSettings(output_schema={"type": "object", "properties": {}}, output_name="web_search")
    body = await sent(HELLO, settings=shaped, extensions={"tools": [SEARCH]})
    assert [tool["name"] for tool in body["tools"]] == ["web_search", "web_search_answer"]
    assert body["tool_choice"] == {"type": "any"}
    assert "tools" not in await sent(HELLO)


@pytest.mark.parametrize("tools", [7, "web_search", ["web_search"], {"type": "x"}, [None]])
def test_tools_that_are_no_list_of_objects_are_refused(tools: Any) -> None:
    with pytest.raises(ConfigError, match="tools"):
        AnthropicProvider(KEY, extensions={"tools": tools})


# --- counting -----------------------------------------------------------------------------------------


async def test_tokens_are_counted_by_the_service() -> None:
    replies = [served(body=b'{"input_tokens":403}'), served(status=500), served(body=b'{"input_tokens":1}')]
    thinking = {"thinking": {"type": "adaptive"}, "metadata": {"user_id": "u"}}
    async with ModelServer(replies) as server:
        async with anthropic(server.base_url, extensions=thinking) as provider:
            settings = ModelSettings(0.5, 99)
            assert await provider.count_tokens(HELLO, tools=[ADD], settings=settings) == 403
            assert await provider.count_tokens(HELLO, model="other") == 1
        first, _, last = server.requests
    assert first.path == "/v1/messages/count_tokens"
    assert first.body.keys() == {"model", "messages", "system", "tools", "thinking"}
    assert last.body["model"] == "other"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"input_tokens":"many"}', b"<html>"])
async def test_what_is_no_count_is_an_error(body: bytes) -> None:
    from loom.errors import MalformedReplyError

    async with ModelServer([served(body=body)]) as server, anthropic(server.base_url) as provider:
        with pytest.raises(MalformedReplyError, match="count of tokens"):
            await provider.count_tokens(HELLO)
