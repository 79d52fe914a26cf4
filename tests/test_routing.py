"""Judging messages and choosing models by it: a table of sentences, the numbers, hostile text."""

import doctest
import math
from typing import Any

import pytest

import loom.config.models
import loom.policies.routing
import loom.routing
from loom.errors import ConfigError
from loom.llm.registry import ProviderRegistry
from loom.policies.routing import READ_CHARS, best_model
from loom.routing import MessageCategory, ModelStrengths, choose_model, classify_message
from loom.testing.scripted import ScriptedProvider

JAVA_TRACE = "It broke:\n  at com.shop.Cart.total(Cart.java:12)\n  at com.shop.Main.main(Main.java:3)"
PYTHON_TRACE = 'Traceback (most recent call last):\n  File "a.py", line 3, in <module>\nZeroDivisionError'
LETTER = (
    "Dear parents, the class will meet at the station on Friday. Please pack a lunch, and make sure that the package "
    "with the tickets is not lost: last year there was an error, and the function of the badges was not clear. "
    "The program starts at nine, the method of payment is cash, and the branch of the bank is closed. No exceptions "
    "can be made for the bus driver, who asks that nobody imports snacks into the bus. We look forward to it."
)

CODING = [
    "Fix this TypeError in def foo()",
    "fix the bug",
    "Why does foo() hang?",
    "why is src/app.tsx slow?",
    "open main.c",
    "what does git rebase do",
    "npm install fails",
    "docker compose up fails with exit code 1",
    "my code does not compile",
    "this code does not work",
    "Review my code",
    "NullPointerException at startup",
    "I get an error when importing the module",
    "Write a function that reverses a string",
    "Write a rust function",
    "Implement binary search",
    "sort a linked list in Go",
    "SELECT name FROM users",
    "console.log('x')",
    "const x = 3",
    "x = y ?? 3;",
    "for (int i = 0; i < 3; i++)",
    "#include <stdio.h>",
    "panic: runtime error",
    "parseDate error",
    "regex for emails",
    "debug this",
    "unit tests for the parser",
    "Convert this JSON to YAML in Java",
    "Add type hints to utils.py",
    "Why does this raise an exception?",
    "Explain why this TypeError happens in foo()",
    "Explain this:\n```\nmov eax, 1\n```",
    "how does a for loop work?",
    "how to reverse a list in python",
    "my tests are failing after the merge",
    "the build is broken",
    "rename getCwd to getCurrentWorkingDirectory everywhere",
    "cannot read properties of undefined",
    "design a schema for a blog database",
    "bump the version and update the changelog",
    "¿Por qué mi función devuelve undefined?",
    "comment corriger cette erreur dans mon script python ?",
    "这个函数为什么报错",
    JAVA_TRACE,
    PYTHON_TRACE,
    "Schreib mir eine Funktion, die eine Liste sortiert",
    "Erkläre diesen Code: class Foo: pass",
    "Escribe una función en Python",
    "Напиши функцию на Python",
    "Напиши мне функцию сортировки",
    "用Python写一个函数",
    "写一个函数对列表排序",
    "修复foo()里的TypeError异常",
    "Pythonのコードを書いて",
]
REASONING = [
    "Explain quantum entanglement",
    "Analyze the causes of the French Revolution",
    "compare Paris and Rome",
    "pros and cons of renting",
    "What are the trade-offs?",
    "Evaluate this argument",
    "Why should we choose the long-term plan?",
    "Think through the strategy and the risks",
    "Compare the pros and cons of Python and Go for our backend",
    "What would happen if the moon vanished?",
    "Which option should I choose and why?",
    "help me decide between two job offers",
    "is it better to rent or buy?",
    "Erkläre mir, warum der Himmel blau ist",
    "Explique pourquoi le ciel est bleu",
    "¿Cuáles son las ventajas y consecuencias?",
    "объясни почему небо синее",
    "解释一下为什么天空是蓝色的",
    "なぜ空は青いのか説明して",
]
TRIVIAL = [
    "",
    "   \n ",
    "hi",
    "Good morning!",
    "what class is my flight?",
    "Is my flight class Y (economy)?",
    "plan dinner",
    "What's your plan?",
    "why are you late?",
    "Why do cats purr?",
    "should I bring an umbrella?",
    "Would you say I should plan dinner?",
    "Could you suggest a better option?",
    "There is a bug in my soup",
    "find bugs in my garden",
    "fix my bike",
    "fix the rust on my bike",
    "How do I fix the error in my tax return?",
    "is there an error on my bill?",
    "My discount code gives an error",
    "What's the dress code for the class?",
    "import duties on wine?",
    "For goods from China import duty applies",
    "import wine as a gift",
    "What function does the liver have?",
    "the function hall (upstairs)",
    "What do you feed a pet python?",
    "Please select a seat from the map",
    "select one from the list",
    "What package arrived?",
    "Create a class schedule for yoga",
    "My teacher's class list for the school program",
    "compile a list of the best restaurants and libraries",
    "Is there a yoga class in spring?",
    "go build a house",
    "let me (or my wife) know",
    "our public school (K-12)",
    "Meet at home (from 10:30)",
    "Send the file(s) to Bob",
    "Don't panic: it's fine",
    "Thanks; bye",
    "EUROPE: what is new?",
    "see https://example.com/news.html",
    "mail bob@site.py",
    "My iPhone is slow",
    "Title\n=====\nhello",
    "Shall I compare thee;\nthou art more lovely;\n",
    "Where do I send proof of address?",
    "Can you check the server, my food is cold?",
    "Is the bank branch open?",
    "The function of the heart is to pump blood",
    "can you import my contacts?",
    "my exception to the rule",
    "what time does the class start?",
    "write a poem about recursion",
    "design a logo for my bakery",
    "Wie spät ist es?",
    "Wo ist die Klasse?",
    "warum nicht?",
    "Pourquoi pas ?",
    "¿Qué hora es?",
    "你好",
    "今天天气怎么样",
    "为什么不",
]
BALANCED = [
    LETTER,
    "Tell me about the history of the harbour of Rotterdam and about the people who worked there.",
    "Erzähl mir eine Geschichte über einen kleinen Hund, der jeden Morgen allein zum Hafen läuft.",
    # 80 characters of Chinese are a longer text than 80 of English.
    "请帮我写一封信给我的朋友 告诉他我下个月会去他的城市 并且问他有没有时间一起吃晚饭 还想看看他的新家。",
]
TABLE = [
    *((text, MessageCategory.CODING) for text in CODING),
    *((text, MessageCategory.REASONING) for text in REASONING),
    *((text, MessageCategory.TRIVIAL) for text in TRIVIAL),
    *((text, MessageCategory.BALANCED) for text in BALANCED),
]


@pytest.mark.parametrize(("text", "category"), TABLE)
def test_what_a_sentence_asks_for(text: str, category: MessageCategory) -> None:
    assert classify_message(text) is category


@pytest.mark.parametrize("text", [*CODING, *REASONING])
def test_politeness_changes_nothing(text: str) -> None:
    assert classify_message(f"Hello!\n{text}\nThanks.") is classify_message(text)


HOSTILE = [
    *"a (;:-=<`'\n",
    *("a.", "a_", "aB", "x=", "'a", ":;", "``", "\n\t", "a/", "\U0010ffff", "\ud800"),
    *("SELECT ", "<div ", "at a(", "function(", 'File "', "import a.b ", "from  ", "my code ", "compare a "),
    *("schreib a a ", "write a a ", "class A", "def a", "throw a a ", "</div "),
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_only_the_beginning_of_a_text_is_read(piece: str) -> None:
    """A megabyte of what regular expressions fear is judged as its first part, at that price."""
    start = (piece * READ_CHARS)[:READ_CHARS]
    assert classify_message(piece * 1_000_000) is classify_message(start)
    assert classify_message(start + " def foo(): Traceback") is classify_message(start)
    assert classify_message("fix foo() " + piece * 1_000) is MessageCategory.CODING


# --- strengths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["speed", "cost", "reasoning", "coding"])
@pytest.mark.parametrize("wrong", [0, 11, -1, 0.99, math.nan, math.inf, "5", None, True])
def test_strengths_are_numbers_from_1_to_10(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a number from 1 to 10"):
        ModelStrengths(**{name: wrong})
    assert getattr(ModelStrengths(**{name: 10}), name) == 10
    assert ModelStrengths() == ModelStrengths(5, 5, 5, 5)


# --- choosing -----------------------------------------------------------------------------------------

QUESTIONS = {
    "coding": "Fix this TypeError in def foo()",
    "reasoning": "What are the trade-offs?",
    "trivial": "hi",
    "balanced": LETTER,
}


def registry(*names: str) -> ProviderRegistry:
    made = ProviderRegistry()
    for name in names:
        made.register(name, ScriptedProvider(), name)
    return made


def test_nothing_and_one_need_no_choice() -> None:
    assert choose_model("hi", registry()) is None
    assert choose_model("hi", registry(), default_model="d") == "d"
    assert choose_model("hi", registry("only"), {"only": ModelStrengths(speed=1)}, "d") == "only"


@pytest.mark.parametrize("category", ["coding", "reasoning", "trivial", "balanced"])
def test_the_strongest_in_the_category_is_chosen(category: str) -> None:
    strengths = {
        "coding": ModelStrengths(coding=9),
        "reasoning": ModelStrengths(reasoning=9),
        "trivial": ModelStrengths(speed=9),
        "balanced": ModelStrengths(reasoning=8, coding=8),
    }
    names = list(strengths)
    assert choose_model(QUESTIONS[category], registry(*names), strengths) == category
    assert choose_model(QUESTIONS[category], registry(*reversed(names)), strengths) == category


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_a_low_cost_is_cheap_and_wins_among_equals(question: str) -> None:
    strengths = {"dear": ModelStrengths(cost=10), "cheap": ModelStrengths(cost=1), "mid": ModelStrengths()}
    assert choose_model(question, registry("dear", "mid", "cheap"), strengths) == "cheap"
    assert choose_model(question, registry("dear", "mid", "cheap"), strengths, "dear") == "cheap"


def test_a_point_of_strength_outweighs_all_cheapness() -> None:
    """The bonus is a tenth of a point for each step of cost: nine tenths from the dearest to the cheapest."""
    strengths = {"cheap": ModelStrengths(coding=6, cost=1), "dear": ModelStrengths(coding=7, cost=10)}
    assert choose_model(QUESTIONS["coding"], registry("cheap", "dear"), strengths) == "dear"
    strengths = {"cheap": ModelStrengths(coding=6.2, cost=1), "dear": ModelStrengths(coding=7, cost=10)}
    assert choose_model(QUESTIONS["coding"], registry("cheap", "dear"), strengths) == "cheap"


def test_a_tie_goes_to_the_default_then_to_the_first() -> None:
    assert choose_model("hi", registry("a", "b", "c")) == "a"
    assert choose_model("hi", registry("a", "b", "c"), default_model="c") == "c"
    assert choose_model("hi", registry("a", "b", "c"), default_model="not there") == "a"
    preferring = registry("a", "b", "c")
    preferring.default_model = "b"
    assert choose_model("hi", preferring) == "b"
    assert choose_model("hi", preferring, default_model="c") == "c"
    # A tenth of seven and three tenths are no tie in binary fractions; here they are.
    strengths = {"a": ModelStrengths(coding=7, cost=3), "b": ModelStrengths(coding=7.5, cost=8)}
    assert choose_model(QUESTIONS["coding"], registry("b", "a"), strengths) == "b"
    assert choose_model(QUESTIONS["coding"], registry("a", "b"), strengths) == "a"


def test_strengths_of_models_that_are_not_there_are_nothing() -> None:
    strengths = {"gone": ModelStrengths(10, 1, 10, 10), "b": ModelStrengths(speed=6)}
    assert choose_model("hi", registry("a", "b"), strengths) == "b"
    assert best_model("hi", (), strengths) is None


@pytest.mark.parametrize("module", [loom.routing, loom.policies.routing, loom.config.models])
def test_the_examples_in_the_docstrings_run(module: Any) -> None:
    outcome = doctest.testmod(module)
    assert outcome.failed == 0
    assert outcome.attempted > 0
