"""What listings show of a folder: paths, counts, languages, tests and likely entry points.

Works on the text of ``List``, ``Glob`` and ``Grep`` results. Paths are relative to the surveyed folder.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from posixpath import basename, dirname, splitext

_SIZED = re.compile(r"\A(.*\S)\s{2,}<?\d[\d.,]*\s?[A-Za-z]*>?\s*\Z")
_CUT = re.compile(
    r"\b(?:cut|incomplete|truncated|omitted|stopped|more|limit|go on|first \d+|lines \d+-\d+)\b",
    re.IGNORECASE,
)
_HIT = re.compile(r"(?:\./)?([^:]{1,500}):(\d{1,9}):\s?(.*)")
_MOST_LINE = 1_000

LANGUAGES = {
    ".py": "Python", ".pyi": "Python", ".ipynb": "Jupyter notebook", ".js": "JavaScript",
    ".mjs": "JavaScript", ".cjs": "JavaScript", ".jsx": "JavaScript", ".ts": "TypeScript",
    ".tsx": "TypeScript", ".mts": "TypeScript", ".rs": "Rust", ".go": "Go", ".java": "Java",
    ".kt": "Kotlin", ".kts": "Kotlin", ".scala": "Scala", ".c": "C", ".h": "C or C++ header",
    ".cc": "C++", ".cpp": "C++", ".cxx": "C++", ".hpp": "C++", ".cs": "C#", ".rb": "Ruby",
    ".php": "PHP", ".swift": "Swift", ".m": "Objective-C", ".dart": "Dart", ".ex": "Elixir",
    ".exs": "Elixir", ".erl": "Erlang", ".hs": "Haskell", ".ml": "OCaml", ".clj": "Clojure",
    ".lua": "Lua", ".pl": "Perl", ".r": "R", ".jl": "Julia", ".zig": "Zig", ".sh": "Shell",
    ".bash": "Shell", ".ps1": "PowerShell", ".sql": "SQL", ".html": "HTML", ".css": "CSS",
    ".scss": "SCSS", ".vue": "Vue", ".svelte": "Svelte", ".md": "Markdown", ".rst": "reStructuredText",
    ".yml": "YAML", ".yaml": "YAML", ".toml": "TOML", ".json": "JSON", ".tf": "Terraform",
    ".proto": "Protocol Buffers",
}  # fmt: skip
_TEST_FOLDERS = frozenset({"test", "tests", "spec", "specs", "__tests__", "e2e"})
_TEST_FILE = re.compile(
    r"\A(?:test_.*\.py|.*_test\.\w+|.*_spec\.rb|.*\.(?:test|spec)\.\w+|.*Tests?\.(?:java|kt|cs))\Z"
)
_NOT_ENTRY = _TEST_FOLDERS | {
    "node_modules", "vendor", "third_party", "examples", "example", "docs", "doc", "fixtures", "testdata",
    "dist", "build", "target", "benchmarks", "site-packages",
}  # fmt: skip
_ENTRY = re.compile(
    r"(?:\A|/)(?:__main__\.py|main\.(?:py|js|ts|tsx|go|rs|c|cc|cpp|rb|dart|swift)|Main\.(?:java|kt)|\w+Application\.java"
    r"|Program\.cs|cli\.(?:py|js|ts)|app\.(?:py|js|ts)|manage\.py|server\.(?:js|ts)|index\.(?:js|mjs|ts|tsx|php)|lib\.rs)\Z"
    r"|(?:\A|/)src/bin/[^/]+\.rs\Z"
)


@dataclass(slots=True)
class Listing:
    """The entries of one tool result; ``notes`` are its bracketed last lines."""

    paths: list[str] = field(default_factory=list[str])
    notes: list[str] = field(default_factory=list[str])

    @property
    def cut(self) -> bool:
        """Whether the tool said that it shows only a part of what is there."""
        return bool(self.paths) and any(says_cut(note) for note in self.notes)

    def below(self, root: str) -> list[str]:
        """The paths relative to ``root``, whether the tool wrote them so or relative to its own root."""
        prefix = root.rstrip("/") + "/"
        if root == "." or not all(path.startswith(prefix) for path in self.paths):
            return self.paths
        return [path[len(prefix) :] for path in self.paths]


def says_cut(note: str) -> bool:
    """Whether a tool's note says that something was left out."""
    return _CUT.search(note) is not None


def read_listing(text: str, *, sizes: bool) -> Listing:
    """Read the lines of ``List`` (``sizes``: files carry one) or of ``Glob``."""
    lines = [line.strip("\r") for line in text.split("\n") if line.strip()]
    listing = Listing()
    while lines and _is_note(lines[-1]):
        listing.notes.append(lines.pop().strip())
    for line in lines:
        path = _entry_path(line[:_MOST_LINE].strip(), sizes)
        if path not in ("", ".", "./"):
            listing.paths.append(path)
    return listing


def _entry_path(line: str, sizes: bool) -> str:
    """The path of a file or folder; links and special files are neither, so they give none."""
    if not sizes or line.endswith("/"):
        return line.removeprefix("./")
    sized = _SIZED.match(line)
    if sized:
        return sized[1].removeprefix("./")
    return "" if " -> " in line or line.endswith("  (special file)") else line.removeprefix("./")


def _is_note(line: str) -> bool:
    text = line.strip()
    return (text.startswith("(") and text.endswith(")")) or (text.startswith("[") and text.endswith("]"))


@dataclass(slots=True)
class Tree:
    """All that listings showed. ``counted`` once a glob over everything answered."""

    files: dict[str, None] = field(default_factory=dict[str, None])
    folders: dict[str, None] = field(default_factory=dict[str, None])
    top: dict[str, None] = field(default_factory=dict[str, None])
    listed: bool = False
    counted: bool = False
    list_cut: bool = False
    count_cut: bool = False

    @property
    def cut(self) -> bool:
        """Whether there may be files that no listing showed."""
        return self.count_cut if self.counted else self.list_cut

    def add(self, paths: Iterable[str]) -> None:
        """Add paths relative to the root; folders end with a slash."""
        for path in paths:
            name = path.rstrip("/")
            if not name:
                continue
            if path.endswith("/"):
                self.folders[name] = None
            else:
                self.files[name] = None
            head, slash, _ = path.partition("/")
            self.top[head + slash] = None
            parent = dirname(name)
            while parent and parent not in self.folders:
                self.folders[parent] = None
                parent = dirname(parent)

    def settle(self) -> None:
        """Forget as files what turned out to be folders, and put everything in a fixed order."""
        self.files = dict.fromkeys(sorted(path for path in self.files if path not in self.folders))
        self.folders = dict.fromkeys(sorted(self.folders))
        self.top = dict.fromkeys(sorted(name for name in self.top if name + "/" not in self.top))

    def languages(self) -> list[tuple[str, int]]:
        """Languages by the number of files with their extension, most first."""
        counts = Counter(LANGUAGES.get(splitext(path)[1].lower(), "") for path in self.files)
        del counts[""]
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))

    def files_below(self) -> dict[str, int]:
        """The number of known files below each top-level folder."""
        return dict(Counter(path.partition("/")[0] for path in self.files if "/" in path))

    def tests(self) -> tuple[int, list[str]]:
        """How many files look like tests by folder or name, and the outermost folders they are in."""
        count = 0
        folders: dict[str, None] = {}
        for path in self.files:
            parts = path.split("/")
            depth = next((i for i, part in enumerate(parts[:-1]) if part.lower() in _TEST_FOLDERS), None)
            if depth is not None:
                folders["/".join(parts[: depth + 1]) + "/"] = None
            if depth is not None or _TEST_FILE.match(parts[-1]):
                count += 1
        return count, sorted(folders, key=lambda name: (name.count("/"), name))

    def likely_entries(self) -> list[str]:
        """Files whose name says that a program starts there, the shallowest first."""
        found = [path for path in self.files if _ENTRY.search(path) and is_likely_program(path)]
        return sorted(found, key=lambda path: (path.count("/"), path))

    def resolve(self, target: str, folder: str = "") -> str | None:
        """The known file an entry such as ``pkg.mod:func`` or ``./bin/x.js`` names, or None."""
        name = target.strip().removeprefix("./")
        beside = f"{folder}/{name}" if folder else name
        if beside in self.files:
            return beside
        module = name.split(":")[0].split("[")[0].strip().replace(".", "/")
        if not re.fullmatch(r"[\w/-]+", module):
            return None
        endings = tuple(module + tail for tail in (".py", "/__init__.py", "/__main__.py"))
        found = [
            path
            for path in self.files
            if path.endswith(endings) and any(_same_tail(path, end) for end in endings)
        ]
        return min(found, key=lambda path: (path.count("/"), path), default=None)


def _same_tail(path: str, ending: str) -> bool:
    return path == ending or path.endswith("/" + ending)


def grep_hits(text: str) -> list[tuple[str, int, str]]:
    """The ``path:line: text`` lines of a ``Grep`` result."""
    hits: list[tuple[str, int, str]] = []
    for line in text.split("\n"):
        match = _HIT.match(line[:_MOST_LINE])
        if match and not line.startswith("["):
            hits.append((match[1], int(match[2]), match[3].strip()))
    return hits


def is_readme(path: str) -> bool:
    """Whether the name is that of a README."""
    return (
        re.match(r"readme(?:\.(?:md|markdown|rst|txt|adoc|org))?\Z", basename(path), re.IGNORECASE)
        is not None
    )


def is_licence(path: str) -> bool:
    """Whether the name is that of a licence text."""
    return (
        re.match(r"(?:licen[cs]e|copying|unlicense)(?:[.-].*)?\Z", basename(path), re.IGNORECASE) is not None
    )


def is_likely_program(path: str) -> bool:
    """Whether no folder on the way says test, example, vendored or built."""
    return not _NOT_ENTRY & set(path.split("/")[:-1])
