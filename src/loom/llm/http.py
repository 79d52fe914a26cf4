"""The one HTTP client under all model services: connections, timeouts, bounds, and nothing about models.

One aiohttp session per event loop is shared by every provider on that loop, opened on first use. It is
closed when its last provider lets go, and at the latest when the loop shuts down: ``asyncio.run`` closes
asynchronous generators before it closes the loop, so a generator that is never finished is the hook.

This module imports aiohttp; import it late.
"""

from __future__ import annotations

import asyncio
import atexit
import io
import ssl
import weakref
from collections.abc import AsyncGenerator, Mapping

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from ..errors import LoomError
from .failures import FailureReader

# Above this aiohttp warns about bytes and wants a file-like body, which it sends in pieces.
_PIECEWISE_BYTES = 2**20
_COMPLAINT_BYTES = 64 * 1024
_KEEP_ALIVE_SECONDS = 30.0
_DNS_SECONDS = 300
_KEPT_ADDRESSES = 64

Reply = aiohttp.ClientResponse


class _Held:
    """A loop's session, the generator that closes it, and who is using it."""

    __slots__ = ("guard", "session", "users")

    def __init__(self, session: aiohttp.ClientSession, guard: AsyncGenerator[None, None]) -> None:
        self.session = session
        self.guard = guard
        self.users: weakref.WeakSet[HTTPClient] = weakref.WeakSet()


_held: dict[asyncio.AbstractEventLoop, _Held] = {}


class HTTPClient:
    """Posts JSON bytes and hands back replies whose status is 200.

    ``timeout`` is the longest silence in seconds (None: no limit) and bounds an exchange that is not a
    stream; ``connect_timeout`` is the time to reach the service.
    """

    __slots__ = ("__weakref__", "_connect", "_failures", "_silence", "_stream", "_urls", "_whole")

    def __init__(
        self, failures: FailureReader, *, timeout: float | None, connect_timeout: float | None
    ) -> None:
        self._failures = failures
        self._silence = timeout
        self._connect = connect_timeout
        self._urls: dict[str, URL] = {}
        self._stream = self._bounded(None, sock_read=timeout)
        self._whole = self._bounded(timeout)

    async def post(
        self, url: str, headers: CIMultiDict[str], body: bytes, *, stream: bool, within: float | None = None
    ) -> Reply:
        """Send ``body``; return the open 200 reply. The caller closes it. Raises ProviderError and kin.

        ``within`` bounds the whole exchange, in seconds, reading the reply included.
        """
        timeout = self._stream if stream else self._whole
        if within is not None:
            timeout = self._bounded(within, sock_read=self._silence if stream else None)
        session = await _session(self)
        payload = body if len(body) < _PIECEWISE_BYTES else io.BytesIO(body)
        try:
            reply = await session.post(
                self._address(url), data=payload, headers=headers, timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = self._unreachable(error, "could not be reached")
        else:
            if reply.status == 200:
                return reply
            failure = await self._refused(reply)
        # Raised here, outside the except block: aiohttp's errors carry the request with its headers, and
        # nothing that holds the key may hang on an error of ours.
        raise failure

    async def read(self, reply: Reply, limit: int) -> bytes:
        """The whole body of ``reply``. Raises MalformedReplyError beyond ``limit`` bytes."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.next_bytes(reply):
            size += len(piece)
            if size > limit:
                raise self._failures.malformed(f"sent more than {limit} bytes; the reply was dropped")
            pieces.append(piece)
        return b"".join(pieces)

    async def next_bytes(self, reply: Reply) -> bytes:
        """Whatever came next; ``b""`` at the end. Raises ProviderUnavailableError when it broke off."""
        try:
            return await reply.content.readany()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            failure = self._unreachable(error, "broke off in the middle of its reply")
        raise failure

    async def release(self) -> None:
        """Let go of this loop's session; the last to do so closes it."""
        held = _held.get(asyncio.get_running_loop())
        if held is None:
            return
        held.users.discard(self)
        if not held.users:
            await held.guard.aclose()

    def _bounded(self, total: float | None, sock_read: float | None = None) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            total=total, connect=self._connect, sock_connect=self._connect, sock_read=sock_read
        )

    def _address(self, url: str) -> URL:
        address = self._urls.get(url)
        if address is None:
            if len(self._urls) >= _KEPT_ADDRESSES:
                self._urls.clear()
            address = self._urls[url] = URL(url, encoded=True)
        return address

    async def _refused(self, reply: Reply) -> LoomError:
        headers: Mapping[str, str] = reply.headers
        body = bytearray()
        try:
            while len(body) < _COMPLAINT_BYTES and (piece := await reply.content.readany()):
                body += piece
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass  # the status and what came of the body already say what to do
        finally:
            reply.close()
        return self._failures.from_reply(reply.status, headers, bytes(body))

    def _unreachable(self, error: Exception, what: str) -> LoomError:
        if isinstance(error, aiohttp.ServerTimeoutError | TimeoutError):
            what = "did not answer in time"
        certificate = isinstance(
            error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError
        )
        retryable = not certificate and not isinstance(error, aiohttp.InvalidURL)
        return self._failures.unreachable(what, error, retryable=retryable)


async def _session(user: HTTPClient) -> aiohttp.ClientSession:
    loop = asyncio.get_running_loop()
    held = _held.get(loop)
    if held is None or held.session.closed:
        held = await _open(loop)
    held.users.add(user)
    return held.session


async def _open(loop: asyncio.AbstractEventLoop) -> _Held:
    _bury_dead_loops()
    # No cap on connections: a thousand runs waiting for a model are a thousand connections. No environment
    # proxies, no cookies: where the key goes is what base_url says and nothing else.
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0, ttl_dns_cache=_DNS_SECONDS, keepalive_timeout=_KEEP_ALIVE_SECONDS
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )
    guard = _close_with(loop, session)
    await anext(guard)
    atexit.unregister(_bury_dead_loops)
    atexit.register(_bury_dead_loops)
    held = _held[loop] = _Held(session, guard)
    return held


async def _close_with(
    loop: asyncio.AbstractEventLoop, session: aiohttp.ClientSession
) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        held = _held.get(loop)
        if held is not None and held.session is session:
            del _held[loop]
        await session.close()
        await asyncio.sleep(0)  # lets the transports see that they were closed


def _bury_dead_loops() -> None:
    """Close, as far as one can, sessions whose loop was closed without shutting its generators down."""
    for loop in [loop for loop in _held if loop.is_closed()]:
        session = _held.pop(loop).session
        connector = session.connector
        session.detach()
        if connector is not None:
            # On a closed loop nothing is left to wait for: the first step is the whole way.
            next(iter(connector.close().__await__()), None)
