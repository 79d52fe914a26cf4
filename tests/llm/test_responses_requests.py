"""What is sent on the Responses wire: items in order, earlier replies as they came, and what a refusal changes."""

import base64
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from responses_items import ITEMS, OURS, TALK, THOUGHT, body, head, sent
from wires import ADD, HELLO, KEY, responses

from loom.errors import ConfigError
from loom.llm.base import ModelSettings
from loom.llm.encoding import fits_strict
from loom.llm.openai_input import fragments_of, joined
from loom.llm.openai_replay import Form
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
    ToolSpec,
    VideoPart,
)

DOT = ImagePart(
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SHAPE = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


# --- a conversation -----------------------------------------------------------------------------------


async def test_a_conversation() -> None:
    given = await body(responses("http://h/v1"), TALK, tools=[ADD])
    assert given["input"] == ITEMS
    assert given["tools"] == [
        {
            "type": "function",
            "name": "add",
            "description": "Adds two numbers.",
            "parameters": ADD.parameters,
            "strict": False,
        }
    ]
    assert {name: given[name] for name in ("model", "stream", "store", "include")} == {
        "model": "m",
        "stream": False,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    assert given.keys() == {"model", "stream", "store", "include", "tools", "input"}


async def test_what_came_before_stays_as_it_was_byte_for_byte() -> None:
    longer = [*TALK, ChatMessage(Role.SYSTEM, "Remember the time."), ChatMessage(Role.USER, "More")]
    texts = [joined(await fragments_of(longer[:length], Form.FULL)) for length in range(1, len(longer) + 1)]
    for shorter, text in pairwise(texts):
        assert text.startswith(shorter + b",")
    outgoing = await responses("http://h/v1")._request(longer, [ADD], "m", None, True)
    assert outgoing.body.endswith(b'"input":[' + texts[-1] + b"]}")


async def test_a_message_survives_a_store() -> None:
    kept = msgspec.json.decode(msgspec.json.encode(TALK), type=list[ChatMessage])
    assert await sent(*kept) == ITEMS


async def test_several_summaries_are_one_item() -> None:
    parts = (ThinkingPart("**A**\n\na", origin=OURS), ThinkingPart("**B**", "rs_1", "enc", OURS))
    (item, _) = await sent(ChatMessage(Role.ASSISTANT, (*parts, head(type="function_call", id="fc_1")),
                                       tool_calls=(ToolCall("c", "f"),)))  # fmt: skip
    assert [piece["text"] for piece in item["summary"]] == ["**A**\n\na", "**B**"]


async def test_calls_and_texts_go_back_in_the_order_they_came() -> None:
    content = (TextPart("One."), CallPart(0), TextPart("Two."))
    calls = (ToolCall("a", "f"), ToolCall("b", "g", "{}"))
    items = await sent(ChatMessage(Role.ASSISTANT, content, tool_calls=calls))
    assert [item.get("content") or item["call_id"] for item in items] == ["One.", "a", "Two.", "b"]


async def test_what_other_services_thought_is_not_sent() -> None:
    parts: tuple[Part, ...] = (
        ThinkingPart("claude thinks", "c2ln", None, "anthropic"),
        ThinkingPart("", None, "redacted", "anthropic"),
        ThinkingPart("nobody's", "sig"),
        OpaquePart("gemini", '{"executableCode":{}}'),
        ThinkingPart("seen, not signed", origin=OURS),
        TextPart("Yes."),
    )
    assert await sent(ChatMessage(Role.ASSISTANT, parts)) == [{"role": "assistant", "content": "Yes."}]
    (text,) = await sent(ChatMessage(Role.ASSISTANT, parts[1:2] + parts[-1:]))
    assert text == {"role": "assistant", "content": "Yes."}


async def test_a_message_with_nothing_to_say_is_no_item() -> None:
    nothing = [
        ChatMessage(Role.ASSISTANT, None),
        ChatMessage(Role.ASSISTANT, ""),
        ChatMessage(Role.SYSTEM, ""),
    ]
    assert await sent(*nothing, ChatMessage(Role.USER, "")) == [{"role": "user", "content": ""}]


# --- what the service would refuse --------------------------------------------------------------------


async def test_reasoning_at_the_end_of_a_cut_reply_is_left_out() -> None:
    cut = ChatMessage(Role.ASSISTANT, (*(TALK[2].content or ())[:3], ThinkingPart("and", "rs_2", "x", OURS)))
    assert await sent(cut) == ITEMS[2:4]
    assert await sent(ChatMessage(Role.ASSISTANT, (THOUGHT,))) == []


async def test_reasoning_whose_text_was_edited_is_left_out() -> None:
    # A real refusal: "Item 'rs_...' of type 'reasoning' was provided without its required following item."
    edited = ChatMessage(Role.ASSISTANT, (THOUGHT, TextPart("42")))
    assert await sent(edited) == [{"role": "assistant", "content": "42"}]


async def test_a_text_changed_in_place_keeps_its_item() -> None:
    parts = [TextPart("[removed]") if isinstance(part, TextPart) else part for part in TALK[2].content or ()]
    items = await sent(msgspec.structs.replace(TALK[2], content=tuple(parts)))
    assert items[1]["content"] == [{"type": "output_text", "annotations": [], "text": "[removed]"}]
    assert [item.get("id") for item in items] == ["rs_1", "msg_1", "fc_1", "fc_2"]


async def test_ids_go_when_their_reasoning_is_gone() -> None:
    # "Item 'fc_...' of type 'function_call' was provided without its required 'reasoning' item"
    parts = tuple(part for part in TALK[2].content or () if not isinstance(part, ThinkingPart))
    items = await sent(msgspec.structs.replace(TALK[2], content=parts))
    assert items[0] == {"role": "assistant", "phase": "commentary", "content": "Adding."}
    assert all("id" not in item for item in items)


async def test_a_head_goes_with_what_it_was_the_head_of() -> None:
    kept = (head(type="message", id="m", content=[{"type": "output_text"}]),
            head(type="function_call", id="fc_9"),
            head(type="image_generation_call", id="ig_1", status="completed"),
            head(type="reasoning", id="rs_9", summary=[{"type": "summary_text"}]))  # fmt: skip
    assert await sent(ChatMessage(Role.ASSISTANT, kept)) == []


@pytest.mark.parametrize(
    "data", ["", "nonsense", "[1]", '{"type":7}', "{}", '{"type":["message"]}', "[" * 9999]
)
async def test_opaque_parts_that_are_none_of_ours_are_left_out(data: str) -> None:
    message = ChatMessage(Role.ASSISTANT, (OpaquePart(OURS, data), TextPart("x")))
    assert await sent(message) == [{"role": "assistant", "content": "x"}]


# --- tools and settings -------------------------------------------------------------------------------

CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"plan": {"type": "string", "description": "What to do."}},
    "required": ["plan"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "fits"),
    [
        (CLOSED, True),
        ({**CLOSED, "properties": {"oneOf": {"enum": ["not", {"pattern": 1}]}}, "required": ["oneOf"]}, True),
        ({**CLOSED, "required": []}, False),
        ({**CLOSED, "additionalProperties": True}, False),
        ({"type": "object", "properties": {}}, False),
        ({**CLOSED, "properties": {"plan": {"type": "string", "default": ""}}}, False),
        ({**CLOSED, "properties": {"plan": {"oneOf": [{"type": "string"}]}}}, False),
        ({**CLOSED, "properties": {"plan": {"type": "string", "pattern": "a+"}}}, False),
        ({**CLOSED, "strict": True}, False),
    ],
)
async def test_a_tool_is_strict_only_when_that_changes_nothing(schema: dict[str, Any], fits: bool) -> None:
    assert fits_strict(schema) is fits
    given = await body(responses("http://h/v1"), tools=[ToolSpec("f", "", schema)])
    assert (given["tools"][0]["strict"], given["tools"][0]["parameters"]) == (fits, schema)


async def test_settings() -> None:
    settings = ModelSettings(
        0.5,
        99,
        SHAPE,
        "my answer!",
        {"text": {"verbosity": "low"}, "stream": True, "reasoning": {"effort": "low"}},
    )
    provider = responses(
        "http://h/v1", extensions={"include": ["web_search_call.action.sources"]}, store=True
    )
    given = await body(provider, settings=settings, stream=True)
    assert (given["temperature"], given["max_output_tokens"]) == (0.5, 99)
    assert (given["stream"], given["store"], given["reasoning"]) == (True, True, {"effort": "low"})
    assert given["text"]["verbosity"] == "low"
    form = given["text"]["format"]
    assert (form["type"], form["name"], form["strict"]) == ("json_schema", "my_answer_", True)
    assert form["schema"] == {**SHAPE, "additionalProperties": False}
    assert given["include"] == ["reasoning.encrypted_content", "web_search_call.action.sources"]


async def test_a_shape_that_is_no_object_is_an_instruction_for_this_request_alone() -> None:
    settings = ModelSettings(output_schema={"type": "array", "items": {"type": "integer"}})
    given = await body(responses("http://h/v1", extensions={"instructions": "Be kind."}), settings=settings)
    assert given["instructions"].startswith("Be kind.\n\nYour final answer must be JSON")
    assert "text" not in given
    assert [item["role"] for item in given["input"]] == ["system", "user"]


@pytest.mark.parametrize("name", ["input", "model", "tools", "previous_response_id"])
async def test_extensions_must_not_contradict_the_request(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        responses("http://h", extensions={name: 1})
    with pytest.raises(ConfigError, match=name):
        await body(responses("http://h"), settings=ModelSettings(extensions={name: 1}))


async def test_address_and_headers() -> None:
    provider = responses("https://h/openai/v1?api-version=1", organization="org-1")
    outgoing = await provider._request(HELLO, None, "m", None, False)
    assert outgoing.url == "https://h/openai/v1/responses?api-version=1"
    headers = provider._ready()[1]
    assert (headers["authorization"], headers["openai-organization"]) == (f"Bearer {KEY}", "org-1")


async def test_tokens_are_counted_without_being_asked_for() -> None:
    reply = served(body=b'{"object":"response.input_tokens","input_tokens":16}')
    bad = served(body=b'{"input_tokens":"many"}')
    async with ModelServer([reply, bad]) as server, responses(server.base_url) as provider:
        assert await provider.count_tokens(TALK, tools=[ADD], settings=ModelSettings(0.5, 9)) == 16
        with pytest.raises(Exception, match="not a count of tokens"):
            await provider.count_tokens(HELLO)
    request = server.requests[0]
    assert request.path == "/v1/responses/input_tokens"
    assert request.body.keys() == {"model", "input", "tools"}
    assert request.body["input"] == ITEMS


# --- media --------------------------------------------------------------------------------------------


async def test_images_documents_and_sounds() -> None:
    pdf = base64.b64encode(b"%PDF-1.7 ...").decode()
    parts = (
        TextPart("Look:"),
        DOT,
        ImagePart("https://x.example/a.png"),
        FilePart(f"data:application/pdf;base64,{pdf}"),
        FilePart("https://x.example/a.pdf"),
        AudioPart("data:audio/wav;base64,UklGRg=="),
        AudioPart("data:audio/mpeg;base64,SUQz"),
    )
    ((message),) = await sent(ChatMessage(Role.USER, parts))
    assert message["content"] == [
        {"type": "input_text", "text": "Look:"},
        {"type": "input_image", "detail": "auto", "image_url": DOT.source},
        {"type": "input_image", "detail": "auto", "image_url": "https://x.example/a.png"},
        {"type": "input_file", "filename": "document.pdf", "file_data": f"data:application/pdf;base64,{pdf}"},
        {"type": "input_file", "file_url": "https://x.example/a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
    ]


async def test_media_a_tool_returned_are_in_its_output() -> None:
    parts = (TextPart("a dot"), DOT, FilePart("https://x.example/a.pdf"))
    (item,) = await sent(ChatMessage(Role.TOOL, parts, tool_call_id="c", is_error=True))
    assert [part["type"] for part in item["output"]] == ["input_text", "input_image", "input_file"]
    assert item["output"][0]["text"] == "Error: a dot"
    (item,) = await sent(ChatMessage(Role.TOOL, (DOT,), tool_call_id="c"))
    assert [part["type"] for part in item["output"]] == ["input_image"]


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (VideoPart("https://x.example/a.mp4"), "video parts"),
        (AudioPart("https://x.example/a.wav"), "audio parts from an address"),
        (AudioPart("data:audio/ogg;base64,T2dn"), "audio parts of type audio/ogg"),
    ],
)
async def test_media_that_cannot_be_sent_is_refused(part: Part, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        await sent(ChatMessage(Role.USER, (part,)))
