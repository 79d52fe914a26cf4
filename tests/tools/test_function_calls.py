"""Calling function tools: arguments checked, work done on the right thread, results as promised."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import msgspec
import pytest
from pydantic import BaseModel, Field

from loom.errors import ToolArgumentsError, ToolError, ToolExecutionError
from loom.events import Event
from loom.tools.base import Parked, ToolContext
from loom.tools.function import FunctionTool, as_handler, tool
from loom.tools.threads import ThreadPool, run_in_thread
from loom.types import ImagePart, TextPart, ToolResult


def context(post: Callable[[Event], None] = lambda event: None) -> ToolContext[Any]:
    return ToolContext(
        session_id="s", run_id="r", call_id="c", tool_name="t", idempotency_key="k", deps=7, _post=post
    )


@tool
async def search(query: str, limit: int = 10, exact: bool = False, tags: list[int] | None = None) -> str:
    return f"{query}/{limit}/{exact}/{tags}"


async def wrong(handler: FunctionTool[..., Any], args: Any) -> str:
    with pytest.raises(ToolArgumentsError) as caught:
        await handler.invoke(args)
    return str(caught.value)


async def test_a_valid_call_and_safe_coercion() -> None:
    assert (await search.invoke({"query": "a"})).text == "a/10/False/None"
    assert (await search.invoke({"query": "a", "limit": "3", "tags": [1, "2"]})).text == "a/3/False/[1, 2]"


async def test_the_report_names_everything_at_once() -> None:
    text = await wrong(search, {"qury": "x", "limit": "three", "tags": [True]})
    assert "tags[0]: should not be a boolean; got the boolean true" in text
    assert "query: is required but missing" in text
    assert "qury: there is no such argument; did you mean query?" in text
    assert "limit: should be a valid integer" in text
    assert 'got the string "three"' in text
    assert "Valid names: query (required), limit, exact, tags" in text


@pytest.mark.parametrize("args", [None, [], "x", 3, [("query", "a")]])
async def test_arguments_that_are_no_object(args: Any) -> None:
    assert "should be a JSON object" in await wrong(search, args)


@pytest.mark.parametrize("value", [True, False, 3.5, None, [], {}, "", float("nan"), float("inf")])
async def test_no_surprising_integers(value: Any) -> None:
    assert "limit" in await wrong(search, {"query": "a", "limit": value})


async def test_booleans_only_where_a_boolean_may_be() -> None:
    @tool
    async def f(
        either: int | bool = 0,
        one: Literal[1, 2] = 1,
        union: list[int] | dict[str, int] | None = None,
        free: Any = None,
    ) -> str:
        return repr((either, one, union, free))

    assert (await f.invoke({"either": True, "free": {"a": [True]}})).text == "(True, 1, None, {'a': [True]})"
    for args in ({"one": True}, {"union": {"a": True}}, {"union": [False]}):
        assert "boolean" in await wrong(f, args)


async def test_nan_is_no_number_unless_the_declaration_says_so() -> None:
    @tool
    async def f(x: float, y: Any = None) -> str:
        return repr(x)

    for value in (float("nan"), float("inf"), "nan", "1e999"):
        await wrong(f, {"x": value})


async def test_huge_inputs_make_short_reports() -> None:
    huge = {f"key {n}": "v" * 100 for n in range(2000)}
    for args in (
        {"query": ["x"] * 10**5, "limit": "9" * 10**6, "tags": ["x"] * 10**4},
        huge,
        {"x" * 10**6: 1, "query": huge},
        {"query": 10**5000, "limit": 10**5000},
    ):
        assert len(await wrong(search, args)) < 4000


async def test_text_that_cannot_be_encoded_and_bottomless_nesting() -> None:
    await wrong(search, {"query": "\ud800"})
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    await wrong(search, {"query": "x", "tags": deep})


async def test_user_validators_speak() -> None:
    class Window(BaseModel):
        start: int = Field(ge=0)

        def model_post_init(self, context: Any) -> None:
            if self.start == 13:
                raise ValueError("13 is closed")

    @tool
    async def f(window: Window) -> str:
        return str(window.start)

    assert "window: 13 is closed" in await wrong(f, {"window": {"start": 13}})
    assert "window.start: should be greater than or equal to 0" in await wrong(f, {"window": {"start": -1}})


FRESH_LIST: Any = Field(default_factory=lambda: [1])


async def test_the_functions_own_defaults_are_used() -> None:
    sentinel = object()
    seen: list[Any] = []

    @tool
    async def f(a: Any = sentinel, b: list[int] = FRESH_LIST) -> None:
        seen.append((a, b))

    await f.invoke({})
    assert seen[0][0] is sentinel
    assert seen[0][1] == [1]


async def test_positional_only_parameters() -> None:
    @tool
    async def f(a: int, b: int = 2, /, c: int = 3, *, d: int = 4) -> str:
        return f"{a}{b}{c}{d}"

    assert (await f.invoke({"a": 1})).text == "1234"
    assert (await f.invoke({"a": 1, "d": 9, "b": 5})).text == "1539"


def test_still_the_plain_function() -> None:
    def add(a: int, b: int = 1) -> int:
        """Add."""
        return a + b

    made = tool(add)
    assert made(2) == 3
    assert made.__wrapped__ is add
    assert (made.__name__, made.__doc__, made.__module__) == ("add", "Add.", __name__)
    assert inspect.signature(made) == inspect.signature(add)
    assert asyncio.run(search("q")) == "q/10/False/None"


# --- the context ------------------------------------------------------------------------------------


async def test_context_is_injected_and_cannot_be_sent() -> None:
    @tool
    async def f(q: str, ctx: ToolContext[int]) -> str:
        return f"{q}{ctx.run_id}{ctx.deps}"

    assert (await f.invoke_in_context({"q": "a"}, context())).text == "ar7"
    with pytest.raises(ToolArgumentsError, match="ctx: there is no such argument"):
        await f.invoke_in_context({"q": "a", "ctx": {"run_id": "forged"}}, context())
    with pytest.raises(ToolError, match="invoke_in_context"):
        await f.invoke({"q": "a"})


async def test_context_with_a_default_is_optional() -> None:
    @tool
    async def f(ctx: ToolContext[Any] | None = None) -> str:
        return str(ctx)

    assert (await f.invoke({})).text == "None"


async def test_events_from_a_thread_arrive_on_the_loop() -> None:
    seen: list[int] = []

    @tool
    def f(ctx: ToolContext[Any]) -> str:
        ctx.emit("half")
        return ""

    await f.invoke_in_context({}, context(lambda event: seen.append(threading.get_ident())))
    await asyncio.sleep(0)
    assert seen == [threading.get_ident()]


async def test_a_question_from_a_thread_parks() -> None:
    @tool
    def f(ctx: ToolContext[Any]) -> str:
        return str(ctx.ask("go?"))

    with pytest.raises(Parked):
        await f.invoke_in_context({}, context())


# --- results ----------------------------------------------------------------------------------------


class Shade(Enum):
    DARK = "dark"


@dataclass
class Spot:
    x: int
    name: str


class Cube(msgspec.Struct):
    side: int


class Model(BaseModel):
    when: date


@pytest.mark.parametrize(
    ("value", "text", "data"),
    [
        ("plain", "plain", None),
        (None, "", None),
        (3, "3", 3),
        (True, "true", True),
        (1.5, "1.5", 1.5),
        (float("nan"), "nan", None),
        ({"a": [1, "é"]}, '{"a":[1,"é"]}', {"a": [1, "é"]}),
        ([], "[]", []),
        ((1, 2), "[1,2]", [1, 2]),
        ({1: "x"}, '{"1":"x"}', {"1": "x"}),
        (Spot(1, "n"), '{"x":1,"name":"n"}', {"x": 1, "name": "n"}),
        (Cube(2), '{"side":2}', {"side": 2}),
        (Model(when=date(2024, 1, 2)), '{"when":"2024-01-02"}', {"when": "2024-01-02"}),
        ([Model(when=date(2024, 1, 2))], '[{"when":"2024-01-02"}]', [{"when": "2024-01-02"}]),
        (Shade.DARK, "dark", None),
        (date(2024, 1, 2), "2024-01-02", None),
        (Path("/a"), "/a", None),
        (UUID(int=1), str(UUID(int=1)), None),
        ("bad \udc80", "bad \ufffd", None),
        (["bad \udc80"], '["bad \ufffd"]', ["bad \ufffd"]),
        ({(1, 2): 3}, '{"(1, 2)":3}', {"(1, 2)": 3}),
        (2**80, str(2**80), 2**80),
    ],
)
async def test_returned_values(value: Any, text: str, data: Any) -> None:
    @tool
    async def f() -> Any:
        return value

    result = await f.invoke({})
    assert (result.text, result.data, result.is_error) == (text, data, False)
    assert type(result.data) is type(data)


async def test_returned_results_and_media() -> None:
    image = ImagePart("https://x.example/a.png")
    ready = ToolResult("x", is_error=True)

    async def returned(value: Any) -> ToolResult:
        async def f() -> Any:
            return value

        return await as_handler(f).invoke({})

    assert await returned(ready) is ready
    assert (await returned(image)).content_parts == [image]
    assert (await returned(["see", image])).content_parts == [TextPart("see"), image]
    assert (await returned([TextPart("a"), TextPart("b")])).text == "a\nb"


async def test_values_no_model_can_read() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value, word in ((b"x", "bytes"), ((n for n in "ab"), "generator"), (loop, "contains itself")):

        async def f(value: Any = value) -> Any:
            return value

        with pytest.raises(ToolExecutionError, match=word):
            await FunctionTool(f).invoke({})


# --- failures and threads -----------------------------------------------------------------------------


class Boom(Exception):
    pass


@pytest.mark.parametrize("error", [Boom("x"), ToolError("y"), StopIteration("z"), SystemExit(3)])
@pytest.mark.parametrize("is_async", [True, False])
async def test_exceptions(error: BaseException, is_async: bool) -> None:
    def plain() -> None:
        raise error

    async def awaited() -> None:
        raise error

    expected: type[BaseException] = type(error)
    if isinstance(error, StopIteration):
        expected = RuntimeError
    elif isinstance(error, SystemExit):
        expected = ToolExecutionError
    with pytest.raises(expected):
        await asyncio.wait_for(as_handler(awaited if is_async else plain).invoke({}), 5)


async def test_a_cancellation_of_its_own_making_is_a_failure() -> None:
    @tool
    async def f() -> None:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        await inner

    with pytest.raises(ToolExecutionError, match="cancelled"):
        await f.invoke({})


async def test_cancelling_a_call_cancels_it() -> None:
    entered = asyncio.Event()

    @tool
    async def f() -> None:
        entered.set()
        await asyncio.Event().wait()

    call = asyncio.ensure_future(f.invoke({}))
    await entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_blocking_functions_run_at_the_same_time_off_the_loop_with_context_variables() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("seen")
    together = threading.Barrier(32)

    @tool
    def f() -> str:
        together.wait(10)
        return f"{threading.current_thread().name}/{variable.get()}"

    results = await asyncio.gather(*(f.invoke({}) for _ in range(32)))
    assert all(result.text.startswith("loom-tool-") and result.text.endswith("/seen") for result in results)


async def test_cancelling_a_blocking_call_returns_at_once_and_makes_room() -> None:
    pool, release = ThreadPool(1), threading.Event()
    started = threading.Event()

    def stuck() -> None:
        started.set()
        release.wait(20)

    call = asyncio.ensure_future(run_in_thread(stuck, pool))
    await run_in_thread(functools.partial(started.wait, 5))
    queued = asyncio.ensure_future(run_in_thread(lambda: "ran", pool))
    call.cancel()
    begun = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.wait_for(queued, 5) == "ran"
    assert time.monotonic() - begun < 5
    release.set()


async def test_a_queued_call_that_is_cancelled_never_runs() -> None:
    pool, release, ran = ThreadPool(1), threading.Event(), list[int]()
    first = asyncio.ensure_future(run_in_thread(functools.partial(release.wait, 20), pool))
    second = asyncio.ensure_future(run_in_thread(lambda: ran.append(1), pool))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    release.set()
    await first
    await run_in_thread(lambda: None, pool)
    assert ran == []


def test_a_function_that_never_returns_does_not_keep_the_interpreter() -> None:
    code = (
        "import asyncio, threading\n"
        "from loom.tools.function import tool\n"
        "@tool\n"
        "def f() -> None: threading.Event().wait()\n"
        "async def main():\n"
        "    try: await asyncio.wait_for(f.invoke({}), 0.05)\n"
        "    except TimeoutError: print('left')\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15)
    assert (done.stdout, done.returncode) == ("left\n", 0), done.stderr


async def test_a_wrapper_around_an_async_function() -> None:
    async def inner(a: int) -> int:
        return a + 1

    @functools.wraps(inner)
    def outer(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    assert (await as_handler(outer).invoke({"a": 1})).data == 2
    assert (await as_handler(functools.partial(inner, a=4)).invoke({})).data == 5


async def test_overhead_of_a_simple_call() -> None:
    await search.invoke({"query": "a"})
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for _ in range(500):
            await search.invoke({"query": "a"})
        best = min(best, (time.process_time() - begun) / 500)
    assert best < 60e-6  # 15 us on a quiet machine; the rest is room for a loaded one
