"""A service on HTTP that is asked with a key: its address, headers, patience and limits.

What every adapter stands on, whether it asks for replies or for embeddings. Here is no vendor's format.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar
from urllib.parse import urlsplit, urlunsplit

from ..errors import ConfigError, LoomError, MalformedReplyError
from ..safety.network import Network
from .failures import FailureReader, named
from .limits import Allowance, Gate
from .redact import Hidden, Scrubber
from .retry import Patience, RetryPolicy

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from .http import HTTPClient, Reply

ReadT = TypeVar("ReadT")

MAX_REPLY_BYTES = 64 * 1024 * 1024
_SECRET_HEADER_WORDS = ("auth", "key", "token", "secret", "cookie")


class ServiceOptions(TypedDict, total=False):
    """What every adapter takes besides its own; see ``HTTPService``."""

    max_retries: int
    headers: Mapping[str, str] | None
    query: Mapping[str, str] | None
    connect_timeout: float | None
    total_timeout: float | None
    allowance: Allowance | None
    network: Network | None
    sleep: Callable[[float], Awaitable[None]]
    rand: Callable[[], float]


class HTTPService(ABC):
    """A service below one base URL.

    ``timeout`` is the longest silence in seconds, and for a reply asked for in one piece the longest wait for
    it; ``total_timeout`` bounds a request with all its tries. ``headers`` are sent besides the adapter's own,
    ``query`` with every address. ``allowance`` says how hard the service may be asked, ``network`` which way it is
    reached. ``sleep`` and ``rand`` exist so that tests need not wait. Raises ConfigError for a base URL or a key that
    cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        timeout: float | None,
        *,
        max_retries: int = 2,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        connect_timeout: float | None = 10.0,
        total_timeout: float | None = None,
        allowance: Allowance | None = None,
        network: Network | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self._query = dict(query or {})
        self._api_key = Hidden(clean_key(api_key))
        self._extra_headers = Hidden(dict(headers or {}))
        self._timeouts = (connect_timeout, total_timeout)
        self._network = network
        self._retry = RetryPolicy(max_retries, rand=rand)
        self._sleep = sleep
        service = _check_address(base_url)
        self._failures = FailureReader(service, Scrubber(self.secrets()))
        self._gate = Gate(service, allowance or Allowance())
        self._client: HTTPClient | None = None
        self._sent_headers: Hidden[CIMultiDict[str]] | None = None

    @abstractmethod
    def _auth_headers(self, api_key: str | None) -> dict[str, str]:
        """The headers that carry the key and whatever else the service wants in every request."""

    @property
    def api_key(self) -> str | None:
        """The key, for whoever builds another adapter like this one. It is in no repr and no error."""
        return self._api_key.reveal()

    def secrets(self) -> list[str]:
        """What of our requests must not be in any text: the key, and headers and query values like keys.

        For scrubbers of those who pass on what this service and its callers say.
        """
        secrets = [self._api_key.reveal() or ""]
        for name, value in self._extra_headers.reveal().items():
            if any(word in name.lower() for word in _SECRET_HEADER_WORDS):
                secrets += [value, *value.split(" ", 1)[1:]]
        query = urlsplit(self.base_url).query
        secrets += [pair.partition("=")[2] for pair in query.split("&") if "key" in pair.partition("=")[0]]
        secrets += [value for name, value in self._query.items() if "key" in name]
        if self._network is not None and self._network.proxy is not None:
            secrets += [self._network.proxy.password, self._network.proxy.login]
        return secrets

    def endpoint(self, path: str, **query: str) -> str:
        """The address of ``path`` below the base URL, with the service's own query and ``query``."""
        parts = urlsplit(self.base_url)
        pairs = [parts.query, *(f"{name}={value}" for name, value in (self._query | query).items())]
        joined = "&".join(pair for pair in pairs if pair)
        return urlunsplit(parts._replace(path=parts.path.rstrip("/") + path, query=joined, fragment=""))

    async def exchange(
        self, url: str, body: bytes, read: Callable[[bytes], ReadT], patience: Patience | None = None
    ) -> ReadT:
        """Send ``body`` and return what ``read`` makes of the whole reply, trying again where that may help.

        ``patience`` is what is left of it when this is not the first of a request's exchanges. Raises
        ProviderError or ContextOverflowError, and what ``read`` raises.
        """
        client, headers = self._ready()
        patience = patience or self._patience()
        async with self._gate.passage():
            while True:
                reply: Reply | None = None
                try:
                    reply = await client.post(url, headers, body, stream=False, within=patience.left())
                    try:
                        content = await client.read(reply, MAX_REPLY_BYTES)
                    finally:
                        reply.close()
                    return read(content)
                except LoomError as error:
                    delay = patience.delay(error)
                    if delay is None:
                        if reply is not None:
                            named(error, reply.headers)
                        raise
                await self._sleep(delay)

    async def aclose(self) -> None:
        """Let go of connections. Safe to call twice; the object can be used again."""
        if self._client is not None:
            await self._client.release()

    close = aclose

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- inside -----------------------------------------------------------------------------------

    def _patience(self) -> Patience:
        return Patience(self._retry, self._timeouts[1], asyncio.get_running_loop().time)

    def _ready(self) -> tuple[HTTPClient, CIMultiDict[str]]:
        if self._client is None or self._sent_headers is None:
            # Imported here: aiohttp is most of the cost of importing us, and many never ask a service.
            from multidict import CIMultiDict

            from .http import HTTPClient

            headers = CIMultiDict(
                {
                    "Content-Type": "application/json",
                    "Accept": "application/json, text/event-stream",
                    "User-Agent": "loom-agent",
                    **self._auth_headers(self._api_key.reveal()),
                }
            )
            headers.update(self._extra_headers.reveal())
            self._sent_headers = Hidden(headers)
            self._client = HTTPClient(
                self._failures,
                timeout=self.timeout,
                connect_timeout=self._timeouts[0],
                network=self._network,
            )
        return self._client, self._sent_headers.reveal()

    def _check_size(self, size: int) -> None:
        if size > MAX_REPLY_BYTES:
            raise MalformedReplyError(f"the stream is longer than {MAX_REPLY_BYTES} bytes; it was dropped")


@lru_cache(maxsize=256)
def _check_address(base_url: str) -> str:
    """The host and port, once for all agents that ask there. Raises ConfigError."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"base_url must be an http or https address, not {_shown(base_url)!r}")
    if parts.username or parts.password:
        raise ConfigError("base_url must not carry a user or password; pass the key as api_key")
    return parts.netloc


def _shown(url: str) -> str:
    return url.split("?")[0].rpartition("@")[2][:200]


def clean_key(api_key: str | None) -> str | None:
    """The key without the white space that copying brings. Raises ConfigError, without showing the key."""
    if api_key is None:
        return None
    api_key = api_key.strip()
    if not (api_key.isascii() and api_key.isprintable()):
        raise ConfigError("the API key holds characters that no header can carry; copy it again")
    return api_key or None
