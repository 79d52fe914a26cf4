"""Secrets in text that comes in pieces: cut anywhere, nothing of a secret gets out before it is known."""

import random

import pytest
from secret_samples import FORMATS, IN_CONTEXT, ORDINARY

from loom.llm.redact import Scrubber
from loom.llm.redact_stream import StreamScrubber

GIVEN = ["correct horse battery staple", "hunter2hunter2", "пароль-日本"]
PLAIN = Scrubber()


def through(scrubber: Scrubber, pieces: list[str]) -> str:
    stream = StreamScrubber(scrubber)
    return "".join([*map(stream.feed, pieces), stream.close()])


@pytest.mark.parametrize("secret", GIVEN)
def test_a_given_secret_is_found_wherever_the_text_is_split(secret: str) -> None:
    scrubber = Scrubber(GIVEN)
    text = f"It is {secret}, they say; {secret}."
    expected = "It is [REDACTED], they say; [REDACTED]."
    for cut in range(len(text) + 1):
        for second in range(cut, min(cut + 12, len(text)) + 1):
            assert through(scrubber, [text[:cut], text[cut:second], text[second:]]) == expected
    assert through(scrubber, list(text)) == expected


@pytest.mark.parametrize(("text", "secret"), [(f"key {s}, ok", s) for s in FORMATS] + IN_CONTEXT)
def test_secrets_are_found_wherever_the_text_is_split(text: str, secret: str) -> None:
    text = f"first line\n{text}\nlast line"
    expected = PLAIN(text)
    assert secret not in expected
    assert through(PLAIN, list(text)) == expected
    for cut in range(len(text) + 1):
        assert through(PLAIN, [text[:cut], text[cut:]]) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096])
@pytest.mark.parametrize("text", [text[:20_000] for text in ORDINARY], ids=lambda text: text[:30])
def test_ordinary_text_comes_out_as_it_went_in(text: str, size: int) -> None:
    assert through(PLAIN, [text[i : i + size] for i in range(0, len(text), size)]) == text


def test_prose_is_shown_word_by_word() -> None:
    stream = StreamScrubber(PLAIN)
    assert [stream.feed(piece) for piece in ("The qu", "ick br", "own fox")] == ["The ", "quick ", "brown "]
    assert stream.close() == "fox"
    assert stream.held == 0


def test_text_without_spaces_is_shown_as_it_comes() -> None:
    stream = StreamScrubber(PLAIN)
    assert stream.feed("今日は") == "今日は"
    assert stream.feed("よい天気") == "よい天気"


def test_no_more_is_held_back_than_a_given_secret_may_need() -> None:
    words = ["alpha ", "beta ", "gamma ", "delta ", "epsilon"]
    secret = "".join(words)
    dice = random.Random(3)
    stream = StreamScrubber(Scrubber([secret]))
    for _ in range(2000):
        stream.feed(dice.choice(words[:4]))
        assert stream.held < len(secret)


def test_a_given_secret_that_overlaps_itself_is_not_held_for_ever() -> None:
    text = "word " * 4_000
    scrubber = Scrubber([" ".join(["word"] * 20)])
    out = through(scrubber, [text[i : i + 5] for i in range(0, len(text), 5)])
    assert (
        "word word word word word word word word word word word word word word word word word word word word"
        not in out
    )


def test_an_endless_word_is_not_held_for_ever() -> None:
    stream = StreamScrubber(PLAIN)
    fed = shown = 0
    for _ in range(200):
        fed += 1000
        shown += len(stream.feed("iVBORw0KGgoAAAANSUhE" * 50))
        assert fed - shown <= 17_000
    assert shown + len(stream.close()) == fed


def test_a_known_secret_without_end_is_swallowed_to_its_end() -> None:
    text = "key sk-ant-api03-" + "a1B2" * 20_000 + " and more"
    assert through(PLAIN, [text[i : i + 100] for i in range(0, len(text), 100)]) == PLAIN(text)


def test_random_mixtures_in_random_pieces_show_no_secret() -> None:
    dice = random.Random(7)
    scrubber = Scrubber(GIVEN)
    for _ in range(60):
        parts = [
            dice.choice([*GIVEN, *FORMATS, *(text for text, _ in IN_CONTEXT), "and so on"]) for _ in range(12)
        ]
        text = "\n".join(parts)
        pieces: list[str] = []
        at = 0
        while at < len(text):
            size = dice.randint(1, 40)
            pieces.append(text[at : at + size])
            at += size
        out = through(scrubber, pieces)
        assert not [secret for secret in (*GIVEN, *FORMATS) if secret in out]


def test_a_stream_can_be_used_again() -> None:
    stream = StreamScrubber(Scrubber(GIVEN))
    for _ in range(2):
        assert stream.feed("hunter2") == ""
        assert stream.close() == "hunter2"
