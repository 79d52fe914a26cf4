"""Recognising a task by its English words. Rules of thumb, kept narrow: a wrong no is an honest no."""

from __future__ import annotations

import json
import re
from typing import cast

# A task longer than this is still read, but only its beginning decides what is asked.
_LOOKED_AT = 2_000

_NOUNS = (
    "repository|repositories|repo|project|codebase|code base|source tree|workspace|directory|folder|package|"
    "source code|code here"
)
_VERBS = (
    "summari[sz]e|summary|describe|description|explain|overview|inspect|explore|analy[sz]e|outline|survey|"
    "tell me about|walk me through|tour|introduce|introduction|look at|look through|look around|look over|"
    "get to know|understand|sum up"
)
# Gaps and words share no character: no input makes the search try many ways to split it.
_GAP = r"[^\w'/.-]+"
_VERB_NOUN = re.compile(rf"\b(?:{_VERBS})\b((?:{_GAP}[\w'/.-]+){{0,6}}?){_GAP}(?:{_NOUNS})\b", re.IGNORECASE)
_ASPECT = (
    "layout|structure|contents?|files|directories|folders|organi[sz]ation|architecture|tree|entry points|"
    "languages"
)
_SHOWN = re.compile(
    rf"\b(?:list|show|give|print|display|find)\b(?:\W+\w+){{0,3}}?\W+(?:{_ASPECT})\b(?:\W+\w+){{0,3}}?\W+(?:{_NOUNS})\b"
    rf"|\b(?:list|show|give|print|display|describe|explain|summari[sz]e|inspect)\b(?:\W+(?:me|us|the|this|that|my|our))*"
    rf"\W+(?:{_NOUNS})(?:'s)?\W+(?:{_ASPECT})\b",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    rf"\bwhat(?:'s| is| does| do)?\b(?:\W+(?:is|in|inside|the|this|that|my|our))*\W+(?:{_NOUNS})\b"
    rf"(?:\W+(?:do|does|about|for|contain|is|all))*\s*[?.!]*\s*\Z"
    rf"|\bhow is (?:the|this|that|my|our) (?:{_NOUNS}) (?:organi[sz]ed|structured|laid out)",
    re.IGNORECASE,
)
_PREPOSITION = re.compile(r"\A(?:in|of|for|from|with|about|inside|within|by|to|on)\Z", re.IGNORECASE)
# Words that may stand before a preposition without being the object asked about.
_FILLER = re.compile(
    rf"\A(?:the|this|that|these|my|our|your|a|an|me|us|to|of|what|is|it|in|how|whole|entire|current|main|short|brief|"
    rf"general|purpose|summary|overview|description|code|everything|all|and|please|state|{_ASPECT})\Z",
    re.IGNORECASE,
)
_ELSEWHERE = re.compile(
    r"\b(?:why|whether|when|who|bugs?|errors?|fails?|failures?|risks?|fix|how to|change|diff|commits?)\b",
    re.IGNORECASE,
)
_URL = re.compile(r"\b(?:https?|git|ssh)://\S{1,300}|\bgit@\S{1,300}", re.IGNORECASE)
_QUOTED_PATH = re.compile(r"[`'\"]([^`'\"\s]{1,300})[`'\"]")
_NAMED_PATH = re.compile(
    rf"(?:\b(?:{_NOUNS}|at|in|under|inside|of)\s+)(?=((?:\.{{1,2}}/|/)?[\w.@+-]+(?:/[\w.@+-]+)*/?)(?:[\s,;:.!?)]|\Z))",
    re.IGNORECASE,
)
_DIRECT = re.compile(
    r"\A\s*(?:please\s+)?(?:call|invoke|run|use)\s+(?:the\s+)?(?:tool\s+)?[`\"']?([A-Za-z_][\w.-]{0,127})[`\"']?"
    r"(?:\s+tool)?(?:\s+with(?:\s+(?:the\s+)?arguments)?)?:?\s*(?=\{|\Z)",
    re.IGNORECASE,
)


def goal_of(message: str) -> str:
    """The goal in a user message, without what the runtime sets around it (``<earlier>``, ``<context>``)."""
    text = message
    if text.startswith("<earlier>\n") and "\n</earlier>\n\n" in text:
        text = text.rpartition("\n</earlier>\n\n")[2]
    if text.endswith("\n</context>") and "\n\n<context>\n" in text:
        text = text.rpartition("\n\n<context>\n")[0]
    return text


def is_survey_task(task: str) -> bool:
    """Whether the text asks to summarise, describe or lay out a repository, project or directory."""
    text = task[:_LOOKED_AT]
    if _QUESTION.search(text) or _SHOWN.search(text):
        return True
    return any(_about_the_whole(match[1]) for match in _VERB_NOUN.finditer(text))


def _about_the_whole(between: str) -> bool:
    """Whether the words between verb and noun leave the noun the object: not "the bug in this project"."""
    if _ELSEWHERE.search(between):
        return False
    words = re.findall(r"[\w']+", between)
    before = 0
    for index, word in enumerate(words):
        if _PREPOSITION.match(word):
            before = index
    return all(_FILLER.match(word) for word in words[:before])


def url_in(task: str) -> str | None:
    """The first address of a remote repository that the task names, or None."""
    match = _URL.search(task[:_LOOKED_AT])
    return match[0].rstrip(".,;:)>`'\"") if match else None


def survey_root(task: str) -> str:
    """The folder the task names: in quotes, or with a slash after a word such as "in"; else ``"."``."""
    text = task[:_LOOKED_AT]
    found = [match[1] for match in _QUOTED_PATH.finditer(text)]
    found += [
        match[1].rstrip(".") if match[1].strip("./") else match[1] for match in _NAMED_PATH.finditer(text)
    ]
    for path in found:
        if "/" in path:
            return path.rstrip("/").removeprefix("./") or ("/" if path.startswith("/") else ".")
    return "."


def direct_call(task: str) -> tuple[str, object] | None:
    """The tool name and the arguments of a task such as ``call search {"query": "x"}``, or None.

    Arguments that are not JSON come back as None; without any they are an empty object.
    """
    match = _DIRECT.match(task)
    if match is None:
        return None
    rest = task[match.end() :]
    if not rest:
        return match[1], {}
    try:
        arguments, _ = json.JSONDecoder().raw_decode(rest)
    except (ValueError, RecursionError):
        return match[1], None
    return match[1], cast("object", arguments)
