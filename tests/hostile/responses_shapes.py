"""The table of OpenAI's Responses API for ``test_shapes``: replies that are JSON and yet no reply.

``done``: an answer that may be shown. ``none``: the run fails with an error of its own, and nothing ran. None:
both are sound.
"""

from __future__ import annotations

from typing import Any

Json = Any
DONE, NONE = "done", "none"


def items(*output: Json, status: Json = "completed", **fields: Json) -> Json:
    return {"id": "resp_1", "object": "response", "status": status, "output": list(output), **fields}


def spoken(*pieces: Json, **fields: Json) -> Json:
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": list(pieces), **fields}


def used(arguments: Json = '{"a":1}', **fields: Json) -> Json:
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "c1",
        "name": "add",
        "arguments": arguments,
        **fields,
    }


WORDS = {"type": "output_text", "text": "Hello", "annotations": []}
SPOKEN = spoken(WORDS)

WHOLE: dict[str, tuple[Json, str | None]] = {
    "an empty object": ({}, NONE),
    "a string": ("hello", NONE),
    "a list": ([items(SPOKEN)], NONE),
    "no output": ({"id": "resp_1", "status": "completed"}, NONE),
    "null output": ({"status": "completed", "output": None}, NONE),
    "output as text": ({"status": "completed", "output": "Hello"}, NONE),
    "output as an object": ({"status": "completed", "output": SPOKEN}, NONE),
    "empty output": (items(), NONE),
    "output of null": (items(None), NONE),
    "output of strings": (items("Hello"), NONE),
    "an item without type": (items({"content": [WORDS]}), NONE),
    "a type as a list": (items({"type": ["message"], "content": [WORDS]}), NONE),
    "an item of a future type": (items({"type": "hologram", "shape": []}, SPOKEN), DONE),
    "only an item of a future type": (items({"type": "hologram", "shape": []}), NONE),
    "no content": (items({"type": "message"}), NONE),
    "null content": (items({"type": "message", "content": None}), NONE),
    "content as text": (items({"type": "message", "content": "Hello"}), NONE),
    "content of strings": (items(spoken("Hello")), NONE),
    "a piece without type": (items(spoken({"text": "Hello"})), NONE),
    "a piece of a future type": (items(spoken({"type": "scent"}, WORDS)), DONE),
    "text as null": (items(spoken({"type": "output_text", "text": None})), NONE),
    "text as a number": (items(spoken({"type": "output_text", "text": 42})), NONE),
    "blank text": (items(spoken({"type": "output_text", "text": " \n"})), NONE),
    "annotations as text": (items(spoken({**WORDS, "annotations": "x"})), DONE),
    "refused": (items(spoken({"type": "refusal", "refusal": "No."})), NONE),
    "a refusal without words": (items(spoken({"type": "refusal"})), NONE),
    "only reasoning": (items({"type": "reasoning", "id": "rs_1", "summary": []}), NONE),
    "reasoning as text": (items({"type": "reasoning", "summary": "hm"}, SPOKEN), NONE),
    "reasoning of null": (items({"type": "reasoning", "id": None, "summary": [None]}, SPOKEN), NONE),
    "null fields everywhere": (items({**SPOKEN, "id": None, "status": None, "phase": None}), DONE),
    "a call without a name": (items(used(name=None)), NONE),
    "a name as a list": (items(used(name=["add"])), NONE),
    "a call without an id": (items(used(call_id=None)), DONE),
    "an id as a number": (items(used(call_id=7)), DONE),
    "a call cut short": (items(used('{"a":', status="incomplete")), NONE),
    "a picture without data": (items({"type": "image_generation_call", "result": None}, SPOKEN), DONE),
    "failed": (items(status="failed", error={"code": "server_error", "message": "oops"}), NONE),
    "failed without a reason": (items(SPOKEN, status="failed", error=None), NONE),
    "cancelled": (items(SPOKEN, status="cancelled"), NONE),
    "queued": (items(status="queued"), NONE),
    "in progress": (items(SPOKEN, status="in_progress"), NONE),
    "cut at its length": (
        items(SPOKEN, status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        NONE,
    ),
    "filtered": (
        items(SPOKEN, status="incomplete", incomplete_details={"reason": "content_filter"}),
        NONE,
    ),
    "cut for a reason nobody knows": (items(SPOKEN, status="incomplete", incomplete_details=None), NONE),
    "a call cut at its length": (
        items(used('{"a":1,'), status="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        NONE,
    ),
    "a status that is none": (items(SPOKEN, status="because"), DONE),
    "a status as a number": (items(SPOKEN, status=7), DONE),
    "counts as text": (items(SPOKEN, usage={"input_tokens": "many"}), DONE),
    "counts below zero": (items(SPOKEN, usage={"input_tokens": -1, "output_tokens": True}), DONE),
    "counts beyond reason": (items(SPOKEN, usage={"input_tokens": 10**30}), DONE),
    "counts as a list": (items(SPOKEN, usage=[1, 2]), DONE),
    "a model as a number": (items(SPOKEN, model=4), DONE),
    "an error as text": ({"error": "gone"}, NONE),
    "an error beside a reply": (items(SPOKEN, error={"message": "gone"}), NONE),
    "half a surrogate": (items(spoken({**WORDS, "text": "Hello \ud800"})), NONE),
    "control characters": (items(spoken({**WORDS, "text": "Hello \u0000\u001b[2J"})), DONE),
}


def event(kind: str, **fields: Json) -> Json:
    return {"type": f"response.{kind}", **fields}


def ended(*output: Json, kind: str = "completed", **fields: Json) -> Json:
    return event(kind, response=items(*output, status=kind, **fields))


def item_event(kind: str, item: Json, place: Json = 0) -> Json:
    return event(f"output_item.{kind}", output_index=place, item=item)


def heard(text: Json = "Hello", place: Json = 0) -> Json:
    return event("output_text.delta", output_index=place, content_index=0, delta=text)


def argued(text: Json = '{"a":1', place: Json = 0) -> Json:
    return event("function_call_arguments.delta", output_index=place, delta=text)


CREATED = event("created", response=items(status="in_progress"))
ADDED = item_event("added", spoken(status="in_progress"))
FINISHED = item_event("done", SPOKEN)

STREAMS: dict[str, tuple[list[Json], str]] = {
    "only the beginning": ([CREATED], NONE),
    "only the end": ([ended()], NONE),
    "only the end, with all of it": ([ended(SPOKEN)], DONE),
    "words and no end": ([CREATED, ADDED, heard(), FINISHED], NONE),
    "words and only the marker": ([CREATED, ADDED, heard(), FINISHED, "[DONE]"], NONE),
    "an end without a response": ([CREATED, ADDED, heard(), FINISHED, event("completed")], DONE),
    "an end with a response of text": ([ADDED, heard(), event("completed", response="x")], NONE),
    "an end without output": ([CREATED, ADDED, heard(), FINISHED, ended()], DONE),
    "an end in the middle of an item": ([CREATED, ADDED, heard(), ended()], NONE),
    "words that the end does not hold": ([heard("Bye"), ended(SPOKEN)], DONE),
    "words after the end": ([ended(SPOKEN), heard(" more")], DONE),
    "an error after the end": ([ended(SPOKEN), {"type": "error", "message": "gone"}], DONE),
    "two ends": ([ended(SPOKEN), ended(spoken({**WORDS, "text": "Bye"}))], DONE),
    "the item before its beginning": ([FINISHED, ADDED, heard(), ended(SPOKEN)], DONE),
    "an item begun twice": ([ADDED, ADDED, heard(), FINISHED, ended(SPOKEN)], DONE),
    "an item ended twice": ([ADDED, heard(), FINISHED, FINISHED, ended()], DONE),
    "items out of order": (
        [item_event("done", SPOKEN, 1), item_event("done", {"type": "hologram"}, 0), ended()],
        DONE,
    ),
    "words for an item that never began": ([heard(place=7), ended(SPOKEN)], DONE),
    "arguments for an item that never began": ([argued(place=7), ended(SPOKEN)], DONE),
    "arguments for a text": ([ADDED, argued(), FINISHED, ended(SPOKEN)], DONE),
    "a place as text": ([item_event("added", spoken(), "0"), heard(place="0"), ended(SPOKEN)], DONE),
    "a place below zero": ([heard(place=-1), item_event("done", SPOKEN, -1), ended()], DONE),
    "no place": ([heard(place=None), ended(SPOKEN)], DONE),
    "a delta as null": ([ADDED, heard(None), FINISHED, ended(SPOKEN)], DONE),
    "a delta as an object": ([ADDED, heard({"text": "x"}), FINISHED, ended(SPOKEN)], DONE),
    "an item as null": ([item_event("added", None), item_event("done", None), ended(SPOKEN)], DONE),
    "only an item as null": ([item_event("done", None), ended()], NONE),
    "an event nobody knows": (
        [{"type": "telepathy"}, event("scent.delta", delta="x"), ended(SPOKEN)],
        DONE,
    ),
    "an event without a type": ([{"delta": "x"}, {}, ended(SPOKEN)], DONE),
    "a type as a number": ([{"type": 7}, ended(SPOKEN)], DONE),
    "half a call": (
        [item_event("added", used("")), argued(), ended(used('{"a":1', status="incomplete"))],
        NONE,
    ),
    "half a call and no end": ([item_event("added", used("")), argued()], NONE),
    "half a call and an end without it": ([item_event("added", used("")), argued(), ended()], NONE),
    "a call cut at its length": (
        [
            item_event("added", used("")),
            argued(),
            ended(used('{"a":1'), kind="incomplete", incomplete_details={"reason": "max_output_tokens"}),
        ],
        NONE,
    ),
    "a call without a name": ([item_event("added", used("", name=None)), ended(used(name=None))], NONE),
    "cut at its length": (
        [heard(), ended(SPOKEN, kind="incomplete", incomplete_details={"reason": "max_output_tokens"})],
        NONE,
    ),
    "failed": ([heard(), ended(kind="failed", error={"code": "server_error", "message": "oops"})], NONE),
    "failed without a reason": ([heard(), ended(SPOKEN, kind="failed")], NONE),
    "cancelled": ([heard(), ended(SPOKEN, kind="cancelled")], NONE),
    "queued at its end": ([event("completed", response=items(SPOKEN, status="queued"))], NONE),
    "an error in the middle": ([heard(), {"type": "error", "code": "x", "message": "gone"}], NONE),
    "an error without words": ([{"type": "error"}], NONE),
    "an error as text": ([heard(), {"error": "gone"}], NONE),
    "not JSON": (["hello"], NONE),
    "JSON cut": ([CREATED, '{"type": "response.output_text.del'], NONE),
}
