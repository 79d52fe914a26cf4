"""HTML to text: what is kept, and that no page makes it slow or raise."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loom.tools.webpage.html_text import html_to_text

BASE = "https://example.org/dir/page"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("a <b>b</b>c", "a bc"),
        ("<p>one<p>two", "one\n\ntwo"),
        ("one<br>two<br/>three", "one\n\ntwo\n\nthree"),
        ("<h2>Two</h2>text", "## Two\n\ntext"),
        ("<ul><li>a</li><li><p>b</p></li></ul>", "- a\n\n- b"),
        ("<table><tr><td>a<td>b</table>", "a\n\nb"),
        ("  much \n\t space  ", "much space"),
        ("a &lt;b&gt; &amp; &eacute;&#233;&#xe9;", "a <b> & ééé"),
        ("x < y and y > z, a<1", "x < y and y > z, a<1"),
        ("<SCRIPT>if (a</b) x()</SCRIPT>after", "after"),
        ("<script>never closed <p>text", ""),
        ("<style>p</style><!-- c > --><![CDATA[x]]><?php a ?><!DOCTYPE html>kept", "kept"),
        ("<textarea><b>raw</b></textarea>", "<b>raw</b>"),
        ("<nav>a<nav>b</nav>c</nav>d", "d"),
        ("<svg><a href=x>no</a><title>no</title></svg>yes<svg/>too", "yestoo"),
        ("<noscript>n</noscript><template>t</template><button>b</button>k", "k"),
        ("<form><p>kept</form>", "kept"),
        ("<head><title>T</title><p>headless", "headless"),
        ("<a href='x y'>t</a>", "[t](https://example.org/dir/x%20y)"),
        ("<a href=/x>t</a>", "[t](https://example.org/x)"),
        ("<a href='//other.org/(x)'>t</a>", "[t](https://other.org/(x%29)"),
        ("<a href='#frag'>t</a>", "[t](https://example.org/dir/page#frag)"),
        ("<a title='a>b' href=\"/x\">t</a>", "[t](https://example.org/x)"),
        ("<a href='javascript:x()'>t</a><a href='data:x'>u</a><a>v</a><a href=http://[>w</a>", "tuvw"),
        ("<a href=/x><img></a>", ""),
        ("<a href=/x>a<a href=/y>b</a>", "[a](https://example.org/x)[b](https://example.org/y)"),
        ("<p>a<a href=/x>b</p>c", "a[b](https://example.org/x)\n\nc"),
        ('<p class="a"b\'c">text', "text"),
        ('<a href="never closed>text</a> more', ""),
        ("text<b", "text"),
        ("text</", "text"),
        ("text</b", "text"),
        ("text<!-- open", "text"),
        ("text<é>", "text<é>"),
        ("</p></p></nav></a>t", "t"),
        ("<pre>a\n  b</pre>c\n d", "a\n  b\n\nc d"),
    ],
)
def test_page(page: str, text: str) -> None:
    assert html_to_text(page, BASE)[1] == text


def test_title_is_one_line() -> None:
    page = "<title>\n A &amp;\n B </title><title>second</title>"
    assert html_to_text(page, BASE)[0] == "A & B"


PIECES = [
    "<",
    ">",
    "<a",
    "<a href='",
    '="',
    "<!--",
    "-->",
    "</",
    "<script>",
    "</script",
    "<title>",
    "&#",
    "&amp",
    "<svg>",
    "<nav>",
    "</nav>",
    "</svg>",
    "<p>",
    "<pre>",
    "</pre>",
    "<li>",
    " ",
    "=",
    "'",
    '"',
    "x",
    "<!",
    "<?",
    "<![CDATA[",
    "/",
    "<a href=http://[::1]/>",
    "</a>",
    "&#x110000;",
    "&#9999999999;",
]


@pytest.mark.parametrize(
    "piece", [*PIECES, "<a x='", "<a =", "<a x=\"'", "</a x='", "<a b", "&#" + "9" * 20, "<title", "<p =\t"]
)
def test_a_page_full_of_anything_takes_a_moment(piece: str) -> None:
    """Doubling the page must about double the time; quadratic work would take minutes at this size."""
    page = piece * (300_000 // len(piece))
    began = time.process_time()
    html_to_text(page, BASE)
    assert time.process_time() - began < 4


@pytest.mark.parametrize(
    "pair", [("<nav>", "</svg>"), ("<svg>", "</svg>"), ("<a href=/x>", "</a>"), ("<pre>", "</p>")]
)
def test_deep_nesting_takes_a_moment(pair: tuple[str, str]) -> None:
    began = time.process_time()
    html_to_text(pair[0] * 50_000 + pair[1] * 50_000, BASE)
    assert time.process_time() - began < 5


def test_absurd_number_of_a_character_reference() -> None:
    assert html_to_text("<p>&#" + "9" * 5000 + ";", BASE)[1]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join) | st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_no_page_raises(page: str) -> None:
    title, text = html_to_text(page, BASE)
    assert "\n" not in title
    assert "javascript:" not in text


def test_order_of_text_survives() -> None:
    chance = random.Random(5)
    words = [f"w{number}" for number in range(2000)]
    tags = [
        "<p>",
        "</p>",
        "<b>",
        "</b>",
        "<div>",
        "</div>",
        "<li>",
        "<br>",
        "<h1>",
        "</h1>",
        "<a href=/x>",
        "</a>",
    ]
    page = "".join(f"{word} {chance.choice(tags)}" for word in words)
    text = html_to_text(page, BASE)[1]
    positions = [text.index(f"{word}") for word in words[1000:]]
    assert positions == sorted(positions)
