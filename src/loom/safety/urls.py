"""Rules for addresses a model names: which URLs may be asked for and which hosts may be connected to. Pure.

The reading is strict on purpose. Two parsers that read one text differently are how a guard is walked
around, so what the URL standards read differently (RFC 3986, the WHATWG standard, ``inet_aton``) is refused
with a text that says how to write it. ``check_url`` looks at the text; ``is_public_address`` must be asked
again about the very address a connection is made to, because a name may resolve to anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import quote, urljoin

from ..errors import ConfigError, ToolPermissionError

# Web ports and their usual alternatives. Everything else (mail, databases, admin consoles) is no web page.
WEB_PORTS = frozenset({80, 443, 8080, 8443})
MAX_URL_CHARS = 4096
_DEFAULT_PORT = {"http": 80, "https": 443}

# IANA special-purpose address registries (iana-ipv4-special-registry, iana-ipv6-special-registry), written
# out because ``is_global`` of the standard library differs between the Python versions we support.
_CLOSED_V4 = tuple(
    IPv4Network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
        "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # public by number, but the host agent of every Azure machine
    )
)  # fmt: skip
# Of IPv6 only 2000::/3 is handed out for the open network. This alone closes ::1, mapped and compatible IPv4,
# NAT64 (64:ff9b::/96), link and unique local, multicast and discard addresses.
_OPEN_V6 = IPv6Network("2000::/3")
_CLOSED_V6 = tuple(
    IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarking
        "2001:db8::/32", "2002::/16",  # documentation; 6to4, which carries an IPv4 address
        "3fff::/20",
    )
)  # fmt: skip
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # RFC 5214: the low 32 bits are an IPv4 address

# Names that mean this machine or this network wherever they are asked (RFC 6761, 6762, 8375, 9476).
_LOCAL_SUFFIXES = ("localhost", "local", "internal", "intranet", "lan", "home.arpa", "onion", "alt")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_SPLIT = re.compile(r"(?ai)(https?)://([^/?#]*)([^#]*)(?:#.*)?\Z")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
_PORT = re.compile(r"[1-9][0-9]{0,4}\Z")
_NUMERIC_LABEL = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)\Z")


@dataclass(frozen=True, slots=True)
class ParsedUrl:
    """A URL that may be asked for. ``url`` is its one spelling; ``address`` is set for a literal host."""

    url: str
    scheme: str
    host: str
    port: int
    address: IPv4Address | IPv6Address | None
    trusted: bool
    """The application named this host itself, so its address is not judged."""


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """Which hosts are allowed. ``trusted`` holds ``(host, port)`` of hosts the application vouches for.

    A port of None there means any web port. Only application code makes a policy; nothing a model writes
    reaches it.
    """

    trusted: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def trusting(cls, hosts: Iterable[str]) -> UrlPolicy:
        """A policy that vouches for ``hosts``, each written ``host`` or ``host:port``. Raises ConfigError."""
        entries: set[tuple[str, int | None]] = set()
        for text in hosts:
            try:
                host, port = _split_authority(text, text)
                entries.add((str(_literal(host, text) or _ascii_name(host, text)), port))
            except ToolPermissionError as error:
                raise ConfigError(f"allow_hosts: {error} Write 'host' or 'host:port'.") from error
        return cls(frozenset(entries))

    def trusts(self, host: str, port: int) -> bool:
        """Whether the application vouches for this host at this port."""
        return (host, port) in self.trusted or ((host, None) in self.trusted and port in WEB_PORTS)


PUBLIC_ONLY = UrlPolicy()


def check_url(url: str, policy: UrlPolicy = PUBLIC_ONLY) -> ParsedUrl:
    """Read ``url`` and decide whether it may be asked for.

    Raises ToolPermissionError saying what is wrong: another scheme than http and https, user names or
    passwords, odd ports, spellings that parsers disagree about, and hosts that are not on the open network.
    """
    _check_characters(url)
    match = _SPLIT.match(url)
    if match is None:
        raise _refused(url, "only 'http://host/...' and 'https://host/...' can be fetched")
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    host, given_port = _split_authority(authority, url)
    port = given_port or _DEFAULT_PORT[scheme]
    address = _literal(host, url)
    name = str(address) if address is not None else _ascii_name(host, url)
    trusted = policy.trusts(name, port)
    if not trusted:
        _check_open(name, address, port, url)
    shown_host = f"[{name}]" if isinstance(address, IPv6Address) else name
    shown_port = "" if port == _DEFAULT_PORT[scheme] else f":{port}"
    target = quote(rest, safe="%/?:@!$&'()*+,;=-._~[]|")
    slash = "" if target.startswith("/") else "/"
    spelled = f"{scheme}://{shown_host}{shown_port}{slash}{target}"
    return ParsedUrl(spelled, scheme, name, port, address, trusted)


def check_redirect(origin: ParsedUrl, location: str, policy: UrlPolicy = PUBLIC_ONLY) -> ParsedUrl:
    """The URL a redirect from ``origin`` leads to, judged like any other.

    Raises ToolPermissionError as ``check_url`` does, and for a step down from https to http.
    """
    _check_characters(location)
    if _SCHEME.match(location):  # absolute: joining would read 'https:x' as a path and browsers as a host
        joined = location
    elif location.startswith("///"):
        raise _refused(location, "the redirect can be read in two ways")
    else:
        try:
            joined = urljoin(origin.url, location)
        except ValueError:  # a host that urllib cannot read, such as one with half a bracket
            raise _refused(location, "the redirect leads to something that is no URL") from None
    target = check_url(joined, policy)
    # guard: tests/safety/test_urls.py
    if origin.scheme == "https" and target.scheme == "http":
        raise _refused(target.url, "the redirect leaves https for http")
    return target


def is_public_address(address: str | IPv4Address | IPv6Address) -> bool:
    """Whether an address belongs to the open network. Text that is no plain address is not public."""
    if isinstance(address, str):
        try:
            address = ip_address(address)
        except ValueError:
            return False
    if isinstance(address, IPv4Address):
        return not any(address in block for block in _CLOSED_V4)
    if address.scope_id is not None or address not in _OPEN_V6:
        return False
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    return not any(address in block for block in _CLOSED_V6)


def _check_characters(url: str) -> None:
    if len(url) > MAX_URL_CHARS:
        raise ToolPermissionError(f"the URL has {len(url)} characters; {MAX_URL_CHARS} are allowed.")
    for char in url:
        if char <= " " or char in "\\\x7f" or (char > "\x7f" and not char.isprintable()):
            raise _refused(url, f"it holds the character {char!a}, which a URL cannot")


def _split_authority(authority: str, url: str) -> tuple[str, int | None]:
    if "@" in authority:
        raise _refused(url, "it holds a user name or password; write the host alone")
    if "%" in authority:
        raise _refused(url, "its host is escaped or names a zone; write it plainly")
    host, colon, port = authority, "", ""
    if authority.startswith("["):
        end = authority.find("]")
        host, tail = authority[: end + 1], authority[end + 1 :]
        if end < 0 or (tail and not tail.startswith(":")):
            raise _refused(url, "its IPv6 address is not closed by ']'")
        colon, port = tail[:1], tail[1:]
    elif ":" in authority:
        host, colon, port = authority.partition(":")
    if not host:
        raise _refused(url, "it has no host")
    if not colon or not port:
        return host, None
    if not _PORT.match(port) or int(port) > 65535:
        raise _refused(url, "its port is not a plain number from 1 to 65535")
    return host, int(port)


def _literal(host: str, url: str) -> IPv4Address | IPv6Address | None:
    try:
        if host.startswith("["):
            return IPv6Address(host[1:-1])
        # A last label that looks like a number makes the host an IPv4 address in the WHATWG standard, and
        # inet_aton reads octal, hexadecimal and short forms: only four plain decimal numbers are unambiguous.
        if _NUMERIC_LABEL.match(host.lower().rstrip(".").rpartition(".")[2]):
            return IPv4Address(host)
    except ValueError:
        raise _refused(url, "its address is oddly spelled; write IPv4 as four decimal numbers") from None
    return None


def _ascii_name(host: str, url: str) -> str:
    labels = host.lower().removesuffix(".").split(".")
    name = ".".join(label if label.isascii() else _punycode(label, url) for label in labels)
    if len(name) > 253 or not all(_LABEL.match(label) for label in name.split(".")):
        raise _refused(url, "its host is not a domain name")
    return name


def _punycode(label: str, url: str) -> str:
    # Accepted only when it survives the way there and back: look-alikes that fold into ASCII (full-width
    # digits, ideographic dots, ligatures) and letters on which IDNA 2003 and 2008 differ do not.
    try:
        encoded = label.encode("idna").decode("ascii")
        if encoded.startswith("xn--") and encoded.encode().decode("idna") == label:
            return encoded
    except UnicodeError:
        pass
    raise _refused(url, "its host uses characters that can be read as others; write its 'xn--' form")


def _check_open(name: str, address: IPv4Address | IPv6Address | None, port: int, url: str) -> None:
    if port not in WEB_PORTS:
        raise _refused(url, f"port {port} is not a web port (80, 443, 8080, 8443)")
    if address is not None:
        # guard: tests/safety/test_urls.py
        if not is_public_address(address):
            raise _refused(url, f"{address} is not an address on the open network")
    elif "." not in name or name.endswith(tuple(f".{suffix}" for suffix in _LOCAL_SUFFIXES)):
        raise _refused(url, f"{name} is a name of this machine or its network")


def _refused(url: str, reason: str) -> ToolPermissionError:
    shown = url if len(url) <= 200 else url[:199] + "…"
    return ToolPermissionError(f"{shown!a} is refused: {reason}.")
