"""The one HTTP client under all model services: connections, timeouts, bounds, and nothing about models.

One aiohttp session per event loop is shared by every provider on that loop, opened on first use; its connections
are pooled by service, proxy and certificates. It is closed when its last provider lets go, and at the latest when
the loop shuts down: ``asyncio.run`` closes asynchronous generators before it closes the loop, so a generator that
is never finished is the hook.

A loop on which the last provider has let go before, and another came, is one where agents come and go, as in a web
service that builds one a request. Its session stays for a moment longer each time, for the next one to find.

This module imports aiohttp; import it late.
"""

from __future__ import annotations

import asyncio
import atexit
import io
import ssl
import weakref
from collections.abc import AsyncGenerator, Mapping
from functools import lru_cache

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from ..errors import ConfigError, LoomError
from ..safety.network import Network
from .failures import FailureReader
from .redact import Hidden

# Above this aiohttp warns about bytes and wants a file-like body, which it sends in pieces.
_PIECEWISE_BYTES = 2**20
_COMPLAINT_BYTES = 64 * 1024
_KEEP_ALIVE_SECONDS = 30.0
_DNS_SECONDS = 300
_KEPT_ADDRESSES = 64
LINGER_SECONDS = 2.0
"""How long the session of a busy loop waits for its next user. Services keep idle connections for longer."""

Reply = aiohttp.ClientResponse


class _Held:
    """A loop's session, the generator that closes it, who is using it, and what closes it when nobody does."""

    __slots__ = ("expiry", "farewell", "guard", "idle_since", "session", "users")

    def __init__(self, session: aiohttp.ClientSession, guard: AsyncGenerator[None, None]) -> None:
        self.session = session
        self.guard = guard
        self.users: weakref.WeakSet[HTTPClient] = weakref.WeakSet()
        self.idle_since = 0.0
        self.expiry: asyncio.TimerHandle | None = None
        self.farewell: asyncio.Task[None] | None = None


_held: dict[asyncio.AbstractEventLoop, _Held] = {}
# Loops whose session was closed by its last user once; there it lingers from then on.
_busy: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


class HTTPClient:
    """Posts JSON bytes and hands back replies whose status is 200.

    ``timeout`` is the longest silence in seconds (None: no limit) and bounds an exchange that is not a
    stream; ``connect_timeout`` is the time to reach the service. ``network`` is the way there.
    """

    __slots__ = (
        "__weakref__", "_connect", "_failures", "_login", "_proxy", "_silence", "_stream", "_tls", "_urls", "_whole",
    )  # fmt: skip

    def __init__(
        self,
        failures: FailureReader,
        *,
        timeout: float | None,
        connect_timeout: float | None,
        network: Network | None = None,
    ) -> None:
        self._failures = failures
        self._silence = timeout
        self._connect = connect_timeout
        self._urls: dict[str, URL] = {}
        proxy = network.proxy if network else None
        self._proxy = URL(proxy.url) if proxy else None
        # aiohttp takes this name for the proxy's login, and sends it as Proxy-Authorization.
        self._login = Hidden({"Authorization": proxy.login}) if proxy and proxy.login else None
        self._tls = tls_context(network.ca_bundle) if network and network.ca_bundle else True
        self._stream = _usual_timeout(None, connect_timeout, timeout)
        self._whole = _usual_timeout(timeout, connect_timeout, None)

    async def post(
        self, url: str, headers: CIMultiDict[str], body: bytes, *, stream: bool, within: float | None = None
    ) -> Reply:
        """Send ``body``; return the open 200 reply. The caller closes it. Raises ProviderError and kin.

        ``within`` bounds the whole exchange, in seconds, reading the reply included.
        """
        timeout = self._stream if stream else self._whole
        if within is not None:
            timeout = _timeout(within, self._connect, self._silence if stream else None)
        session = await _session(self)
        payload = body if len(body) < _PIECEWISE_BYTES else io.BytesIO(body)
        try:
            reply = await session.post(
                self._address(url),
                data=payload,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                proxy=self._proxy,
                proxy_headers=self._login.reveal() if self._login else None,
                ssl=self._tls,
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
        """Let go of this loop's session; the last to do so closes it, on a busy loop a moment later."""
        loop = asyncio.get_running_loop()
        held = _held.get(loop)
        if held is None:
            return
        held.users.discard(self)
        if held.users:
            return
        if loop in _busy:
            held.idle_since = loop.time()
            held.expiry = held.expiry or loop.call_later(LINGER_SECONDS, _expire, loop, held)
        else:
            _busy.add(loop)
            await held.guard.aclose()

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
        # A proxy that says no, such as 407 for who it does not know, will say so again.
        barred = isinstance(error, aiohttp.ClientHttpProxyError) and error.status < 500
        retryable = not (certificate or barred or isinstance(error, aiohttp.InvalidURL))
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


def _expire(loop: asyncio.AbstractEventLoop, held: _Held) -> None:
    """When nobody came for long enough, close the session; whoever comes now opens another."""
    held.expiry = None
    if held.users or _held.get(loop) is not held:
        return
    left = held.idle_since + LINGER_SECONDS - loop.time()
    if left > 0:  # somebody came and went meanwhile
        held.expiry = loop.call_later(left, _expire, loop, held)
    else:
        del _held[loop]
        held.farewell = loop.create_task(held.guard.aclose())


def _timeout(total: float | None, connect: float | None, sock_read: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=total, connect=connect, sock_connect=connect, sock_read=sock_read)


# Made once for all that wait alike: agents come by the thousand, patience in a few kinds.
_usual_timeout = lru_cache(maxsize=64)(_timeout)


@lru_cache(maxsize=16)
def tls_context(ca_bundle: str) -> ssl.SSLContext:
    """What trusts ``ca_bundle`` and nobody else; one a file, for connections are pooled by it.

    Raises ConfigError unless the file holds certificates in PEM.
    """
    try:
        return ssl.create_default_context(cafile=ca_bundle)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise ConfigError(f"ca_bundle {ca_bundle!r} cannot be read as certificates in PEM: {why}") from None


def _bury_dead_loops() -> None:
    """Close, as far as one can, sessions whose loop was closed without shutting its generators down."""
    for loop in [loop for loop in list(_held) if loop.is_closed()]:
        session = _held.pop(loop).session
        connector = session.connector
        session.detach()
        if connector is not None:
            # On a closed loop nothing is left to wait for: the first step is the whole way.
            next(iter(connector.close().__await__()), None)
