"""Path rules: what may be a path at all, what plainly leads out of a root, how names are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loom.errors import ToolArgumentsError, ToolPermissionError
from loom.safety.paths import follow_link, parse_path, visible

ROOTS = ("/home/u/repo", "/mnt/real/repo")


@pytest.mark.parametrize(
    ("text", "parts", "directory"),
    [
        (".", (), True),
        ("./", (), True),
        ("a", ("a",), False),
        ("a/", ("a",), True),
        ("a//b/./c", ("a", "b", "c"), False),
        ("./a/.", ("a",), True),
        ("a/..", ("a", ".."), True),
        ("..", ("..",), True),
        ("../x", ("..", "x"), False),
        ("...", ("...",), False),
        ("~", ("~",), False),
        ("~/.ssh/id_rsa", ("~", ".ssh", "id_rsa"), False),
        ("$HOME/x", ("$HOME", "x"), False),
        ("file:///etc/passwd", ("file:", "etc", "passwd"), False),
        ("..\\..\\etc", ("..\\..\\etc",), False),
        ("%2e%2e/x", ("%2e%2e", "x"), False),
        ("\uff0e\uff0e/x", ("\uff0e\uff0e", "x"), False),
        ("\u2215etc\u2215passwd", ("\u2215etc\u2215passwd",), False),
        (" a ", (" a ",), False),
        ("größe/日本.txt", ("größe", "日本.txt"), False),
        ("/home/u/repo", (), False),
        ("/home/u/repo/", (), True),
        ("/home/u/repo/a/b", ("a", "b"), False),
        ("//home//u/./repo//a", ("a",), False),
        ("/mnt/real/repo/a", ("a",), False),
        ("/home/u/repo/../x", ("..", "x"), False),
    ],
)
def test_path_is_read_as_names(text: str, parts: tuple[str, ...], directory: bool) -> None:
    request = parse_path(text, ROOTS)
    assert (request.parts, request.directory_only) == (parts, directory)


@pytest.mark.parametrize(
    "text",
    [
        "/",
        "/etc/passwd",
        "/home/u/repository/x",
        "/home/u/rep",
        "/home/u",
        "/home/u/../u/repo/x",
        "/proc/self/root/home/u/repo",
        "/HOME/u/repo/x",
        "//etc/passwd",
    ],
)
def test_absolute_path_elsewhere_is_refused(text: str) -> None:
    with pytest.raises(ToolPermissionError, match="outside the root"):
        parse_path(text, ROOTS)


@pytest.mark.parametrize(
    "text", ["", "a\0b", "\0", "a" * 256, "é" * 128, "a/" * 2049, "\ud800", "a/\udcff/b", "/home/u/repo/a\0"]
)
def test_text_that_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ToolArgumentsError):
        parse_path(text, ROOTS)


@pytest.mark.parametrize(
    ("target", "from_root", "names"),
    [
        ("x", False, ("x",)),
        ("../x/", False, ("..", "x")),
        ("/home/u/repo/x", True, ("x",)),
        ("/mnt/real/repo", True, ()),
    ],
)
def test_link_target(target: str, from_root: bool, names: tuple[str, ...]) -> None:
    assert follow_link(target, ROOTS, "link") == (from_root, names)


@pytest.mark.parametrize("target", ["/", "/etc", "/home/u/repo2", "/home/u"])
def test_link_target_elsewhere_is_refused(target: str) -> None:
    with pytest.raises(ToolPermissionError, match="through a link"):
        follow_link(target, ROOTS, "link")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain.txt", "plain.txt"),
        ("größe 日本 ️👩‍🔬", "größe 日本 ️👩‍🔬"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("txt\u202eexe.", "txt\\u202eexe."),
        ("a\u2028b", "a\\u2028b"),
        ("\udcff\udc80", "\\xff\\x80"),
        ("\ud800", "\\ud800"),
    ],
)
def test_names_are_shown_on_one_line(name: str, shown: str) -> None:
    assert visible(name) == shown


@given(st.text(max_size=400))
def test_shown_text_is_one_clean_line(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    assert shown.encode() is not None  # raises for what cannot be printed
    assert len(shown) <= 300 * 10


@given(st.text(alphabet="/.ab~\\ \0é", max_size=40))
def test_no_name_holds_a_separator(text: str) -> None:
    try:
        request = parse_path(text, ROOTS)
    except (ToolArgumentsError, ToolPermissionError):
        return
    assert all(name and "/" not in name and "\0" not in name and name != "." for name in request.parts)
