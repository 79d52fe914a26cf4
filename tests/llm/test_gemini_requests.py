"""What is said to Gemini: contents, signatures in their places, results, media."""

import json
from typing import Any

import pytest
from test_requests import TALK, body
from wires import ADD, gemini

from loom.errors import ConfigError
from loom.llm.failures import FailureReader
from loom.llm.gemini_reply import GeminiReply
from loom.llm.redact import Scrubber
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
    VideoPart,
)

UNSIGNED = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
PIXEL = "data:image/png;base64,iVBORw0KGgo="
Json = dict[str, Any]


async def contents(*messages: ChatMessage) -> list[Json]:
    sent: list[Json] = (await body(gemini("http://h/v1beta"), messages))["contents"]
    return sent


async def model_parts(*parts: Part, calls: tuple[ToolCall, ...] = ()) -> list[Json]:
    (content,) = await contents(ChatMessage(Role.ASSISTANT, parts, tool_calls=calls or None))
    assert content["role"] == "model"
    said: list[Json] = content["parts"]
    return said


async def test_a_conversation() -> None:
    sent = await body(gemini("http://h/v1beta"), TALK, tools=[ADD])
    first = {"functionCall": {"id": "c1", "name": "add", "args": {"a": 1, "b": 2}}}
    second = {"functionCall": {"id": "functions.add:1", "name": "add", "args": {"_raw": "{broken"}}}
    missing = {"id": "functions.add:1", "name": "add", "response": {"error": "a is missing"}}
    assert sent == {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "tools": [
            {
                "functionDeclarations": [
                    {
                        "name": "add",
                        "description": "Adds two numbers.",
                        "parametersJsonSchema": ADD.parameters,
                    }
                ]
            }
        ],
        "contents": [
            {"role": "user", "parts": [{"text": "Add 1 and 2, and 3 and 4."}]},
            {
                "role": "model",
                "parts": [
                    {"text": "two calls", "thought": True, "thoughtSignature": "sig+/="},
                    {"text": "Adding."},
                    first,
                    second,
                ],
            },
            {
                "role": "user",
                "parts": [
                    {"functionResponse": {"id": "c1", "name": "add", "response": {"result": "3"}}},
                    {"functionResponse": missing},
                    {"text": "Go on."},
                ],
            },
        ],
    }


async def test_an_empty_message_keeps_its_turn() -> None:
    nothing = [{"text": ""}]
    assert await contents(
        ChatMessage(Role.USER, ""),
        ChatMessage(Role.ASSISTANT, (ThinkingPart("unsigned", origin="gemini"), TextPart(""))),
        ChatMessage(Role.USER, (TextPart(""), TextPart("b"))),
        ChatMessage(Role.ASSISTANT, None),
    ) == [
        {"role": "user", "parts": nothing},
        {"role": "model", "parts": nothing},
        {"role": "user", "parts": [{"text": "b"}]},
        {"role": "model", "parts": nothing},
    ]


async def test_instructions_alone_are_a_request_too() -> None:
    late = [ChatMessage(Role.SYSTEM, "One."), ChatMessage(Role.SYSTEM, ""), ChatMessage(Role.SYSTEM, "Two.")]
    assert await body(gemini("http://h/v1beta"), late) == {
        "systemInstruction": {"parts": [{"text": "One.\n\nTwo."}]},
        "contents": [{"role": "user", "parts": [{"text": ""}]}],
    }


# --- what the model signed ----------------------------------------------------------------------------


async def test_a_signature_goes_back_to_the_part_it_came_with() -> None:
    signed = ThinkingPart("", "c2ln", origin="gemini")
    assert await model_parts(TextPart("a"), signed, TextPart("b")) == [
        {"text": "a", "thoughtSignature": "c2ln"},
        {"text": "b"},
    ]
    assert await model_parts(ImagePart(PIXEL), signed) == [
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}, "thoughtSignature": "c2ln"}
    ]
    assert await model_parts(signed) == [{"text": "", "thoughtSignature": "c2ln"}]
    assert await model_parts(TextPart("a"), signed, signed) == [
        {"text": "a", "thoughtSignature": "c2ln"},
        {"text": "", "thoughtSignature": "c2ln"},
    ]
    after_a_call = await model_parts(CallPart(0), signed, calls=(ToolCall("c", "f"),))
    assert after_a_call[1] == {"text": "", "thoughtSignature": "c2ln"}


async def test_only_what_this_wire_can_read_is_sent_back() -> None:
    parts = (
        ThinkingPart("of another service", "c2ln", origin="anthropic"),
        ThinkingPart("", None, "encrypted", origin="gemini"),
        ThinkingPart("not signed", origin="gemini"),
        OpaquePart("openai", '{"type":"reasoning"}'),
        TextPart("a"),
        ThinkingPart("", "c2ln", origin="anthropic"),
        ThinkingPart("nobody's", "c2ln"),
    )
    assert await model_parts(*parts) == [
        {"text": "a"},
        {"text": "nobody's", "thought": True, "thoughtSignature": "c2ln"},
    ]


async def test_the_first_call_nobody_signed_says_so() -> None:
    # Without it Gemini 3 refuses conversations that began with another model.
    calls = (ToolCall("a", "f"), ToolCall("b", "f"))
    foreign = ThinkingPart("hm", "c2ln", origin="anthropic")
    first, second = await model_parts(foreign, calls=calls)
    assert (first["thoughtSignature"], second.get("thoughtSignature")) == (UNSIGNED, None)
    first, second = await model_parts(calls=(ToolCall("a", "f", signature="c2ln"), calls[1]))
    assert (first["thoughtSignature"], second.get("thoughtSignature")) == ("c2ln", None)
    _, first, _ = await model_parts(ThinkingPart("hm", "c2ln", origin="gemini"), calls=calls)
    assert "thoughtSignature" not in first
    later = CallPart(1), TextPart("then"), CallPart(0)
    parts = await model_parts(*later, calls=calls)
    assert [part.get("thoughtSignature") for part in parts] == [UNSIGNED, None, None]


async def test_calls_stand_where_they_stood() -> None:
    calls = tuple(ToolCall(name, name, signature="s") for name in "abc")
    parts = await model_parts(CallPart(1), TextPart("x"), CallPart(1), CallPart(9), CallPart(0), calls=calls)
    assert [part["functionCall"]["name"] if "functionCall" in part else "x" for part in parts] == [
        "b",
        "x",
        "a",
        "c",
    ]


async def test_what_only_the_service_understands_goes_back_as_it_came() -> None:
    code = '{"executableCode":{"language":"PYTHON","code":"1.50"},"thoughtSignature":"c2ln"}'
    sent = await gemini("http://h/v1beta")._request(
        [ChatMessage(Role.ASSISTANT, (OpaquePart("gemini", code), TextPart("a")))], None, "m", None, False
    )
    assert code.encode() in sent.body
    for broken in ("", "[1]", '{"a":'):
        with pytest.raises(ConfigError, match="JSON object"):
            await model_parts(OpaquePart("gemini", broken))


SAID: dict[str, list[Json]] = {
    "text": [{"text": "Hello."}],
    "signed text": [{"text": "Hello.", "thoughtSignature": "c2ln"}],
    "signed call, then another": [
        {"functionCall": {"id": "a", "name": "f", "args": {"x": 1.50}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "b", "name": "f", "args": {}}},
    ],
    "call between texts": [
        {"text": "one", "thoughtSignature": "c2ln"},
        {"functionCall": {"id": "a", "name": "f", "args": {}}},
        {"text": "two"},
        {"functionCall": {"id": "b", "name": "f", "args": {}}},
    ],
    "signed thought": [{"text": "hm", "thought": True, "thoughtSignature": "c2ln"}, {"text": "Yes."}],
    "code that ran": [
        {"text": "Let me see."},
        {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}, "thoughtSignature": "c2ln"},
        {"text": "It is 1."},
    ],
    "image": [
        {"text": "Here:"},
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}, "thoughtSignature": "c2ln"},
        {"text": "Done."},
    ],
}


@pytest.mark.parametrize("parts", SAID.values(), ids=SAID.keys())
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_reply_goes_back_as_it_came(parts: list[Json], streamed: bool) -> None:
    reply = GeminiReply(FailureReader("test", Scrubber()), "m")
    end = {"candidates": [{"finishReason": "STOP"}]}
    if streamed:
        for part in parts:
            reply.feed(b"", json.dumps({"candidates": [{"content": {"parts": [part]}}]}).encode())
        reply.feed(b"", json.dumps(end).encode())
    else:
        whole = {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
        reply.whole(json.dumps(whole, indent=2).encode())
    (sent,) = await contents(reply.finish().message)
    assert sent == {"role": "model", "parts": parts}


# --- results ------------------------------------------------------------------------------------------


async def test_a_result_has_the_name_of_its_call() -> None:
    asked = ChatMessage(Role.ASSISTANT, None, tool_calls=(ToolCall("c", "look"),))
    _, answered = await contents(asked, ChatMessage(Role.TOOL, "x", tool_call_id="c"))
    assert answered["parts"][0]["functionResponse"] == {
        "id": "c",
        "name": "look",
        "response": {"result": "x"},
    }
    (lost,) = await contents(ChatMessage(Role.TOOL, "x"))
    assert lost["parts"][0]["functionResponse"] == {"name": "tool", "response": {"result": "x"}}


async def test_media_of_results_follow_the_last_result() -> None:
    shot = ChatMessage(Role.TOOL, (TextPart("shot"), ImagePart(PIXEL)), tool_call_id="c", name="look")
    other = ChatMessage(Role.TOOL, "2", tool_call_id="d", name="look")
    for after in ([], [ChatMessage(Role.USER, "Well?")], [ChatMessage(Role.ASSISTANT, "Red.")]):
        sent = await contents(shot, other, *after)
        kinds = [next(iter(part)) for part in sent[0]["parts"]]
        assert kinds[:4] == ["functionResponse", "functionResponse", "text", "inlineData"]
        assert sent[0]["parts"][0]["functionResponse"]["response"] == {"result": "shot"}
        assert "call c" in sent[0]["parts"][2]["text"]


# --- media --------------------------------------------------------------------------------------------

HOME = "https://generativelanguage.googleapis.com/v1beta/files/abc-1"
MEDIA: list[tuple[Part, Json]] = [
    (ImagePart(PIXEL), {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}),
    (
        AudioPart("data:audio/wav;base64,UklGRg=="),
        {"inlineData": {"mimeType": "audio/wav", "data": "UklGRg=="}},
    ),
    (
        VideoPart("data:video/mp4;base64,AAAAGA=="),
        {"inlineData": {"mimeType": "video/mp4", "data": "AAAAGA=="}},
    ),
    (
        FilePart("data:application/pdf;base64,JVBERi0="),
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0="}},
    ),
    (
        ImagePart("https://x.example/a.PNG?w=1"),
        {"fileData": {"mimeType": "image/png", "fileUri": "https://x.example/a.PNG?w=1"}},
    ),
    (VideoPart("https://youtu.be/xyz"), {"fileData": {"fileUri": "https://youtu.be/xyz"}}),
    (
        FilePart("gs://bucket/paper.pdf", "application/pdf"),
        {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://bucket/paper.pdf"}},
    ),
    (AudioPart("gs://bucket/x"), {"fileData": {"fileUri": "gs://bucket/x"}}),
    (VideoPart("files/abc-1", "video/mp4"), {"fileData": {"mimeType": "video/mp4", "fileUri": HOME}}),
    (ImagePart(HOME), {"fileData": {"fileUri": HOME}}),
]


@pytest.mark.parametrize(("part", "encoded"), MEDIA, ids=[str(part)[:40] for part, _ in MEDIA])
async def test_media_inline_and_by_address(part: Part, encoded: Json) -> None:
    (sent,) = await contents(ChatMessage(Role.USER, (TextPart("Look:"), part, ImagePart(PIXEL))))
    assert sent["parts"][:2] == [{"text": "Look:"}, encoded]
    assert len(sent["parts"]) == 3


@pytest.mark.parametrize(
    "source", ["files/../etc", "files/a.png", "files/", "gs:/x", "files/A", "/etc/passwd"]
)
async def test_what_is_no_address_of_google_is_a_path_and_judged_as_one(source: str) -> None:
    with pytest.raises(ConfigError):
        await contents(ChatMessage(Role.USER, (ImagePart(source),)))
