"""What a model service's refusal means: from status, headers and body to one typed error.

All wires share this: services differ in where they put the message, not in what can go wrong. Nothing here
talks to a network. Every text that leaves passes the scrubber and is capped.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, cast

import msgspec

from ..errors import (
    AuthenticationError,
    ContextOverflowError,
    InvalidRequestError,
    LoomError,
    MalformedReplyError,
    ProviderError,
    ProviderUnavailableError,
    RateLimitError,
)
from .untyped import as_dict, as_list, as_text, is_dict

MAX_MESSAGE_CHARS = 500

_OVERFLOW = re.compile(
    r"context[ _-]?(?:length|window|size|limit)|maximum context|prompt is too long|prompt too long"
    r"|input (?:is )?too long|too many (?:input |prompt )?tokens|too_many_prompt_tokens|reduce the length"
    r"|exceed_context_size"
    r"|maximum prompt length|prompt exceeds (?:the )?max|exceed(?:s|ed) model token limit|range of input length"
    r"|`inputs` (?:tokens|must have less)|prompt token count.{0,40}exceeds|request body too large for .{0,60}tokens"
    r"|request too large|input token count.{0,40}exceeds|larger than the max_model_len",
    re.IGNORECASE,
)
_OVERFLOW_WORDS = frozenset(
    {
        "context_length_exceeded",
        "context_window_exceeded",
        "exceed_context_size_error",
        "input_too_long",
        "model_context_window_exceeded",
        "prompt_too_long",
        "request_too_large",
        "model_max_prompt_tokens_exceeded",
        "tokens_limit_reached",
        "too_many_prompt_tokens",
    }
)
_BAD_KEY = re.compile(
    r"(?:api[ _-]?key|x-api-key)\W.{0,20}?(?:not valid|invalid|incorrect)"
    r"|(?:invalid|incorrect|no|missing) (?:x-)?api[ _-]?key",
    re.IGNORECASE,
)
_AUTH_WORDS = frozenset(
    {
        "authentication_error",
        "permission_error",
        "invalid_api_key",
        "unauthorized",
        "api_key_invalid",
        "api_key_expired",
        "permission_denied",
        "unauthenticated",
    }
)
_RATE_WORDS = frozenset(
    {"rate_limit_error", "rate_limit_exceeded", "resource_exhausted", "too_many_requests"}
)
_QUOTA_WORDS = frozenset({"insufficient_quota", "billing_error", "credit_balance_too_low"})
_DOWN_WORDS = frozenset(
    {"overloaded_error", "api_error", "server_error", "internal_server_error", "timeout_error", "unavailable"}
)
# Groq's words for a model that wrote a call or JSON nobody can read; the next try may be better.
_MODEL_WORDS = frozenset({"tool_use_failed", "json_validate_failed"})
_TRY_LATER = frozenset({408, 409, 425})


class Complaint(NamedTuple):
    """What a service said when it refused, wherever in the body it said it."""

    message: str = ""
    words: frozenset[str] = frozenset()
    status: int | None = None
    request_id: str | None = None
    retry_after: float | None = None
    code: str | None = None


class FailureReader:
    """Makes errors for one service. ``service`` is the name shown, ``scrub`` removes secrets from text."""

    __slots__ = ("_clock", "_scrub", "_service")

    def __init__(
        self, service: str, scrub: Callable[[str], str], clock: Callable[[], float] = time.time
    ) -> None:
        self._service = service
        self._scrub = scrub
        self._clock = clock

    def from_reply(
        self, status: int, headers: Mapping[str, str], body: bytes
    ) -> ProviderError | ContextOverflowError:
        """The error behind an HTTP reply that is not a 200. ``headers`` is looked up without case."""
        if 300 <= status < 400:
            return self._redirect(status, headers)
        complaint = read_complaint(body)
        wait = retry_after(headers, self._clock)
        if wait is None and status == 429 and complaint.retry_after is None:
            wait = allowance_reset(headers, self._clock)
        complaint = complaint._replace(
            request_id=request_id(headers) or complaint.request_id,
            retry_after=complaint.retry_after if wait is None else wait,
        )
        error = self._typed(status, complaint)
        advice = headers.get("x-should-retry")
        if advice in ("true", "false") and isinstance(error, ProviderError):
            error.retryable = advice == "true"
        return error

    def from_error(self, error: Any) -> ProviderError | ContextOverflowError:
        """The error behind an error object inside a reply that began as a success."""
        complaint = _complaint({"error": error})
        return self._typed(complaint.status or 0, complaint)

    def malformed(self, what: str, sample: bytes = b"", *, retryable: bool = False) -> MalformedReplyError:
        """The error for a reply that is not one; ``sample`` is shown in part."""
        shown = f": {_one_line(sample[:300].decode('utf-8', 'replace'))!r}" if sample else ""
        return MalformedReplyError(self.text(f"{self._service} {what}{shown}"), retryable=retryable)

    def unreachable(self, what: str, cause: Exception, *, retryable: bool = True) -> ProviderError:
        """The error for a connection that failed; the cause is told in words, not carried along."""
        detail = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
        return ProviderUnavailableError(self.text(f"{self._service} {what} ({detail})"), retryable=retryable)

    def text(self, text: str) -> str:
        """``text`` scrubbed and capped."""
        text = self._scrub(text)
        return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 3] + "..."

    def _redirect(self, status: int, headers: Mapping[str, str]) -> ProviderError:
        target = (headers.get("location") or "nowhere").split("?")[0]
        return ProviderError(
            self.text(
                f"{self._service} redirects to {target[:200]} (HTTP {status}); redirects are not followed, "
                "so that the key goes nowhere else. If you trust that address, make it the base_url"
            ),
            status=status,
        )

    def _typed(self, status: int, complaint: Complaint) -> ProviderError | ContextOverflowError:
        kind, verb = _kind(status, complaint)
        status = status or complaint.status or 0
        marks = [f"HTTP {status}"] if status else []
        marks += [complaint.code] if complaint.code else []
        marks += [f"request {complaint.request_id}"] if complaint.request_id else []
        message = self._scrub(complaint.message) or "no reason was given"
        text = f"{self._service} {verb}" + (f" ({', '.join(marks)})" if marks else "") + f": {message}"
        if kind is ContextOverflowError:
            return ContextOverflowError(
                self.text(text), status=status or None, request_id=complaint.request_id
            )
        error_class = cast(type[ProviderError], kind)
        return error_class(
            self.text(text),
            status=status or None,
            retryable=_retryable(complaint),
            retry_after=complaint.retry_after,
            provider_code=complaint.code,
            request_id=complaint.request_id,
        )


def _retryable(complaint: Complaint) -> bool | None:
    """What the words of the complaint say of asking again; None leaves it to the class of the error."""
    if complaint.words & _QUOTA_WORDS:
        return False
    return True if complaint.words & _MODEL_WORDS else None


def _kind(status: int, complaint: Complaint) -> tuple[type[ProviderError | ContextOverflowError], str]:
    """The class of error and the verb of its message; read from the top, the first that fits."""
    words, said = complaint.words, complaint.message
    refused = status in (0, 400, 413, 422, 429) or 400 <= (complaint.status or 0) < 500
    if words & _MODEL_WORDS:
        return MalformedReplyError, "could not read what its model wrote"
    if words & _OVERFLOW_WORDS or status == 413 or (refused and _OVERFLOW.search(said)):
        return ContextOverflowError, "says the conversation is too long"
    if status in (401, 403) or words & _AUTH_WORDS or (status in (0, 400) and _BAD_KEY.search(said)):
        return AuthenticationError, "refused the API key"
    if status == 429 or complaint.status == 429 or words & (_RATE_WORDS | _QUOTA_WORDS):
        return RateLimitError, "wants fewer requests"
    if status in _TRY_LATER or status >= 500 or words & _DOWN_WORDS or (complaint.status or 0) >= 500:
        return ProviderUnavailableError, "is not available"
    if status == 402 or complaint.status == 402:
        return ProviderError, "asks for payment"
    # A reply that began as a success has no status to tell by: ``invalid_prompt``, ``invalid_image_url``.
    if status >= 400 or (complaint.status or 0) >= 400 or any(word.startswith("invalid") for word in words):
        return InvalidRequestError, "refused the request"
    return ProviderError, "reported an error"


# --- reading what was said --------------------------------------------------------------------------


def read_complaint(body: bytes) -> Complaint:
    """Find the message in an error body: JSON of any known shape, a page of HTML, or plain text."""
    try:
        said: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return Complaint(_plain_text(body))
    first: Any = (as_list(said) or [said])[0]
    if is_dict(first):
        return _complaint(first)
    return Complaint(_one_line(str(first))[:MAX_MESSAGE_CHARS])


def _complaint(said: dict[str, Any]) -> Complaint:
    error: Any = said.get("error")
    inner = as_dict(error) or said
    message = error if isinstance(error, str) else inner.get("message") or inner.get("detail") or ""
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode()
    if raw := as_text(as_dict(inner.get("metadata")).get("raw")) or as_text(inner.get("failed_generation")):
        message = f"{message}: {raw}"
    named = [inner.get(key) for key in ("type", "code", "status")] + [said.get("code")]
    words = [word for word in named if isinstance(word, str)]
    numbers = [number for number in named if isinstance(number, int) and 400 <= number < 600]
    request = said.get("request_id") or inner.get("request_id")
    return Complaint(
        message=_one_line(message),
        words=frozenset(word.lower() for word in [*words, *_reasons(inner.get("details"))]),
        status=numbers[0] if numbers else None,
        request_id=request if isinstance(request, str) else None,
        retry_after=_retry_delay(inner.get("details")),
        code=next((word for word in words[1:] + words[:1]), None),
    )


def _reasons(details: Any) -> list[str]:
    """Google's ErrorInfo: ``{"reason": "API_KEY_INVALID"}`` among the details."""
    return [reason for detail in as_list(details) if (reason := as_text(as_dict(detail).get("reason")))]


def _retry_delay(details: Any) -> float | None:
    """Google's RetryInfo: ``{"retryDelay": "48s"}`` among the details."""
    for detail in as_list(details):
        delay = as_text(as_dict(detail).get("retryDelay"))
        if found := re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)s", delay):
            return float(found.group(1))
    return None


def _plain_text(body: bytes) -> str:
    text = body[:4096].decode("utf-8", "replace")
    if "<html" in text.lower() or "<!doctype" in text.lower():
        title = re.search(r"<title[^>]{0,100}>([^<]{1,200})", text, re.IGNORECASE)
        named = f" titled {_one_line(title.group(1))!r}" if title else ""
        return f"a web page{named}, not an API; is base_url right?"
    return _one_line(text)[:MAX_MESSAGE_CHARS]


def _one_line(text: str) -> str:
    return " ".join(text[: 4 * MAX_MESSAGE_CHARS].split())


def request_id(headers: Mapping[str, str]) -> str | None:
    """What the service calls this request, for its support desk."""
    return headers.get("x-request-id") or headers.get("request-id")


def named(error: LoomError, headers: Mapping[str, str]) -> LoomError:
    """``error``, found in a reply with these headers, with the request's name where the body had none."""
    if isinstance(error, ProviderError | ContextOverflowError) and error.request_id is None:
        error.request_id = request_id(headers)
    return error


def retry_after(headers: Mapping[str, str], clock: Callable[[], float] = time.time) -> float | None:
    """Seconds the service asks us to wait: ``retry-after-ms``, or ``retry-after`` as seconds or HTTP date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) * scale
        except ValueError:
            seconds = _until(value, clock)
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _until(date: str, clock: Callable[[], float]) -> float:
    try:
        return parsedate_to_datetime(date).timestamp() - clock()
    except (ValueError, OverflowError):
        return math.nan


# --- rate limits --------------------------------------------------------------------------------------

_SPAN = re.compile(
    r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:(\d{1,6}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?"
)
_ALLOWANCES = (
    ("x-ratelimit-remaining-{}", "x-ratelimit-reset-{}", ("requests", "tokens")),
    (
        "anthropic-ratelimit-{}-remaining",
        "anthropic-ratelimit-{}-reset",
        ("requests", "tokens", "input-tokens", "output-tokens"),
    ),
)


def allowance_reset(headers: Mapping[str, str], clock: Callable[[], float] = time.time) -> float | None:
    """Seconds until what the service allows is there again, when its headers say that some of it is used up.

    OpenAI and those after it tell a span (``6m0s``, ``120ms``), Anthropic a point in time.
    Source: https://platform.openai.com/docs/guides/rate-limits
    """
    waits = [
        _until_reset(headers.get(reset.format(what)) or "", clock)
        for remaining, reset, kinds in _ALLOWANCES
        for what in kinds
        if headers.get(remaining.format(what)) == "0"
    ]
    known = [wait for wait in waits if wait is not None]
    return max(known, default=None)


def _until_reset(said: str, clock: Callable[[], float]) -> float | None:
    found = _SPAN.fullmatch(said) if said else None
    if found is not None:
        hours, minutes, seconds, milliseconds = (float(number or 0) for number in found.groups())
        return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
    try:
        return max(0.0, datetime.fromisoformat(said).timestamp() - clock())
    except (ValueError, OverflowError):
        return None
