"""JSON in a code fence, in arguments and in answers alike."""

from __future__ import annotations

import pytest

from loom.assembly.output import OutputSpec
from loom.errors import OutputInvalid
from loom.safety.lenient import loose_json, split_fences

MANY = 60_000
"""Enough that work which grew with its square would run into the time a test has."""


@pytest.mark.parametrize(
    ("text", "fences", "beside"),
    [
        ("no fence", [], "no fence"),
        ("```json\n{}\n```", [("json", "{}\n")], ""),
        ("```\r\n{}\r\n```\r", [("", "{}\r\n")], ""),
        ("  ``` json \n[1,\n2]```  ", [("json", "[1,\n2]")], ""),
        ("Here:\n```json\n{}\n```\nand\n```\n[]\n```", [("json", "{}\n"), ("", "[]\n")], "Here:\nand"),
        ("```json\n{}", [], "```json\n{}"),
        ("``` not a language\n{}\n", [], "``` not a language\n{}\n"),
    ],
)
def test_fences_are_told_from_the_text_beside_them(
    text: str, fences: list[tuple[str, str]], beside: str
) -> None:
    assert split_fences(text) == (fences, beside)


@pytest.mark.parametrize("text", ["```json\n[1]\n```", "\n```\n[1]```\n", "[1]"])
def test_arguments_and_answers_are_read_out_of_the_same_fences(text: str) -> None:
    assert loose_json(text) == [1]
    assert OutputSpec.of(list[int]).parse(text) == [1]


def test_arguments_are_nothing_but_their_fence_and_answers_may_have_words_beside_it() -> None:
    text = "Sure:\n```json\n[1]\n```\nDone."
    assert OutputSpec.of(list[int]).parse(text) == [1]
    with pytest.raises(ValueError, match="no object"):
        loose_json(text)


@pytest.mark.parametrize("filler", [" ", "\n", "\n```", "``` ", "``` !", "\t`"])
def test_a_fence_without_an_end_takes_no_longer_than_its_text(filler: str) -> None:
    text = "```\n" + filler * (MANY // len(filler)) + "x"
    with pytest.raises(ValueError, match=r"no JSON|no object"):
        loose_json(text)
    with pytest.raises(OutputInvalid):
        OutputSpec.of(list[int]).parse("Here: " + text)
