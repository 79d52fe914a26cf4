"""What goes back to the service is what came from it, through our parts and through a store."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from responses_items import Json, refusal, response, text, thought, tool, whole

from loom.llm.openai_replay import items_of
from loom.types import ChatMessage


def cleaned(value: Any) -> Any:
    """Without what says nothing: nulls, empty lists, and the odds of tokens."""
    if isinstance(value, dict):
        return {k: cleaned(v) for k, v in value.items() if v not in (None, []) and k != "logprobs"}
    return [cleaned(item) for item in value] if isinstance(value, list) else value


def again(*items: Json) -> list[Json]:
    message = whole(response(*items)).message
    stored = msgspec.json.decode(msgspec.json.encode(message), type=ChatMessage)
    assert stored == message
    return items_of(stored)


SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "q"},
}
CITED = {
    "type": "output_text",
    "text": "See.",
    "annotations": [{"type": "url_citation", "url": "https://x.example"}],
}
ROUND_TRIPS: dict[str, list[Json]] = {
    "reasoning and call": [thought("Hm."), tool('{"a": 1}')],
    "reasoning without summary": [thought(), tool()],
    "several summaries": [thought("**One**\n\nfirst", "**Two**\n\n"), text("Yes.")],
    "not encrypted": [thought("Hm.", data=None), text("Yes.")],
    "raw reasoning": [thought(content=[{"type": "reasoning_text", "text": "We need"}]), text("Yes.")],
    "raw reasoning with a summary": [
        thought("Sum", content=[{"type": "reasoning_text", "text": "a"}, {"type": "reasoning_text", "text": "b"}]),
        text("Yes."),
    ],
    "raw reasoning before more of it": [
        thought(content=[{"type": "reasoning_text", "text": "a"}]), thought("Sum", id="rs_2"), text("Yes."),
    ],
    "reasoning of an empty summary": [thought(""), text("Yes.")],
    "reasoning with a status": [thought("Hm.", status="incomplete"), text("Yes.")],
    "interleaved": [
        thought("1"),
        tool("{}", "a"),
        thought("2", id="rs_2"),
        text("Now", phase="commentary"),
        tool("{}", "b", id="fc_2"),
        thought("3", id="rs_3"),
        text("Done", id="msg_2", phase="final_answer"),
    ],
    "searched": [thought(), SEARCH, thought(id="rs_2"), text("", content=[CITED])],
    "refused after thought": [thought("Hm."), refusal("No.")],
    "text and refusal": [
        thought(), text("", content=[{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "b"}]),
    ],
    "compacted": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}, thought(), text("Yes.")],
    "failed image": [
        thought(), {"type": "image_generation_call", "id": "ig", "status": "failed", "result": None}, text("No."),
    ],
    "called from a program": [thought(), tool(caller={"type": "program", "caller_id": "p"}, namespace="n")],
    "what does not exist yet": [thought(), {"type": "dream_call", "id": "d_1", "content": [{"type": "x"}]}, text("Y")],
    "a message of no text": [thought(), text("", content=[{"type": "output_audio", "id": "au_1"}])],
}  # fmt: skip


@pytest.mark.parametrize("items", ROUND_TRIPS.values(), ids=ROUND_TRIPS.keys())
def test_what_goes_back_is_what_came(items: list[Json]) -> None:
    assert cleaned(again(*items)) == cleaned(items)


def test_what_a_text_is_for_goes_back_with_it() -> None:
    # "dropping it can degrade performance", says the reference; it needs no reasoning beside it.
    assert again(text("OK", phase="final_answer")) == [
        {"role": "assistant", "content": "OK", "phase": "final_answer"}
    ]


texts = st.text(min_size=1, max_size=12)
reasoning = st.builds(
    lambda summaries, raw, data, n: (
        thought(*summaries, data=data, id=f"rs_{n}")
        | ({"content": [{"type": "reasoning_text", "text": said} for said in raw]} if raw else {})
    ),
    st.lists(texts, max_size=3),
    st.lists(texts, max_size=2),
    st.one_of(st.none(), texts),
    st.integers(0, 99),
)
messages = st.builds(
    lambda said, phase: text("", content=[{"type": "output_text", "text": t} for t in said]) | phase,
    st.lists(texts, min_size=1, max_size=3),
    st.sampled_from([{}, {"phase": "commentary"}]),
)
calls = st.builds(lambda n: tool(json.dumps({"n": n}), f"call_{n}"), st.integers())
others = st.sampled_from([SEARCH, {"type": "mcp_call", "id": "mcp_1", "output": "x"}])


@given(
    st.lists(st.one_of(reasoning, messages, calls, others), max_size=6),
    st.one_of(messages, calls),
)
def test_any_reasoned_reply_goes_back_as_it_came(before: list[Json], end: Json) -> None:
    items = [thought("Hm."), *before, end]
    names = [item["call_id"] for item in items if item["type"] == "function_call"]
    if len(set(names)) == len(names):
        assert cleaned(again(*items)) == cleaned(items)
