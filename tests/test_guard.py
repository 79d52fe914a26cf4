"""The suite's own network guard, tried: a guard nobody has seen refuse is not one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_CONFTEST = Path(__file__).with_name("conftest.py")


def test_a_listener_on_this_machine_can_be_reached() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(("localhost", server.getsockname()[1]), timeout=5) as client,
    ):
        assert client.getpeername()[0] == "127.0.0.1"


async def test_a_name_that_never_resolves_fails_as_it_does_anywhere() -> None:
    with pytest.raises(socket.gaierror):
        await asyncio.get_running_loop().getaddrinfo("nowhere.invalid", 443)


_ATTEMPTS = (
    "socket.create_connection(('192.0.2.1', 9), timeout=0.2)",
    "socket.create_connection(('example.com', 80), timeout=0.2)",
    "socket.create_connection(('2001:db8::1', 9), timeout=0.2)",
    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))",
    "asyncio.run(asyncio.open_connection('192.0.2.1', 9))",
    "asyncio.run(asyncio.open_connection('example.com', 80))",
)


def test_reaching_out_fails_even_when_the_error_is_swallowed(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(_CONFTEST.read_text(encoding="utf-8"))
    pytester.makepyfile(
        f"""
        import asyncio, socket
        import pytest

        @pytest.mark.parametrize("attempt", {_ATTEMPTS!r})
        def test_reaches_out(attempt):
            try:
                eval(attempt)
            except BaseException:
                pass
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=len(_ATTEMPTS), errors=len(_ATTEMPTS))
    result.stdout.fnmatch_lines(["*this test tried to leave this machine:*"])
