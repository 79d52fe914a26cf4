"""Secrets in text: what has a known format or stands in a known place goes, what is ordinary stays."""

import base64
import html
import io
import json
import logging
import random
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from secret_samples import FORMATS, IN_CONTEXT, ORDINARY

from loom.llm.redact import RedactingFilter, Scrubber, redact_sensitive_text

AROUND = [
    "{}",
    "before {}, after",
    "key `{}`.",
    '"{}"',
    "({})",
    "line\\n{}\\nline",
    "a=1&k%3D{}",
    "\n{}\n",
]


def test_the_collections_are_large_enough_to_say_something() -> None:
    assert len(set(FORMATS)) + len(IN_CONTEXT) >= 190
    assert len(FORMATS) >= 100
    assert len(ORDINARY) >= 40


@pytest.mark.parametrize("around", AROUND)
def test_published_formats_are_found(around: str) -> None:
    missed = [secret for secret in FORMATS if secret in redact_sensitive_text(around.format(secret))]
    assert missed == []


@pytest.mark.parametrize("secret", FORMATS)
def test_nothing_of_a_format_is_left_over(secret: str) -> None:
    text = redact_sensitive_text(f"before {secret}, after")
    assert re.fullmatch(r"before \[REDACTED_\w+\], after", text)
    assert redact_sensitive_text(text) == text


@pytest.mark.parametrize(("text", "secret"), IN_CONTEXT)
def test_secrets_are_known_by_what_stands_around_them(text: str, secret: str) -> None:
    redacted = redact_sensitive_text(f"first line\n{text}\nlast line")
    assert secret not in redacted
    assert redacted.startswith("first line\n")
    assert redacted.endswith("last line")
    assert redact_sensitive_text(redacted) == redacted


@pytest.mark.parametrize("text", ORDINARY, ids=lambda text: text[:40])
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact_sensitive_text(text) is text


HOSTILE = [
    "eyJ", "-eyJ", "eyJaaaaaaaa.", "sk-", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMII",
    '"password": ', "'token': \"", "token: a ", "token=", "://a:", "redis://:", "http://a:b@", "bearer ",
    "authorization: ", "A_KEY=", "cookie: a=", "<token>", "SG.", '\\"token\\": \\"a', "heroku ",
    "M" + "a" * 25 + ".",
]  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_of_a_mebibyte_is_done_in_time(unit: str) -> None:
    """A search that is not linear needs hours for this; the suite's own limit is the judge."""
    redact_sensitive_text(unit * (2**20 // len(unit)))


def test_several_kinds_in_one_text_do_not_hide_one_another() -> None:
    # All but the key whose end is cut off: what follows such a one may still belong to it.
    placed = [text for text, _ in IN_CONTEXT if "-----BEGIN" not in text or "-----END" in text]
    parts = [*FORMATS, *placed, *ORDINARY, *FORMATS[::-1]]
    together = redact_sensitive_text("\n.\n".join(parts)).split("\n.\n")
    assert together == [redact_sensitive_text(part) for part in parts]


def test_secrets_that_touch_are_both_found() -> None:
    redacted = redact_sensitive_text(FORMATS[-1] + FORMATS[0] + "!" + FORMATS[27] + FORMATS[28])
    assert [secret for secret in FORMATS if secret in redacted] == []


def test_what_is_redacted_once_is_redacted_for_good() -> None:
    dice = random.Random(5)
    parts = [*FORMATS, *(text for text, _ in IN_CONTEXT), *(text[:500] for text in ORDINARY)]
    parts += ["token", "password", ":", "=", '"', "'", "{", "a@b", "://", "-----"]
    for _ in range(300):
        text = "".join(dice.choice(parts) + dice.choice([" ", "\n", "; ", ""]) for _ in range(10))
        once = redact_sensitive_text(text)
        assert redact_sensitive_text(once) == once


# --- secrets that were given ----------------------------------------------------------------------------

GIVEN = 'p@ss/w"örd+1 <&>'


def forms(secret: str) -> dict[str, str]:
    octets = secret.encode()
    return {
        "plain": secret,
        "url": quote(secret, safe=""),
        "form": quote_plus(secret),
        "url in lower case": re.sub("%..", lambda match: match.group().lower(), quote(secret, safe="")),
        "json": json.dumps(secret)[1:-1],
        "json as utf-8": json.dumps(secret, ensure_ascii=False)[1:-1],
        "html": html.escape(secret),
        "hex": octets.hex(),
        "hex in upper case": octets.hex().upper(),
        "base64": base64.b64encode(octets).decode().rstrip("="),
        "base64url": base64.urlsafe_b64encode(octets).decode().rstrip("="),
        "backwards": secret[::-1],
    }


@pytest.mark.parametrize("name", forms(GIVEN))
def test_a_given_secret_goes_in_every_form(name: str) -> None:
    assert Scrubber([GIVEN])(f"<{forms(GIVEN)[name]}>") == "<[REDACTED]>"


@pytest.mark.parametrize("before", range(7))
@pytest.mark.parametrize("after", range(4))
def test_a_given_secret_goes_from_inside_of_base64(before: int, after: int) -> None:
    secret = b"correct horse battery"
    text = base64.b64encode(b"u" * before + secret + b"\xff" * after).decode()
    scrubbed = Scrubber([secret.decode()])(text)
    assert "[REDACTED]" in scrubbed
    # What is left decodes to nothing of the secret but a few bits at its ends.
    kept = scrubbed.replace("[REDACTED]", "")
    assert len(kept) <= len(text) - len(secret) * 4 // 3 + 4


def test_given_secrets_that_overlap_leave_nothing() -> None:
    scrub = Scrubber(["abcd1234", "1234wxyz", "abcd"])
    assert scrub("<abcd1234wxyz> abcd") == "<[REDACTED]> [REDACTED]"


def test_a_given_secret_of_a_known_format_is_only_a_given_one() -> None:
    secret = FORMATS[0]
    assert Scrubber([secret])(f"key={secret}, other={FORMATS[1]}") == (
        "key=[REDACTED], other=[REDACTED_anthropic_key]"
    )


def test_what_is_too_short_to_be_a_secret_stays() -> None:
    text = "abc and an abacus"
    assert Scrubber(["abc", ""])(text) is text


def test_pieces_of_a_text_keep_their_number_and_their_cuts() -> None:
    scrub = Scrubber(["hunter2hunter2"])
    text = "say hunter2hunter2 and sk-ant-api03-abcdefghij twice"
    whole = scrub(text)
    for size in range(1, len(text) + 1):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        cleaned = scrub.pieces(pieces)
        assert len(cleaned) == len(pieces)
        assert "".join(cleaned) == whole
        harmless = [
            i for i, piece in enumerate(pieces) if (i + 1) * size <= 4 or i * size >= text.index(" twice")
        ]
        assert [cleaned[i] for i in harmless] == [pieces[i] for i in harmless]


def test_values_are_scrubbed_in_depth_and_otherwise_the_same_object() -> None:
    scrub = Scrubber(["hunter2hunter2"])
    value = {"a": ["x hunter2hunter2", 1, None], "password": "open sesame", "hunter2hunter2": {"deep": True}}
    assert scrub.value(value) == {
        "a": ["x [REDACTED]", 1, None],
        "password": "[REDACTED_field]",
        "[REDACTED]": {"deep": True},
    }
    harmless = {"a": ["x", 1], "password": None, "token_count": "12345678", "key": "12345678"}
    assert scrub.value(harmless) is harmless


@pytest.mark.parametrize(
    ("text", "scrubbed"),
    [
        (r'{"a":"\u0068unter2hunter2"}', '{"a":"[REDACTED]"}'),
        ('{"api_key": "it\'s \\"quoted\\"", "b": 1}', '{"api_key":"[REDACTED_field]","b":1}'),
        ('{"a": 1.0, "b": "fine"}', '{"a": 1.0, "b": "fine"}'),
        ('{"a": "hunter2hunter2', '{"a": "[REDACTED]'),
        ("[" * 5000 + '"hunter2hunter2"', "[" * 5000 + '"[REDACTED]"'),
    ],
)
def test_json_is_scrubbed_however_it_is_escaped(text: str, scrubbed: str) -> None:
    assert Scrubber(["hunter2hunter2"]).json(text) == scrubbed


@pytest.mark.parametrize("text", [text for text, _ in IN_CONTEXT] + FORMATS)
def test_redacted_json_is_json_still(text: str) -> None:
    document = json.dumps({"output": f"one\n{text}\ntwo", "more": [text]})
    json.loads(redact_sensitive_text(document))


# --- logs -----------------------------------------------------------------------------------------------


def logged(log: Callable[[logging.Logger], None], secrets: tuple[str, ...] = ()) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        logging.Formatter("%(levelname)s %(message)s %(extra_field)s", defaults={"extra_field": ""})
    )
    handler.addFilter(RedactingFilter(Scrubber(secrets)))
    logger = logging.Logger("outside of the tree, where nobody else listens")
    logger.addHandler(handler)
    log(logger)
    return stream.getvalue()


def test_a_log_record_is_scrubbed_with_its_arguments() -> None:
    text = logged(
        lambda log: log.warning("asked %s with %d and %r", "hunter2hunter2", 7, FORMATS[0]),
        ("hunter2hunter2",),
    )
    assert text == "WARNING asked [REDACTED] with 7 and '[REDACTED_anthropic_key]' \n"


def test_a_log_record_is_scrubbed_with_its_exception_stack_and_fields() -> None:
    def log(logger: logging.Logger) -> None:
        try:
            raise ValueError(f"refused {FORMATS[0]}") from KeyError("hunter2hunter2")
        except ValueError:
            logger.exception("it failed", extra={"extra_field": {"password": "open sesame"}}, stack_info=True)

    text = logged(log, ("hunter2hunter2",))
    assert "ValueError: refused [REDACTED_anthropic_key]" in text
    assert "KeyError: '[REDACTED]'" in text
    assert "{'password': '[REDACTED_field]'}" in text
    assert text.count("Traceback") == 1
    assert "Stack (most recent call last)" in text
    assert "hunter2" not in text
    assert "sesame" not in text


def test_a_record_whose_arguments_do_not_fit_shows_no_secret_either() -> None:
    text = logged(lambda log: log.warning("one %d", "hunter2hunter2"), ("hunter2hunter2",))
    assert text.startswith("WARNING one %d")
    assert "hunter2" not in text
