"""What every test has: a network that ends at this machine, an environment without keys, and no silent gap.

Belongs here: guards for the whole suite. Does not belong here: fixtures of one folder.

The guard is an audit hook, so it sees each connection that is really attempted, by whatever library and
from whatever thread. It patches nothing. Reaching out fails on the spot, and fails the test at its end
even when the code under test swallowed the error.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Generator, Iterator
from typing import Any

import pytest

_AMBIENT = ("_API_KEY", "_AUTH_TOKEN", "_BASE_URL")
for _name in [name for name in os.environ if name.endswith(_AMBIENT)]:
    del os.environ[_name]  # a test that needs one sets it; the developer's own must not change an outcome


class LeftLoopbackError(AssertionError):
    """A test tried to reach beyond this machine."""


_attempts: list[str] = []


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.split("%", 1)[0])
    except ValueError:
        return host in ("", "localhost") or host.endswith(".localhost")
    # Unspecified is what a server binds to and what a client turns into this machine.
    return address.is_loopback or address.is_unspecified


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.split("%", 1)[0])
    except ValueError:
        return False
    return True


def _refuse(attempt: str) -> None:
    _attempts.append(attempt)
    raise LeftLoopbackError(f"a test tried to leave this machine: {attempt}")


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        # Local sockets have a path, not a pair; a datagram on a connected socket has no address.
        address = args[1]
        if isinstance(address, tuple) and not _is_loopback(str(address[0])):
            _refuse(f"{event} {address[0]}:{address[1]}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0]
        name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        if name is None or _is_loopback(str(name)) or _is_address(str(name)):
            return  # turning an address into an address asks nobody
        if str(name).endswith(".invalid"):
            # RFC 6761: a name that never resolves. Tests of failing look-ups get the answer without asking.
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        _refuse(f"look-up of {name}")


sys.addaudithook(_watch)


@pytest.fixture(autouse=True)
def loopback_only() -> Iterator[None]:
    """Fail a test that tried to leave this machine, whatever became of the error it was given."""
    _attempts.clear()
    yield
    attempts = list(_attempts)
    _attempts.clear()
    if attempts:
        raise LeftLoopbackError("this test tried to leave this machine: " + "; ".join(attempts))


# --- gaps ---------------------------------------------------------------------------------------------

_MISSING = "needs service"
"""How the reason of a skip begins when something is not installed that `.ci/run` installs."""


def _refuse_gap(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Where CI is set, turn a skip for a missing service into a failure: there it is to be there."""
    if os.environ.get("CI", "").lower() not in ("true", "1") or not report.skipped:
        return
    if isinstance(report.longrepr, tuple):  # a skip, and no expected failure
        reason = str(report.longrepr[2]).removeprefix("Skipped: ")
        if reason.startswith(_MISSING):
            report.outcome = "failed"
            report.longrepr = f"{reason} (a skip elsewhere, a failure where CI is set)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """See ``_refuse_gap``."""
    report = yield
    _refuse_gap(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """See ``_refuse_gap``."""
    report = yield
    _refuse_gap(report)
    return report


def pytest_itemcollected(item: pytest.Item) -> None:
    """A nightly test names another of its file, short and seeded, that looks for the same every time."""
    mark = item.get_closest_marker("nightly")
    if mark is None or not isinstance(item, pytest.Function):
        return
    twin = mark.kwargs.get("twin")
    if not twin or twin == item.originalname or not hasattr(item.module, twin):
        raise pytest.UsageError(f"{item.nodeid}: nightly(twin=...) names no other test of its file: {twin!r}")
