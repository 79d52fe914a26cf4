"""What a reply says it rests on, in one vocabulary, whichever words its service has for that."""

from __future__ import annotations

from typing import Any

from ..safety.display import encodable
from ..types import Source
from .untyped import as_dict, as_list, as_text, is_dict

_ADDRESSES = ("url", "uri", "link", "source", "retrievedUrl")
_TITLES = ("title", "document_title", "filename")
_TEXTS = ("cited_text", "snippet", "text", "content")


def source_in(said: Any) -> Source | None:
    """The source that an address or an object tells; None when it tells none."""
    if isinstance(said, str):
        return Source(encodable(said)) if said else None
    told = as_dict(said)
    url, title = _first(told, _ADDRESSES), _first(told, _TITLES)
    return Source(url, title, _first(told, _TEXTS)) if url or title else None


def sources_in(said: Any) -> list[Source]:
    """The sources that a list tells."""
    return [source for item in as_list(said) if (source := source_in(item)) is not None]


def _first(told: dict[str, Any], names: tuple[str, ...]) -> str:
    return encodable(next((text for name in names if (text := as_text(told.get(name)))), ""))


# --- the words of each wire -----------------------------------------------------------------------------


def of_chat(said: Any) -> list[Source]:
    """What stands in a chat completion, its message or its delta: annotations, search results, citations."""
    told = as_dict(said)
    found: list[Source] = []
    for annotation in as_list(told.get("annotations")):
        cited = as_dict(annotation)
        found += sources_in([cited.get(as_text(cited.get("type"))) or cited])
    for tool in as_list(told.get("executed_tools")):
        found += sources_in(as_dict(as_dict(tool).get("search_results")).get("results"))
    for name in ("search_results", "web_search", "citations"):
        found += sources_in(told.get(name))
    return found + sources_in(as_dict(told.get("search_info")).get("search_results"))


def of_gemini(grounding: Any, citations: Any, fetched: Any) -> list[Source]:
    """What grounds a candidate, what it quotes, and the pages it read."""
    found: list[Source] = []
    for chunk in as_list(as_dict(grounding).get("groundingChunks")):
        found += sources_in([kind for kind in as_dict(chunk).values() if is_dict(kind)])
    quoted = as_dict(citations)
    found += sources_in(quoted.get("citationSources") or quoted.get("citations"))
    return found + sources_in(as_dict(fetched).get("urlMetadata"))


def of_response(item: dict[str, Any]) -> list[Source]:
    """What an item of the Responses API cites, or found when it searched."""
    found: list[Source] = []
    for piece in as_list(item.get("content")):
        found += sources_in(as_dict(piece).get("annotations"))
    return found + sources_in(as_dict(item.get("action")).get("sources"))


def of_block(block: dict[str, Any]) -> list[Source]:
    """What a block of Anthropic's found: pages of a search, or the page that was fetched."""
    content = block.get("content")
    page = as_dict(content)
    if page.get("type") == "web_fetch_result":
        title = as_text(as_dict(page.get("content")).get("title"))
        return sources_in([{"url": page.get("url"), "title": title}])
    found = (as_dict(item) for item in as_list(content))
    pages = [item for item in found if item.get("type") == "web_search_result"]
    return sources_in([{"url": item.get("url"), "title": item.get("title")} for item in pages])
