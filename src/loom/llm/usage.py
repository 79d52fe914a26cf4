"""Usage as each wire reports it, in our counts: by modality, by lifetime of the cache, by tool of the service.

Parts never exceed what they are part of, whatever a service says: prices are computed by subtraction. None where
nothing was reported, which is not zero.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..types import ModelUsage, Usage
from .untyped import as_count, as_dict, as_list, as_text

# --- Anthropic messages -----------------------------------------------------------------------------


def of_anthropic(usage: dict[str, Any]) -> Usage | None:
    """Usage of a message. https://docs.anthropic.com/en/api/messages#response-usage

    The top is what the model itself used; a compaction and the advice of other models are paid for besides.
    """
    counted = _anthropic(usage)
    for step in map(as_dict, as_list(usage.get("iterations"))):
        kind, more = step.get("type"), _anthropic(step)
        if kind == "compaction":
            counted += more
        elif kind == "advisor_message" and more.total_tokens:
            counted += Usage(
                input_tokens=more.input_tokens,
                output_tokens=more.output_tokens,
                advisors=(ModelUsage(as_text(step.get("model")), more),),
            )
    return _known(counted)


def _anthropic(usage: dict[str, Any]) -> Usage:
    read = as_count(usage.get("cache_read_input_tokens"))
    written = as_count(usage.get("cache_creation_input_tokens"))
    lasting = as_count(as_dict(usage.get("cache_creation")).get("ephemeral_1h_input_tokens"))
    return Usage(
        input_tokens=as_count(usage.get("input_tokens")) + read + written,
        output_tokens=as_count(usage.get("output_tokens")),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(lasting, written),
        web_searches=_searches(usage),
    )


def _searches(usage: dict[str, Any]) -> int:
    return as_count(as_dict(usage.get("server_tool_use")).get("web_search_requests"))


# --- Gemini -----------------------------------------------------------------------------------------

_MODALITIES = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}


def of_gemini(usage: dict[str, Any], grounding: Any, model: str) -> Usage | None:
    """Usage of a generateContent. https://ai.google.dev/api/generate-content#UsageMetadata

    ``grounding`` is the reply's groundingMetadata, which tells of searches: up to Gemini 2.5 a prompt that searched
    is paid for, after that each of its queries.
    """
    queries = sum(bool(as_text(query)) for query in as_list(as_dict(grounding).get("webSearchQueries")))
    searches = min(1, queries) if model.startswith(("gemini-1", "gemini-2")) else queries
    sent = as_count(usage.get("promptTokenCount")) + as_count(usage.get("toolUsePromptTokenCount"))
    thought = as_count(usage.get("thoughtsTokenCount"))
    written = as_count(usage.get("candidatesTokenCount")) + thought
    given = _by_modality(usage.get("promptTokensDetails"), usage.get("toolUsePromptTokensDetails"))
    made = _by_modality(usage.get("candidatesTokensDetails"))
    kept = _by_modality(usage.get("cacheTokensDetails"))
    counted = Usage(
        input_tokens=sent,
        output_tokens=written,
        cache_read_tokens=as_count(usage.get("cachedContentTokenCount")),
        cache_audio_read_tokens=min(kept["audio"], given["audio"]),
        web_searches=searches,
        **_parts(sent, "input", given),
        **_parts(written - thought, "output", made),
    )
    return _known(counted)


def _by_modality(*details: Any) -> dict[str, int]:
    counts = {"audio": 0, "image": 0, "video": 0}
    for entry in (as_dict(item) for detail in details for item in as_list(detail)):
        name = _MODALITIES.get(as_text(entry.get("modality")))
        if name:
            counts[name] += as_count(entry.get("tokenCount"))
    return counts


def _parts(whole: int, side: str, counts: dict[str, int]) -> dict[str, Any]:
    """The counts of one side by modality, none of them more than is left of the whole."""
    parts: dict[str, Any] = {}
    for name, count in counts.items():
        parts[f"{side}_{name}_tokens"] = taken = min(count, whole)
        whole -= taken
    return parts


# --- OpenAI chat completions ------------------------------------------------------------------------


def of_chat(usage: Any, model: str) -> Usage | None:
    """Usage of a chat completion, in the words of OpenAI and of those who imitate it."""
    counted = as_dict(usage)
    given = as_dict(counted.get("prompt_tokens_details"))
    made = as_dict(counted.get("completion_tokens_details"))
    sent, written = _sides(counted, model)
    cached = (
        given.get("cached_tokens") or counted.get("prompt_cache_hit_tokens") or counted.get("cached_tokens")
    )
    heard = _told(given)
    if counted.get("prompt_audio_seconds"):  # Mistral: sound is in the total alone
        heard["audio"] = max(heard["audio"], sent - as_count(counted.get("prompt_tokens")))
    tools = as_dict(counted.get("server_side_tool_usage_details"))  # xAI
    known = Usage(
        input_tokens=sent,
        output_tokens=written,
        cache_read_tokens=as_count(cached),
        cache_write_tokens=as_count(given.get("cache_write_tokens")),
        input_audio_seconds=as_count(counted.get("prompt_audio_seconds")),
        web_searches=_searches(counted) + as_count(tools.get("web_search_calls")),
        **_parts(sent, "input", heard),
        **_parts(written, "output", _told(made)),
    )
    return _known(known)


def _told(details: dict[str, Any]) -> dict[str, int]:
    return {name: as_count(details.get(f"{name}_tokens")) for name in ("audio", "image", "video")}


def _sides(counted: dict[str, Any], model: str) -> tuple[int, int]:
    """The tokens of the request and of the reply.

    What the total holds beyond the two is given to one of them only on evidence of what it is, for vendors leave
    different things out: xAI its thinking, which it counts apart, Gemini its thinking, which it does not, and
    Mistral the sound it heard.
    """
    sent, written = as_count(counted.get("prompt_tokens")), as_count(counted.get("completion_tokens"))
    rest = as_count(counted.get("total_tokens")) - sent - written
    if rest <= 0:
        return sent, written
    thought = as_count(as_dict(counted.get("completion_tokens_details")).get("reasoning_tokens"))
    if sent and (rest == thought or "gemini" in model or counted.get("completion_tokens") is None):
        return sent, written + rest
    heard = counted.get("prompt_audio_seconds") or counted.get("prompt_tokens") is None
    return (sent + rest, written) if heard and written else (sent, written)


# --- OpenAI Responses -------------------------------------------------------------------------------


def of_response(usage: Any, items: Iterable[dict[str, Any]]) -> Usage | None:
    """Usage of a response, and of the searches among its output items."""
    counted = as_dict(usage)
    given = as_dict(counted.get("input_tokens_details"))
    made = as_dict(counted.get("output_tokens_details"))
    sent, written = as_count(counted.get("input_tokens")), as_count(counted.get("output_tokens"))
    known = Usage(
        input_tokens=sent,
        output_tokens=written,
        cache_read_tokens=as_count(given.get("cached_tokens")),
        cache_write_tokens=as_count(given.get("cache_write_tokens")),
        web_searches=sum(map(_is_search, items)),
        **_parts(sent, "input", _told(given)),
        **_parts(written, "output", _told(made)),
    )
    return _known(known)


def _is_search(item: dict[str, Any]) -> bool:
    """Whether an item is a search of the web that was made. Opening a page found by it is free."""
    if item.get("type") != "web_search_call" or item.get("status") == "failed":
        return False
    return as_text(as_dict(item.get("action")).get("type")) in ("", "search")


def _known(usage: Usage) -> Usage | None:
    return usage if usage.total_tokens else None
