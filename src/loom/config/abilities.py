"""Declarations: what an agent is granted. Pure values; assembly turns each grant into tools.

``Files`` and ``Web`` are here. Nothing in this file opens, resolves or connects to anything.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import ConfigError
from ..safety.declared import count, file_name, flag, instance, seconds, text, texts
from ..safety.network import read_proxy

__all__ = ["Files", "Web"]


@dataclass(frozen=True, slots=True)
class Files:
    """Grants looking at one directory: the tools List, Glob, Grep and Read.

    ``root`` is that directory; None is the current directory when the agent first runs. Nothing outside it
    can be reached, through links or otherwise. ``max_read_bytes`` is the most content one Read hands to the
    model. ``respect_gitignore`` leaves out of listings and searches what the project's ``.gitignore`` files
    name; a file named outright can still be read, so do not take it for a lock: keep secrets outside the
    root.

    Raises ConfigError for ``read_only=False``: this version has no tools that write.
    """

    read_only: bool = True
    name: str = "files"
    root: str | Path | None = None
    max_read_bytes: int = 128 * 1024
    respect_gitignore: bool = True

    def __post_init__(self) -> None:
        if self.read_only is not True:
            raise ConfigError(
                "Files(read_only=False): writing files is not available in this version; "
                "use Files(read_only=True), or give the agent a writing tool of your own with @tool"
            )
        text("the name of Files", self.name)
        if self.root is not None and not isinstance(self.root, str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"Files(root=...) must be a path, not {self.root!r:.80}")
        count("Files(max_read_bytes=...)", self.max_read_bytes, least=1024)
        flag("Files(respect_gitignore=...)", self.respect_gitignore)


@dataclass(frozen=True, slots=True)
class Web:
    """Grants fetching pages from the open web: the tool WebFetch. GET only, public addresses only.

    ``allow_hosts`` names hosts the application vouches for, as ``host`` or ``host:port``; these alone may
    have private addresses and unusual ports. ``max_bytes`` bounds a page after decompression, ``timeout``
    (seconds) a whole fetch with its redirects, of which at most ``max_redirects`` are followed.

    ``proxy`` is the way out, ``"http://user:password@host:port"``, and ``ca_bundle`` a file of certificates (PEM) to
    trust in place of the system's. A proxy is handed an address that was judged here, never a name, so over one
    only https pages are fetched; hosts in ``allow_hosts`` go to it by name, unjudged. The environment plays no part.
    """

    name: str = "web"
    allow_hosts: tuple[str, ...] = ()
    max_bytes: int = 2 * 1024 * 1024
    timeout: float = 20.0
    max_redirects: int = 5
    proxy: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "allow_hosts", texts("Web(allow_hosts=...)", self.allow_hosts))
        text("the name of Web", self.name)
        count("Web(max_bytes=...)", self.max_bytes)
        seconds("Web(timeout=...)", self.timeout)
        count("Web(max_redirects=...)", self.max_redirects, least=0)
        if self.proxy is not None:
            read_proxy(instance("Web(proxy=...)", self.proxy, str, "write 'http://host:port'"))
        if self.ca_bundle is not None:
            object.__setattr__(self, "ca_bundle", file_name("Web(ca_bundle=...)", self.ca_bundle))

    @classmethod
    def enabled(
        cls,
        *,
        name: str = "web",
        allow_hosts: tuple[str, ...] = (),
        max_bytes: int = 2 * 1024 * 1024,
        timeout: float = 20.0,
        max_redirects: int = 5,
        proxy: str | None = None,
        ca_bundle: str | None = None,
    ) -> Web:
        """The grant, spelled as a sentence: ``capabilities=[Web.enabled()]``."""
        return cls(name, allow_hosts, max_bytes, timeout, max_redirects, proxy, ca_bundle)
