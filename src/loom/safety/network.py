"""How to reach services: through which proxy, trusting whom. Values and their reading; nothing is connected here.

What a proxy's address says of user and password is taken out of it at once, and is in no repr.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import ConfigError


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: ``url`` without credentials, and what it wants to be told of who asks."""

    url: str
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    @property
    def login(self) -> str:
        """What it is told of who asks, as the value of a header; empty without a user."""
        if self.user is None:
            return ""
        return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode()

    @property
    def host(self) -> str:
        """Its name or address."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Its port."""
        parts = urlsplit(self.url)
        return parts.port or (443 if parts.scheme == "https" else 80)


@dataclass(frozen=True, slots=True)
class Network:
    """The way to one service: through which proxy, and whom to trust there.

    ``ca_bundle`` is a file of certificates (PEM) that are trusted in place of the system's. None is the usual way.
    """

    proxy: Proxy | None = None
    ca_bundle: str | None = None


def read_proxy(text: str) -> Proxy:
    """The proxy that ``http://user:password@host:port`` names. Raises ConfigError, without showing the text."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("the proxy's address cannot be read; write it 'http://host:port'") from None
    if parts.scheme not in ("http", "https") or not host:
        kind = parts.scheme if parts.scheme.isalnum() and "://" in text else "something else"
        raise ConfigError(f"a proxy is given as 'http://host:port' or 'https://host:port', not {kind}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError("a proxy is a host and a port; its address has more after them")
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{shown}" + (f":{port}" if port else "")
    if parts.username is None:
        return Proxy(url)
    return Proxy(url, unquote(parts.username), unquote(parts.password or ""))


def environment_proxy(url: str, environ: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for ``url``: HTTPS_PROXY, http_proxy, ALL_PROXY, unless NO_PROXY.

    HTTP_PROXY in capitals is not read: a web server's request headers could have set it.
    """
    parts = urlsplit(url)
    if _bypassed(parts, environ.get("no_proxy") or environ.get("NO_PROXY") or ""):
        return None
    names = ["http_proxy"] if parts.scheme == "http" else ["https_proxy", "HTTPS_PROXY"]
    found = next((environ[name] for name in [*names, "all_proxy", "ALL_PROXY"] if environ.get(name)), None)
    return found if found is None or "://" in found else f"http://{found}"


def _bypassed(parts: SplitResult, excepted: str) -> bool:
    """Whether NO_PROXY names the host: itself, a domain above it, with its port or without, or ``*``."""
    host = (parts.hostname or "").lower()
    port = parts.port or (443 if parts.scheme == "https" else 80)
    for entry in excepted.lower().replace(" ", ",").split(","):
        name, _, wanted = entry.strip().rpartition(":") if entry.count(":") == 1 else (entry.strip(), "", "")
        if wanted and wanted != str(port):
            continue
        name = name.removeprefix("*").strip("[]") if name != "*" else name
        if name == "*" or (name and (host == name.lstrip(".") or host.endswith("." + name.lstrip(".")))):
            return True
    return False
