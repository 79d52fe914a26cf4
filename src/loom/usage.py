"""What a model call used. Part of the nouns of ``types.py``, which hands these names on."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace


class ModelUsage(Struct, frozen=True, omit_defaults=True):
    """What another model used for a reply, which the service asked itself. ``model`` is the service's name for it."""

    model: str
    usage: Usage


class Usage(Struct, frozen=True, omit_defaults=True):
    """What a model service counted, in tokens unless the name says otherwise.

    ``input_tokens`` and ``output_tokens`` are all there are. Those read from or written to a cache, of sound,
    pictures and video are part of them, as ``cache_write_1h_tokens`` are of
    ``cache_write_tokens`` and what ``advisors`` used is of all; whatever is in no part is text. ``estimated`` says
    that the service left out some of it, and that its place is taken by an estimate.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    estimated: bool = False
    cache_write_1h_tokens: int = 0
    cache_audio_read_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    input_video_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    output_video_tokens: int = 0
    input_audio_seconds: int = 0
    web_searches: int = 0
    advisors: tuple[ModelUsage, ...] = ()

    @property
    def total_tokens(self) -> int:
        """Input plus output tokens."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.estimated or other.estimated,
            self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            self.cache_audio_read_tokens + other.cache_audio_read_tokens,
            self.input_audio_tokens + other.input_audio_tokens,
            self.input_image_tokens + other.input_image_tokens,
            self.input_video_tokens + other.input_video_tokens,
            self.output_audio_tokens + other.output_audio_tokens,
            self.output_image_tokens + other.output_image_tokens,
            self.output_video_tokens + other.output_video_tokens,
            self.input_audio_seconds + other.input_audio_seconds,
            self.web_searches + other.web_searches,
            _by_model(self.advisors, other.advisors) if self.advisors or other.advisors else (),
        )


def _by_model(some: tuple[ModelUsage, ...], more: tuple[ModelUsage, ...]) -> tuple[ModelUsage, ...]:
    """What each model used, once each."""
    found: dict[str, Usage] = {}
    for part in (*some, *more):
        found[part.model] = found[part.model] + part.usage if part.model in found else part.usage
    return tuple(ModelUsage(model, usage) for model, usage in found.items())


def without_advisors(usage: Usage) -> Usage:
    """The part of ``usage`` that the model itself used."""
    if not usage.advisors:
        return usage
    sent = sum(advice.usage.input_tokens for advice in usage.advisors)
    written = sum(advice.usage.output_tokens for advice in usage.advisors)
    return replace(
        usage,
        input_tokens=usage.input_tokens - sent,
        output_tokens=usage.output_tokens - written,
        advisors=(),
    )
