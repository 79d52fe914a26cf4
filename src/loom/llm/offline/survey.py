"""What was seen of a repository so far, and which calls to ask for next.

The plan has three looks (the folder; its documents and a count of its files; its entry points). Each is
computed anew from the results at hand, and calls already made are left out, so a conversation cut anywhere
goes on the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from posixpath import basename, dirname

from .conversation import Exchange, Offered, Wanted
from .documents import Document, Fact, licence_fact, read_document, readme_facts
from .manifests import MANIFEST_ORDER, is_manifest, manifest_facts
from .tree import Tree, grep_hits, is_licence, is_likely_program, is_readme, read_listing

EVERYTHING = "**/*"
_MOST_MANIFESTS = 8
_MOST_ENTRIES = 4
_README_LINES = 150
_MANIFEST_LINES = 400
_SOURCE_LINES = 120
_PYTHON_START = "^if __name__ =="
# Asked for when nothing but ``Read`` is offered; the errors of those that are missing are expected.
_GUESSES = ("README.md", "pyproject.toml", "package.json", "Cargo.toml", "go.mod")
_ENTRY_GLOBS = {".py": "**/__main__.py", ".go": "**/main.go", ".rs": "**/main.rs", ".js": "**/index.js"}


@dataclass(slots=True)
class Survey:
    """The results of the calls made since the task was given, read into one picture."""

    root: str
    made: dict[tuple[str, bytes], Exchange] = field(default_factory=dict[tuple[str, bytes], Exchange])
    tree: Tree = field(default_factory=Tree)
    documents: dict[str, Document] = field(default_factory=dict[str, Document])
    facts: list[Fact] = field(default_factory=list[Fact])
    starts: list[tuple[str, int, str]] = field(default_factory=list[tuple[str, int, str]])
    failures: list[Exchange] = field(default_factory=list[Exchange])

    @classmethod
    def of(cls, root: str, exchanges: Iterable[Exchange]) -> Survey:
        """Read ``exchanges`` in order; ``root`` is the folder the task names."""
        survey = cls(root)
        for exchange in exchanges:
            if exchange.name in _TAKERS and exchange.key not in survey.made:
                survey.made[exchange.key] = exchange
                if exchange.failed:
                    survey.failures.append(exchange)
                else:
                    _TAKERS[exchange.name](survey, exchange)
        survey.tree.settle()
        for path in sorted(survey.documents, key=_weight):
            survey.facts.extend(_facts(survey.documents[path]))
        return survey

    @property
    def saw_anything(self) -> bool:
        """Whether any call showed a file or a folder, or that there are none."""
        return bool(self.tree.files or self.tree.folders or self.tree.listed or self.tree.counted)

    def full(self, path: str) -> str:
        """``path``, known relative to the root, as the tools want it."""
        return path if self.root == "." else f"{self.root.rstrip('/')}/{path}"

    def known(self, path: str) -> str:
        """``path``, as a tool wrote it, relative to the root."""
        return path if self.root == "." else path.removeprefix(self.root.rstrip("/") + "/")

    def manifests(self) -> list[str]:
        """The manifests to read: those of the root first, then nested ones."""
        found = [
            path
            for path in self.tree.files
            if is_manifest(path) and path.count("/") < 3 and is_likely_program(path)
        ]
        return sorted(found, key=_weight)[:_MOST_MANIFESTS]

    def readme(self) -> str | None:
        """The README of the root, Markdown before others."""
        found = [path for path in self.tree.files if "/" not in path and is_readme(path)]
        return min(found, key=lambda path: (not path.lower().endswith(".md"), path), default=None)

    def licence(self) -> str | None:
        """The licence text of the root."""
        return next((path for path in self.tree.files if "/" not in path and is_licence(path)), None)

    def entries(self) -> list[str]:
        """The entry points to read: those a manifest names, then those a file name gives away."""
        named = (
            self.tree.resolve(fact.target, dirname(fact.quote.path))
            for fact in self.facts
            if fact.kind == "entry" and fact.target
        )
        found = [path for path in named if path is not None] + self.tree.likely_entries()
        return list(dict.fromkeys(found))[:_MOST_ENTRIES]


def _weight(path: str) -> tuple[int, int, str]:
    return (path.count("/"), MANIFEST_ORDER.get(basename(path).lower(), -1), path)


def _facts(document: Document) -> list[Fact]:
    if is_readme(document.path):
        return list(readme_facts(document))
    if is_licence(document.path):
        fact = licence_fact(document)
        return [fact] if fact else []
    return manifest_facts(document)


# --- taking results in ------------------------------------------------------------------------------------


def _take_list(survey: Survey, exchange: Exchange) -> None:
    listing = read_listing(exchange.text, sizes=True)
    survey.tree.listed = True
    if exchange.arguments.get("depth") != 1:
        survey.tree.list_cut = listing.cut
    survey.tree.add(listing.below(survey.root))


def _take_glob(survey: Survey, exchange: Exchange) -> None:
    listing = read_listing(exchange.text, sizes=False)
    if exchange.arguments.get("pattern") == EVERYTHING:
        survey.tree.counted = True
        survey.tree.count_cut = listing.cut
    survey.tree.add(listing.below(survey.root))


def _take_read(survey: Survey, exchange: Exchange) -> None:
    path = survey.known(str(exchange.arguments.get("file_path", "")))
    survey.documents[path] = read_document(path, exchange.text)
    survey.tree.add([path])


def _take_grep(survey: Survey, exchange: Exchange) -> None:
    survey.starts.extend((survey.known(path), line, text) for path, line, text in grep_hits(exchange.text))


_TAKERS = {"List": _take_list, "Glob": _take_glob, "Read": _take_read, "Grep": _take_grep}


# --- planning -----------------------------------------------------------------------------------------------


def next_calls(survey: Survey, offered: Offered) -> list[Wanted]:
    """The calls of the first look that is not complete; empty when everything worth asking was asked."""
    for look in (_first_look, _documents, _entry_points):
        calls = {call.key: call for call in look(survey, offered) if call is not None}
        missing = [call for key, call in calls.items() if key not in survey.made]
        if missing:
            return missing
    return []


def _first_look(survey: Survey, offered: Offered) -> list[Wanted | None]:
    listing = offered.call("List", _in_root(survey), {"path": survey.root, "depth": 2})
    if listing is not None and survey.tree.list_cut:  # the top itself may be among what was cut
        return [listing, offered.call("List", _in_root(survey), {"path": survey.root, "depth": 1})]
    if listing is not None:
        return [listing]
    everything = _glob(survey, offered, EVERYTHING)
    if everything is not None:
        return [everything]
    return [_read(survey, offered, path, _MANIFEST_LINES) for path in _GUESSES]


def _documents(survey: Survey, offered: Offered) -> list[Wanted | None]:
    if survey.tree.listed and not survey.tree.files and not survey.tree.folders:
        return []
    calls = [_read(survey, offered, path, _MANIFEST_LINES) for path in survey.manifests()]
    readme, licence = survey.readme(), survey.licence()
    if readme is not None:
        calls.append(_read(survey, offered, readme, _README_LINES))
    if licence is not None:
        calls.append(_read(survey, offered, licence, 12))
    calls.append(_glob(survey, offered, EVERYTHING))
    if survey.tree.cut:  # the count was cut, so what matters most is looked for by name
        calls += [
            _glob(survey, offered, pattern)
            for pattern in (*_ENTRY_GLOBS.values(), "**/test_*", "**/*_test.*")
        ]
    return calls


def _entry_points(survey: Survey, offered: Offered) -> list[Wanted | None]:
    calls = [_read(survey, offered, path, _SOURCE_LINES) for path in survey.entries()]
    if any(path.endswith(".py") for path in survey.tree.files):
        calls.append(
            offered.call("Grep", {"pattern": _PYTHON_START, **_in_root(survey)}, {"glob_pattern": "*.py"})
        )
    return calls


def _in_root(survey: Survey) -> dict[str, str]:
    return {} if survey.root == "." else {"path": survey.root}


def _glob(survey: Survey, offered: Offered, pattern: str) -> Wanted | None:
    return offered.call("Glob", {"pattern": pattern, **_in_root(survey)})


def _read(survey: Survey, offered: Offered, path: str, lines: int) -> Wanted | None:
    return offered.call("Read", {"file_path": survey.full(path)}, {"limit": lines})
