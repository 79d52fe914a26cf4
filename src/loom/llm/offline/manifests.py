"""Manifest files line by line: name, purpose, dependencies, entry points, commands, licence.

Scanners, not parsers: a finding is words of one line, so that it can be quoted with its line, and a file that
was cut or is broken still gives what its lines say. What a scanner does not recognise it leaves out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from posixpath import basename
from typing import Any, cast

from .documents import Document, Fact, Kind

Reader = Callable[[Document], Iterator[Fact]]
_Rule = tuple[Kind, str]

# A section with more pairs than this is quoted up to here, so that looking for their lines stays cheap.
_MOST_PAIRS = 60
_STRING = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'")


def manifest_facts(document: Document) -> list[Fact]:
    """The findings in a manifest, in the order of its lines; empty for a file that is none."""
    reader = _READERS.get(basename(document.path).lower())
    return list(reader(document)) if reader else []


def is_manifest(path: str) -> bool:
    """Whether the file name is one that a reader knows."""
    return basename(path).lower() in _READERS


# --- TOML ---------------------------------------------------------------------------------------------


def _toml(document: Document) -> Iterator[tuple[str, str, str, int, str]]:
    """(section, key, value, line number, quotable words); a header comes with an empty key."""
    section = key = ""
    closing = ""
    for number, raw in document.lines:
        line = raw.strip()
        if closing:
            if closing == "]":
                yield from ((section, key, item, number, item) for item in _strings(line))
            closing = "" if closing in (_unquoted(line) if closing == "]" else line) else closing
        elif line.startswith("["):
            section, key = line.strip("[] ").split("]")[0], ""
            yield section, "", "", number, line
        elif "=" in line and not line.startswith("#"):
            key, _, value = (part.strip() for part in line.partition("="))
            key = key.strip("\"'")
            if value.startswith("["):
                closing = "" if "]" in _unquoted(value) else "]"
                yield from ((section, key, item, number, item) for item in _strings(value))
            elif value[:3] in ('"""', "'''"):
                closing = "" if value[:3] in value[3:] else value[:3]
            else:
                yield section, key, value, number, line


def _strings(text: str) -> list[str]:
    return [match[1] or match[2] or "" for match in _STRING.finditer(text) if match[1] or match[2]]


def _unquoted(text: str) -> str:
    return _STRING.sub("", text).split("#")[0]


def _string(value: str) -> str:
    match = _STRING.match(value)
    return (match[1] or match[2] or "") if match else ""


def _by_table(
    document: Document, kinds: dict[tuple[str, str], Kind], whole: dict[str, Kind]
) -> Iterator[Fact]:
    """Findings of a TOML file: ``kinds`` by (section, key), ``whole`` for every key of a section."""
    for section, key, value, number, words in _toml(document):
        kind = kinds.get((section, key)) or (whole.get(section) if key else None)
        if kind is None:
            continue
        if kind == "entry":
            yield document.fact(kind, words, number, target=_string(value))
        elif kind in ("name", "purpose"):
            yield document.fact(kind, _string(value) or words, number)
        else:
            yield document.fact(kind, words, number)


def _pyproject(document: Document) -> Iterator[Fact]:
    yield from _by_table(
        document,
        {
            ("project", "name"): "name",
            ("project", "description"): "purpose",
            ("project", "requires-python"): "needs",
            ("project", "license"): "licence",
            ("project", "dependencies"): "dependency",
            ("project.license", "text"): "licence",
            ("tool.poetry", "name"): "name",
            ("tool.poetry", "description"): "purpose",
            ("tool.poetry", "license"): "licence",
            ("tool.pytest.ini_options", ""): "test",
        },
        {
            "project.scripts": "entry",
            "project.gui-scripts": "entry",
            "tool.poetry.scripts": "entry",
            "tool.poetry.dependencies": "dependency",
        },
    )


def _cargo(document: Document) -> Iterator[Fact]:
    yield from _by_table(
        document,
        {
            ("package", "name"): "name",
            ("package", "description"): "purpose",
            ("package", "license"): "licence",
            ("package", "rust-version"): "needs",
            ("package", "edition"): "needs",
            ("bin", "path"): "entry",
            ("lib", "path"): "entry",
        },
        {"dependencies": "dependency", "workspace.dependencies": "dependency"},
    )
    for section, key, _, number, words in _toml(document):
        if not key and section.startswith("dependencies."):
            yield document.fact("dependency", words, number)


# --- JSON ---------------------------------------------------------------------------------------------


def _json_manifest(document: Document) -> Iterator[Fact]:
    try:
        content: object = json.loads("\n".join(line for _, line in document.lines))
    except (ValueError, RecursionError):
        return
    if not isinstance(content, dict):
        return
    fields = cast("dict[str, Any]", content)
    simple: dict[str, Kind] = {
        "name": "name", "description": "purpose", "license": "licence", "main": "entry", "module": "entry",
        "bin": "entry",
    }  # fmt: skip
    for key, value in fields.items():
        if key in simple and isinstance(value, str):
            yield from _json_pair(document, simple[key], key, value, 0)
        elif isinstance(value, dict):
            yield from _json_section(document, key, cast("dict[str, Any]", value))


_JSON_SECTIONS: dict[str, Kind] = {
    "bin": "entry", "dependencies": "dependency", "require": "dependency", "scripts": "run",
    "engines": "needs",
}  # fmt: skip


def _json_section(document: Document, section: str, pairs: dict[str, Any]) -> Iterator[Fact]:
    kind = _JSON_SECTIONS.get(section)
    if kind is None:
        return
    marker = json.dumps(section)
    start = next((i for i, (_, line) in enumerate(document.lines) if line.strip().startswith(marker)), 0)
    for key, value in islice(pairs.items(), _MOST_PAIRS):
        if isinstance(value, str):
            own: Kind = "test" if kind == "run" and key.startswith("test") else kind
            yield from _json_pair(document, own, key, value, start)


def _json_pair(document: Document, kind: Kind, key: str, value: str, start: int) -> Iterator[Fact]:
    """The pair as written, if it stands on one line from ``start`` on; otherwise it cannot be quoted."""
    pair = re.compile(re.escape(json.dumps(key)) + r"\s*:\s*\"(?:[^\"\\]|\\.)*\"")
    for number, line in document.lines[start : start + 400]:
        for found in pair.finditer(line):
            written = json.loads("{" + found[0] + "}")[key]
            if written == value:
                words = value if kind in ("name", "purpose") and value in line else found[0]
                target = value if kind == "entry" else ""
                yield document.fact(kind, words, number, target=target)
                return


# --- lines --------------------------------------------------------------------------------------------


def _by_pattern(*rules: _Rule) -> Reader:
    """A reader that quotes the first group (or all) of the first pattern that fits each line."""
    patterns: list[tuple[Kind, re.Pattern[str]]] = [(kind, re.compile(p, re.IGNORECASE)) for kind, p in rules]

    def read(document: Document) -> Iterator[Fact]:
        for number, line in document.lines:
            for kind, pattern in patterns:
                match = pattern.search(line)
                if match:
                    yield document.fact(kind, (match[1] if pattern.groups else match[0]).strip(), number)
                    break

    return read


def _go_mod(document: Document) -> Iterator[Fact]:
    inside = False
    for number, raw in document.lines:
        line = raw.strip()
        if line.startswith("module "):
            yield document.fact("name", line, number)
        elif line.startswith("go "):
            yield document.fact("needs", line, number)
        elif line.startswith("require ("):
            inside = True
        elif line == ")":
            inside = False
        elif line.endswith("// indirect"):
            continue
        elif (inside and line and not line.startswith("//")) or line.startswith("require "):
            yield document.fact("dependency", line, number)


def _setup_cfg(document: Document) -> Iterator[Fact]:
    section = key = ""
    kinds: dict[tuple[str, str], Kind] = {
        ("metadata", "name"): "name", ("metadata", "description"): "purpose",
        ("metadata", "license"): "licence",
        ("options", "install_requires"): "dependency", ("options", "python_requires"): "needs",
        ("options.entry_points", "console_scripts"): "entry",
    }  # fmt: skip
    for number, raw in document.lines:
        line = raw.strip()
        value = line
        if line.startswith("["):
            section, key = line.strip("[] "), ""
            continue
        if not raw[:1].isspace() and "=" in line:
            key, _, value = (part.strip() for part in line.partition("="))
        kind = kinds.get((section, key))
        if kind is not None and value and not value.startswith("#"):
            target = value.rpartition("=")[2].strip() if kind == "entry" else ""
            yield document.fact(kind, value, number, target=target)


def _makefile(document: Document) -> Iterator[Fact]:
    for number, line in document.lines:
        match = re.match(r"([A-Za-z][\w.-]*(?:\s+[\w.-]+)*)\s*:(?![=:])", line)
        if match and not match[1].lower().startswith("phony"):
            kind: Kind = "test" if re.search(r"\b(?:test|check)\w*\b", match[1]) else "run"
            yield document.fact(kind, match[0], number)


_requirements = _by_pattern(("dependency", r"\A\s*([A-Za-z0-9][^#\s][^#]*)"))
_setup_py = _by_pattern(
    ("name", r"\bname\s*=\s*[\"']([^\"']+)[\"']"),
    ("purpose", r"\bdescription\s*=\s*[\"']([^\"']+)[\"']"),
    ("licence", r"\blicense\s*=\s*[\"']([^\"']+)[\"']"),
    ("needs", r"\bpython_requires\s*=\s*[\"'][^\"']+[\"']"),
    ("dependency", r"\binstall_requires\s*=.*"),
    ("entry", r"\bconsole_scripts\b.*"),
)
_pom = _by_pattern(
    ("purpose", r"\A\s{0,8}<description>([^<]+)"),
    ("name", r"\A\s{0,4}<artifactId>([^<]+)"),
    ("dependency", r"\A\s{5,}<artifactId>([^<]+)"),
    ("entry", r"<(?:mainClass|start-class)>[^<]+"),
)
_gradle = _by_pattern(
    ("dependency", r"\A\s*((?:implementation|api|compileOnly|runtimeOnly)\b[\s(].*)"),
    ("test", r"\A\s*(?:testImplementation\b.*|useJUnitPlatform\(\))"),
    ("entry", r"\bmainClass(?:Name)?\b.*=.*"),
)
_gemfile = _by_pattern(("needs", r"\A\s*ruby\s+[\"'].*"), ("dependency", r"\A\s*(gem\s+[\"'][^#]*)"))
_cmake = _by_pattern(
    ("name", r"\A\s*project\s*\([^)]*\)?"),
    ("entry", r"\A\s*add_executable\s*\([^)]*\)?"),
    ("dependency", r"\A\s*find_package\s*\([^)]*\)?"),
    ("test", r"\A\s*(?:enable_testing|add_test)\s*\([^)]*\)?"),
)
_dockerfile = _by_pattern(("needs", r"\A\s*FROM\s.*"), ("run", r"\A\s*(?:CMD|ENTRYPOINT)\s.*"))

_READERS: dict[str, Reader] = {
    "pyproject.toml": _pyproject,
    "package.json": _json_manifest,
    "cargo.toml": _cargo,
    "go.mod": _go_mod,
    "pom.xml": _pom,
    "build.gradle": _gradle,
    "build.gradle.kts": _gradle,
    "composer.json": _json_manifest,
    "gemfile": _gemfile,
    "cmakelists.txt": _cmake,
    "setup.cfg": _setup_cfg,
    "setup.py": _setup_py,
    "requirements.txt": _requirements,
    "makefile": _makefile,
    "dockerfile": _dockerfile,
}
MANIFEST_ORDER = {name: index for index, name in enumerate(_READERS)}
