"""What is sent: bodies of all wires, encoded once, and valid whatever the model or the user wrote."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from wires import ADD, CONVERSATION, HELLO, KEY, WIRES, anthropic, gemini, openai, responses

from loom.errors import ConfigError
from loom.llm.base import ModelSettings
from loom.llm.encoding import strict_schema
from loom.llm.wire import HTTPProvider
from loom.media import document, image
from loom.types import (
    AudioPart,
    ChatMessage,
    FilePart,
    ImagePart,
    OpaquePart,
    Part,
    Role,
    TextPart,
    ThinkingPart,
    ToolCall,
    VideoPart,
)

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TALK = [
    ChatMessage(Role.SYSTEM, "Be brief."),
    ChatMessage(Role.USER, "Add 1 and 2, and 3 and 4."),
    ChatMessage(
        Role.ASSISTANT,
        (ThinkingPart("two calls", "sig+/="), ThinkingPart("", None, "enc=="), TextPart("Adding.")),
        tool_calls=(ToolCall("c1", "add", '{"a":1,"b":2}'), ToolCall("functions.add:1", "add", "{broken")),
    ),
    ChatMessage(Role.TOOL, "3", tool_call_id="c1", name="add"),
    ChatMessage(Role.TOOL, "a is missing", tool_call_id="functions.add:1", name="add", is_error=True),
    ChatMessage(Role.USER, "Go on."),
]
SHAPE = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "s": {"type": "string", "default": ""}},
    "required": ["n"],
}


async def body(provider: HTTPProvider, messages: Any = HELLO, **options: Any) -> dict[str, Any]:
    tools, settings = options.get("tools"), options.get("settings")
    outgoing = await provider._request(messages, tools, "m", settings, options.get("stream", False))
    read: dict[str, Any] = json.loads(outgoing.body)
    return read


def test_the_keys_of_a_body_are_there_once() -> None:
    # json.loads hides duplicates, so this one looks at the pairs.
    settings = ModelSettings(temperature=0.1, extensions={"temperature": 0.9, "stream_options": {"x": 1}})
    outgoing = asyncio.run(
        openai("http://h/v1", extensions={"seed": 1})._request(HELLO, [ADD], "m", settings, True)
    )
    pairs: list[tuple[str, Any]] = json.JSONDecoder(object_pairs_hook=list).decode(outgoing.body.decode())
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names))
    assert dict(pairs)["temperature"] == 0.9
    assert dict(pairs)["seed"] == 1


async def test_an_openai_conversation() -> None:
    sent = await body(openai("http://h/v1"), TALK, tools=[ADD])
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add 1 and 2, and 3 and 4."},
        {
            "role": "assistant",
            "content": "Adding.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":2}'}},
                {
                    "id": "functions.add:1",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"_raw":"{broken"}'},
                },
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
        {"role": "tool", "tool_call_id": "functions.add:1", "content": "Error: a is missing"},
        {"role": "user", "content": "Go on."},
    ]
    function = {"name": "add", "description": "Adds two numbers.", "parameters": ADD.parameters}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert sent.keys() == {"model", "messages", "stream", "tools"}


async def test_an_anthropic_conversation() -> None:
    sent = await body(anthropic("http://h"), TALK, tools=[ADD])
    assert sent["system"] == "Be brief."
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "Add 1 and 2, and 3 and 4."}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "two calls", "signature": "sig+/="},
                {"type": "redacted_thinking", "data": "enc=="},
                {"type": "text", "text": "Adding."},
                {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1, "b": 2}},
                {
                    "type": "tool_use",
                    "id": "functions_add_1_6050f1056973",
                    "name": "add",
                    "input": {"_raw": "{broken"},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "3"},
                {
                    "type": "tool_result",
                    "tool_use_id": "functions_add_1_6050f1056973",
                    "content": "a is missing",
                    "is_error": True,
                },
                {"type": "text", "text": "Go on."},
            ],
        },
    ]
    assert sent["tools"] == [
        {"name": "add", "description": "Adds two numbers.", "input_schema": ADD.parameters}
    ]
    assert sent["max_tokens"] == 8192


async def test_anthropic_leaves_out_what_it_would_refuse() -> None:
    talk = [
        ChatMessage(Role.USER, "  "),
        ChatMessage(Role.ASSISTANT, (ThinkingPart("of another service"), TextPart(" "))),
        ChatMessage(Role.TOOL, "", tool_call_id="c"),
        ChatMessage(Role.SYSTEM, "Late."),
        ChatMessage(Role.SYSTEM, "Later."),
    ]
    sent = await body(anthropic("http://h"), talk)
    assert sent["system"] == "Late.\n\nLater."
    result = {"type": "tool_result", "tool_use_id": "c"}
    assert sent["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "(empty message)"}, result]}
    ]


async def test_anthropic_cache_marks_the_system_text_and_the_end() -> None:
    mark = {"type": "ephemeral"}
    provider = anthropic("http://h", prompt_caching=True)
    sent = await body(provider, HELLO)
    assert sent["system"] == [{"type": "text", "text": "Be brief.", "cache_control": mark}]
    assert sent["messages"][-1]["content"][-1] == {"type": "text", "text": "Hello", "cache_control": mark}
    longer = [*HELLO, ChatMessage(Role.ASSISTANT, "Hi."), ChatMessage(Role.USER, "Bye")]
    sent = await body(provider, longer, tools=[ADD, ADD])
    assert ["cache_control" in tool for tool in sent["tools"]] == [False, True]
    assert ["cache_control" in told["content"][-1] for told in sent["messages"]] == [True, False, True]
    assert json.dumps(sent).count("cache_control") == 4  # as many as the API allows
    sent = await body(anthropic("http://h", prompt_caching=True, cache_ttl="1h"), HELLO)
    assert sent["messages"][-1]["content"][-1]["cache_control"] == {**mark, "ttl": "1h"}


@pytest.mark.parametrize("wire", WIRES)
async def test_a_message_and_a_tool_are_encoded_once(wire: Any) -> None:
    key = {openai: "openai_chat", anthropic: "anthropic", gemini: "gemini", responses: "openai_responses"}[
        wire
    ]
    provider, talk, tools = wire("http://h"), list(TALK), (ADD,)
    first = await provider._request(talk, tools, "m", None, False)
    kept = [message.__dict__.get(key) for message in talk]
    second = await provider._request([*talk, ChatMessage(Role.USER, "More")], tools, "m", None, False)
    assert all(a is b for a, b in zip(kept, [message.__dict__.get(key) for message in talk], strict=True))
    assert provider._tools(tools) is provider._tools(list(tools))
    said = CONVERSATION[wire]
    assert json.loads(first.body)[said] != json.loads(second.body)[said]
    assert TALK[1] == ChatMessage(Role.USER, TALK[1].content)  # the cache is no part of the value


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    "arguments", ["", "  ", "null", "[1]", '"x"', "{", '{"a":1} {}', "NaN", "[" * 50_000]
)
async def test_arguments_of_any_kind_are_sent_back_as_an_object(wire: Any, arguments: str) -> None:
    talk = [ChatMessage(Role.ASSISTANT, None, tool_calls=(ToolCall("c", "f", arguments),))]
    (sent,) = (await body(wire("http://h"), talk))[CONVERSATION[wire]]
    given: Any = {
        openai: lambda: json.loads(sent["tool_calls"][0]["function"]["arguments"]),
        anthropic: lambda: sent["content"][0]["input"],
        gemini: lambda: sent["parts"][0]["functionCall"]["args"],
        responses: lambda: json.loads(sent["arguments"]),
    }[wire]()
    assert isinstance(given, dict)
    assert given == {} or given["_raw"].startswith(arguments[:6])


@pytest.mark.parametrize("wire", WIRES)
async def test_review_g10_arguments_with_half_a_character_go_back_without_it(wire: Any) -> None:
    for arguments in ('{"a":"\ud800"}', '{"a":"\\ud800"}'):
        talk = [ChatMessage(Role.ASSISTANT, None, tool_calls=(ToolCall("c", "f", arguments),))]
        sent = json.dumps(await body(wire("http://h"), talk))
        assert "fffd" in sent
        assert "d800" not in sent


@pytest.mark.parametrize("wire", WIRES)
async def test_text_without_utf8_form_is_sent_with_replacements(wire: Any) -> None:
    sent = await body(wire("http://h"), [ChatMessage(Role.USER, "a\ud800b 🌍")])
    assert "a�b 🌍" in json.dumps(sent, ensure_ascii=False)


# --- settings -----------------------------------------------------------------------------------------


async def test_openai_settings() -> None:
    settings = ModelSettings(0.5, 99, SHAPE, "my answer!", {"seed": 7, "stream": True})
    sent = await body(
        openai("http://h/v1", max_tokens_field="max_completion_tokens"), settings=settings, stream=True
    )
    assert (sent["temperature"], sent["max_completion_tokens"], sent["seed"]) == (0.5, 99, 7)
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    form = sent["response_format"]["json_schema"]
    assert (form["name"], form["strict"]) == ("my_answer_", True)
    assert form["schema"]["required"] == ["n", "s"]
    assert form["schema"]["additionalProperties"] is False
    assert "stream_options" not in await body(openai("http://h/v1", include_usage=False), stream=True)


async def test_json_mode_for_services_without_schemas() -> None:
    sent = await body(openai("http://h/v1", structured="json"), settings=ModelSettings(output_schema=SHAPE))
    assert sent["response_format"] == {"type": "json_object"}
    assert "JSON Schema" in sent["messages"][-1]["content"]


async def test_shapes_that_are_no_object_are_asked_for_in_words() -> None:
    settings = ModelSettings(output_schema={"type": "array", "items": {"type": "integer"}})
    sent = await body(openai("http://h/v1"), settings=settings)
    assert "response_format" not in sent
    assert '"items"' in sent["messages"][-1]["content"]
    sent = await body(anthropic("http://h"), settings=settings)
    assert '"items"' in sent["system"]
    assert "tools" not in sent


async def test_anthropic_shapes() -> None:
    settings = ModelSettings(output_schema=SHAPE)
    sent = await body(anthropic("http://h"), settings=settings)
    assert sent["tool_choice"] == {"type": "tool", "name": "output"}
    assert sent["tools"][0]["input_schema"] == SHAPE
    sent = await body(anthropic("http://h"), tools=[ADD], settings=settings)
    assert sent["tool_choice"] == {"type": "any"}
    assert [tool["name"] for tool in sent["tools"]] == ["add", "output"]
    thinking = anthropic("http://h", extensions={"thinking": {"type": "enabled", "budget_tokens": 1024}})
    sent = await body(thinking, settings=settings)
    assert "tool_choice" not in sent
    assert "output" in sent["system"]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", ["messages", "model", "tools"])
async def test_extensions_must_not_contradict_the_request(wire: Any, name: str) -> None:
    name = "input" if (wire, name) == (responses, "messages") else name
    with pytest.raises(ConfigError, match=name):
        wire("http://h", extensions={name: 1})
    with pytest.raises(ConfigError, match=name):
        await body(wire("http://h"), settings=ModelSettings(extensions={name: 1}))


def test_open_dictionaries_are_not_called_strict() -> None:
    open_ended = {
        "type": "object",
        "properties": {"m": {"type": "object", "additionalProperties": {"type": "string"}}},
    }
    assert strict_schema(open_ended) == (open_ended, False)
    user_words = {
        "type": "object",
        "properties": {"default": {"type": "string"}, "properties": {"type": "integer"}},
    }
    schema, strict = strict_schema(user_words)
    assert strict
    assert schema["properties"].keys() == {"default", "properties"}


# --- dialects of chat completions ------------------------------------------------------------------------

THOUGHT = ChatMessage(
    Role.ASSISTANT,
    (
        ThinkingPart("hm ", origin="openai_chat"),
        ThinkingPart("secret", "sig", None, "anthropic"),
        ThinkingPart("yes", origin=None),
        TextPart("Adding."),
        OpaquePart("openai_chat", '{"reasoning_details":[{"type":"reasoning.encrypted","data":"1.50"}]}'),
        OpaquePart("anthropic", '{"type":"server_tool_use"}'),
    ),
    tool_calls=(ToolCall("c1", "add", "{}", "c2ln"), ToolCall("c2", "add", "{}", '{"anthropic":{}}')),
)


async def reply(**dialect: Any) -> dict[str, Any]:
    (sent,) = (await body(openai("http://h/v1", **dialect), [THOUGHT]))["messages"]
    return {name: value for name, value in sent.items() if name not in ("role", "tool_calls")}


async def test_reasoning_goes_back_where_a_service_wants_it() -> None:
    assert await reply() == {"content": "Adding."}
    assert await reply(reasoning_as="reasoning_content") == {
        "content": "Adding.",
        "reasoning_content": "hm yes",
    }
    assert await reply(reasoning_as="reasoning") == {"content": "Adding.", "reasoning": "hm yes"}
    details = [{"type": "reasoning.encrypted", "data": "1.50"}]
    assert await reply(reasoning_as="reasoning_details") == {
        "content": "Adding.",
        "reasoning_details": details,
    }
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": text}]} for text in ("hm ", "yes")]
    assert await reply(reasoning_as="parts") == {"content": [*parts, {"type": "text", "text": "Adding."}]}


async def test_replies_without_reasoning_say_so_only_where_they_must() -> None:
    plain = [ChatMessage(Role.ASSISTANT, "Hi."), ChatMessage(Role.USER, "x")]
    for name in ("reasoning_content", "reasoning", "reasoning_details", "parts"):
        (sent, _) = (await body(openai("http://h/v1", reasoning_as=name), list(plain)))["messages"]
        assert sent == {"role": "assistant", "content": "Hi."}
    required = openai("http://h/v1", reasoning_as="reasoning_content", reasoning_required=True)
    (sent, _) = (await body(required, plain))["messages"]
    assert sent == {"role": "assistant", "content": "Hi.", "reasoning_content": ""}


async def test_reasoning_without_details_goes_back_as_text() -> None:
    thought = ChatMessage(Role.ASSISTANT, (ThinkingPart("hm", origin="openai_chat"), TextPart("Hi.")))
    (sent,) = (await body(openai("http://h/v1", reasoning_as="reasoning_details"), [thought]))["messages"]
    assert sent == {"role": "assistant", "content": "Hi.", "reasoning": "hm"}
    for data in ("", "[]", "{}", "no json"):
        odd = [ChatMessage(Role.ASSISTANT, (OpaquePart("openai_chat", data),))]
        with pytest.raises(ConfigError, match="opaque part"):
            await body(openai("http://h/v1", reasoning_as="reasoning_details"), odd)


async def test_signed_calls_go_back_signed_to_who_signed_them() -> None:
    (sent,) = (await body(openai("http://h/v1"), [THOUGHT]))["messages"]
    assert not [call for call in sent["tool_calls"] if "extra_content" in call]
    (sent,) = (await body(openai("http://h/v1", thought_signatures=True), [THOUGHT]))["messages"]
    first, second = sent["tool_calls"]
    assert first["extra_content"] == {"google": {"thought_signature": "c2ln"}}
    assert "extra_content" not in second


async def test_dialects_do_not_share_what_a_message_was_encoded_as() -> None:
    for _ in range(2):
        assert "reasoning" in await reply(reasoning_as="reasoning")
        assert "reasoning" not in await reply()
    assert sum(key.startswith("openai_chat") for key in vars(THOUGHT)) >= 2


async def test_tools_of_the_service_stand_beside_ours() -> None:
    served = {"type": "web_search", "web_search": {"enable": True}}
    sent = await body(openai("http://h/v1", extensions={"tools": [served]}), tools=[ADD])
    assert sent["tools"][0] == served
    assert sent["tools"][1]["function"]["name"] == "add"
    sent = await body(openai("http://h/v1"), settings=ModelSettings(extensions={"tools": [served]}))
    assert sent["tools"] == [served]


async def test_sounds_go_by_their_content() -> None:
    beginnings = {
        "audio/wav": (b"RIFF\x24\0\0\0WAVEfmt ", "wav"),
        "audio/x-wav": (b"RIFF\x24\0\0\0WAVEfmt ", "wav"),
        "audio/mpeg": (b"ID3\x04", "mp3"),
        "audio/flac": (b"fLaC\0", "flac"),
    }
    for kind, (content, form) in beginnings.items():
        encoded = base64.b64encode(content).decode()
        sound = AudioPart(f"data:{kind};base64,{encoded}")
        (sent,) = (await body(openai("http://h/v1"), picture(sound)))["messages"]
        assert sent["content"][1] == {
            "type": "input_audio",
            "input_audio": {"data": encoded, "format": form},
        }
    with pytest.raises(ConfigError, match="audio parts from an address; send its content"):
        await body(openai("http://h/v1"), picture(AudioPart("https://x.example/a.wav")))


async def test_files_of_tool_results_follow_after_the_last_result() -> None:
    talk = [
        *picture(document(b"%PDF-1.7 ..."), role=Role.TOOL),
        ChatMessage(Role.TOOL, "2", tool_call_id="d"),
    ]
    sent = (await body(openai("http://h/v1"), talk))["messages"]
    assert [message["role"] for message in sent] == ["tool", "tool", "user"]
    assert sent[2]["content"][0]["text"].startswith("Files returned")
    assert sent[2]["content"][1]["file"]["filename"] == "document.pdf"


# --- headers ------------------------------------------------------------------------------------------


def test_headers() -> None:
    ours = openai("http://h/v1", organization="org-1", headers={"X-Title": "t"})._ready()[1]
    assert ours["authorization"] == f"Bearer {KEY}"
    assert ours["openai-organization"] == "org-1"
    assert ours["x-title"] == "t"
    theirs = anthropic("http://h")._ready()[1]
    assert (theirs["x-api-key"], theirs["anthropic-version"]) == (KEY, "2023-06-01")


@pytest.mark.parametrize(
    ("made", "url"),
    [
        (openai("http://h/v1/"), "http://h/v1/chat/completions"),
        (openai("https://h/x?api-version=1"), "https://h/x/chat/completions?api-version=1"),
        (anthropic("http://h"), "http://h/v1/messages"),
        (anthropic("http://h/v1"), "http://h/v1/messages"),
        (anthropic("http://h/proxy/"), "http://h/proxy/v1/messages"),
    ],
)
async def test_addresses(made: HTTPProvider, url: str) -> None:
    assert (await made._request(HELLO, None, "m", None, False)).url == url


# --- media --------------------------------------------------------------------------------------------


def picture(*parts: Part, role: Role = Role.USER) -> list[ChatMessage]:
    return [ChatMessage(role, (TextPart("Look:"), *parts), tool_call_id="c" if role is Role.TOOL else None)]


async def test_images_from_addresses_and_data() -> None:
    encoded = base64.b64encode(PNG).decode()
    data_url = f"data:image/png;base64,{encoded}"
    parts = [image(PNG), ImagePart("https://x.example/a.png"), ImagePart(data_url)]
    (sent,) = (await body(openai("http://h/v1"), picture(*parts)))["messages"]
    urls = [part["image_url"]["url"] for part in sent["content"][1:]]
    assert urls == [data_url, "https://x.example/a.png", data_url]
    (sent,) = (await body(anthropic("http://h"), picture(*parts)))["messages"]
    inline = {"type": "base64", "media_type": "image/png", "data": encoded}
    sources = [block["source"] for block in sent["content"][1:]]
    assert sources == [inline, {"type": "url", "url": "https://x.example/a.png"}, inline]


async def test_images_of_tool_results_follow_after_the_last_result() -> None:
    talk = [*picture(image(PNG), role=Role.TOOL), ChatMessage(Role.TOOL, "2", tool_call_id="d")]
    sent = (await body(openai("http://h/v1"), [*talk, ChatMessage(Role.USER, "Well?")]))["messages"]
    assert [message["role"] for message in sent] == ["tool", "tool", "user", "user"]
    assert sent[2]["content"][1]["type"] == "image_url"
    sent = (await body(anthropic("http://h"), talk))["messages"]
    assert [block["type"] for block in sent[0]["content"]] == ["tool_result", "tool_result"]
    assert [block["type"] for block in sent[0]["content"][0]["content"]] == ["text", "image"]


async def test_a_pdf_is_a_document_or_a_file() -> None:
    paper = document(b"%PDF-1.7 ...")
    (sent,) = (await body(anthropic("http://h"), picture(paper)))["messages"]
    assert sent["content"][1]["type"] == "document"
    (sent,) = (await body(openai("http://h/v1"), picture(paper)))["messages"]
    assert sent["content"][1] == {
        "type": "file",
        "file": {"filename": "document.pdf", "file_data": paper.source},
    }
    with pytest.raises(ConfigError, match="file parts from an address; send its content"):
        await body(openai("http://h/v1"), picture(FilePart("https://x.example/paper.pdf")))


@pytest.mark.parametrize("wire", WIRES)
async def test_media_that_cannot_be_sent_is_refused(wire: Any, tmp_path: Path) -> None:
    there = tmp_path / "dot.png"
    there.write_bytes(PNG)
    for source in (str(there), "/dev/zero", "a\0b", "", "data:image/png,raw", "data:image/png;base64,-_-_"):
        with pytest.raises(ConfigError):
            await body(wire("http://h"), picture(ImagePart(source)))
    if wire is not gemini:
        with pytest.raises(ConfigError, match="video parts"):
            await body(wire("http://h"), picture(VideoPart("https://h.example/x.mp4")))
    if wire in (anthropic, responses):
        with pytest.raises(ConfigError, match="audio parts"):
            await body(wire("http://h"), picture(AudioPart("https://h.example/x.wav")))


async def test_media_over_the_limit_is_refused() -> None:
    big = ImagePart(f"data:image/png;base64,{'A' * 28 * 1024 * 1024}")
    with pytest.raises(ConfigError, match="larger than"):
        await body(openai("http://h/v1"), picture(big))
