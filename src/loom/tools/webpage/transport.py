"""Fetching a page: the one place where the web tool connects. Imported on first use, because it imports
aiohttp.

The address is judged where the connection is made. A name is resolved once for a hop, every address of the
answer must be public, and the socket factory, the last code before ``connect``, lets through exactly those.
Proxy variables, cookies, netrc files and kept connections play no part; redirects are followed here, one
judged hop at a time.

A proxy that the application declared connects in our place, where no socket of ours can be judged, and would resolve
names by itself. So it is told to open a tunnel to an address that was judged here, and the certificate is held
against the name. Plain http has no tunnel and is not fetched over a proxy. Hosts that the application vouches for are
not judged, and go to the proxy by name.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ...errors import ToolError, ToolExecutionError, ToolPermissionError, ToolTimeoutError
from ...safety.network import Network, Proxy
from ...safety.urls import ParsedUrl, UrlPolicy, check_redirect, check_url, is_public_address
from ...types import describe_error
from .body import ACCEPTED_ENCODINGS, Inflater, is_text_type, split_type

Lookup = Callable[[str, int], Awaitable[Sequence[str]]]

_DIRECT = Network()
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_ADDRESSES = 32
_HEADERS = {
    "User-Agent": "loom-agent (+web-fetch)",
    "Accept": "text/html, application/xhtml+xml, application/json, text/*;q=0.9, */*;q=0.1",
    "Accept-Encoding": ACCEPTED_ENCODINGS,
}
# Of one header and of all of them: generous for pages, small for memory.
_MAX_HEADER_BYTES = 8190
_MAX_HEADERS = 128


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What one fetch may cost: decoded bytes, seconds over all hops, redirects."""

    max_bytes: int
    seconds: float
    max_redirects: int


@dataclass(frozen=True, slots=True)
class Page:
    """What came back from the last hop."""

    url: str
    status: int
    content_type: str
    content: bytes
    truncated: bool
    hops: tuple[str, ...]


async def resolve_name(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, by the operating system. Raises OSError when there are none."""
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(answer[4][0]) for answer in answers]


async def fetch(
    url: str,
    policy: UrlPolicy,
    limits: FetchLimits,
    lookup: Lookup = resolve_name,
    network: Network = _DIRECT,
) -> Page:
    """GET ``url``, following redirects.

    Raises ToolPermissionError for an address or redirect that is not allowed, ToolTimeoutError,
    ToolExecutionError when the server cannot be reached or misbehaves, ToolError for content that is no text.
    """
    target = check_url(url, policy)
    visited: list[str] = []
    try:
        async with asyncio.timeout(limits.seconds):
            while True:
                visited.append(target.url)
                answer = await _hop(target, policy, limits, _Way(target, lookup, network), tuple(visited))
                if isinstance(answer, Page):
                    return answer
                if len(visited) > limits.max_redirects:
                    raise ToolExecutionError(f"{url!a} redirects more than {limits.max_redirects} times.")
                target = answer
    except TimeoutError as error:
        raise ToolTimeoutError(f"{target.url} took more than {limits.seconds:g} seconds.") from error
    except aiohttp.ClientError as error:
        raise ToolExecutionError(f"{target.url} cannot be fetched: {_brief(error)}") from error
    except OSError as error:
        raise ToolExecutionError(f"{target.url} cannot be reached: {_brief(error)}") from error


async def _hop(
    target: ParsedUrl, policy: UrlPolicy, limits: FetchLimits, way: _Way, visited: tuple[str, ...]
) -> Page | ParsedUrl:
    """One request: the page, or where it redirects to."""
    address = URL(target.url, encoded=True)
    if address.raw_host != target.host or address.port != target.port or address.user is not None:
        raise ToolPermissionError(f"{target.url!a} is refused: it can be read in two ways.")
    asked = await way.asked(address)
    connector = aiohttp.TCPConnector(
        resolver=way.guard, use_dns_cache=False, force_close=True, limit=1, socket_factory=way.guard.socket
    )
    async with (
        aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=_HEADERS,
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_headers=_MAX_HEADERS,
        ) as session,
        session.get(asked, allow_redirects=False, **way.options()) as response,
    ):
        location = response.headers.get("Location")
        if response.status in _REDIRECTS and location:
            return check_redirect(target, location, policy)
        content_type = response.headers.get("Content-Type", "")[:200]
        _require_text(response, content_type, target.url)
        content, truncated = await _read(response, limits.max_bytes)
        return Page(target.url, response.status, content_type, content, truncated, visited)


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> tuple[bytes, bool]:
    """The decoded body up to the limit; what was sent is bounded as well, whatever it decodes to."""
    inflater = Inflater(response.headers.get("Content-Encoding", ""), max_bytes)
    received = 0
    async for piece in response.content.iter_any():
        received += len(piece)
        if not inflater.feed(piece):
            break
        if received > max_bytes:
            return bytes(inflater.content), True
    else:
        inflater.finish()
    return bytes(inflater.content), inflater.truncated


def _require_text(response: aiohttp.ClientResponse, content_type: str, url: str) -> None:
    kind, _ = split_type(content_type)
    if not is_text_type(kind):
        size = response.headers.get("Content-Length", "")
        shown = f"{size} bytes" if size.isdecimal() and len(size) < 20 else "unknown size"
        raise ToolError(f"{url} is {kind!a} of {shown}; only text, HTML and JSON can be fetched.")


class _Way:
    """How one hop is made: straight there, or through the proxy."""

    def __init__(self, target: ParsedUrl, lookup: Lookup, network: Network) -> None:
        self._target = target
        self._network = network
        self._judge = _Guard(target, lookup)
        proxy = network.proxy
        # Our own socket goes to the proxy and nowhere else; its address is the application's word.
        self.guard = self._judge if proxy is None else _Guard(_place_of(proxy), resolve_name)

    async def asked(self, address: URL) -> URL:
        """What to ask for: ``address``, and over a proxy its host as an address that was judged."""
        target = self._target
        if self._network.proxy is None or target.trusted:
            return address
        if target.scheme != "https":
            raise ToolPermissionError(
                f"{target.url!a} is refused: over a proxy only https can be fetched, because the proxy would look up "
                "the name of the host by itself. Try the https address."
            )
        found = await self._judge.resolve(target.host, target.port)
        return address.with_host(found[0]["host"])

    def options(self) -> dict[str, Any]:
        """What else the request is made with."""
        proxy, bundle, target = self._network.proxy, self._network.ca_bundle, self._target
        options: dict[str, Any] = {"ssl": ssl.create_default_context(cafile=bundle)} if bundle else {}
        if proxy is None:
            return options
        options["proxy"] = URL(proxy.url)
        if proxy.login:  # aiohttp takes this name for the proxy's login, and sends it as Proxy-Authorization
            options["proxy_headers"] = {"Authorization": proxy.login}
        if not target.trusted:
            shown = f"[{target.host}]" if ":" in target.host else target.host
            options["server_hostname"] = target.host
            options["headers"] = {"Host": shown if target.port == 443 else f"{shown}:{target.port}"}
        return options


def _place_of(proxy: Proxy) -> ParsedUrl:
    try:
        address = ip_address(proxy.host)
    except ValueError:
        address = None
    return ParsedUrl(proxy.url, urlsplit(proxy.url).scheme, proxy.host, proxy.port, address, trusted=True)


class _Guard(AbstractResolver):
    """Resolves one hop's host and lets sockets be made for the judged addresses only."""

    def __init__(self, target: ParsedUrl, lookup: Lookup) -> None:
        self._target = target
        self._lookup = lookup
        self._allowed: set[str] = set() if target.address is None else {str(target.address)}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Ask once; one address that is not public spoils the answer."""
        if host != self._target.host:
            raise ToolPermissionError(f"{host!a} was not asked for.")
        if self._target.address is not None:  # judged with the URL
            return self._results(host, port, [str(self._target.address)])
        try:
            addresses = list(dict.fromkeys(await self._lookup(host, port)))[:_MAX_ADDRESSES]
        except OSError as error:
            raise ToolExecutionError(f"the name {host} does not resolve: {_brief(error)}") from error
        if not addresses:
            raise ToolExecutionError(f"the name {host} does not resolve to an address.")
        for address in addresses:
            if not self._target.trusted and not is_public_address(address):
                raise ToolPermissionError(
                    f"{host} is refused: it resolves to {address!a}, which is not on the open network."
                )
        self._allowed.update(str(ip_address(address)) for address in addresses)
        return self._results(host, port, addresses)

    @staticmethod
    def _results(host: str, port: int, addresses: Sequence[str]) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing to free."""

    def socket(self, address: tuple[Any, ...]) -> socket.socket:
        """Make the socket for a connection, if it goes where this hop may go."""
        family, kind, protocol, _, endpoint = address
        host = str(endpoint[0])
        if str(ip_address(host)) not in self._allowed or endpoint[1] != self._target.port:
            raise ToolPermissionError(f"{self._target.url!a} is refused: it would connect to {host!a}.")
        return socket.socket(family, kind, protocol)


def _brief(error: BaseException) -> str:
    return describe_error(error)[:300]
