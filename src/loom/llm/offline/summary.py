"""Writing the answer of a survey: Markdown that states only what results show and quotes where it stands.

Counts come from listings and name the call; words come from files and name file and line. What no result
shows is said to be unknown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from posixpath import basename

from .conversation import Exchange
from .documents import Fact, Kind, source_quotes
from .manifests import is_manifest
from .quoting import code
from .speech import CONNECT, WHO
from .survey import EVERYTHING, Survey
from .tree import is_likely_program, is_readme

MOST_CHARACTERS = 6_000
_MOST_ITEMS = 8
_MOST_FOLDERS = 14
_STARTS_IT = re.compile(r"\A\W?(?:start|dev|serve|run|demo|build|install|CMD|ENTRYPOINT)\b")


def write_summary(survey: Survey) -> str:
    """The answer, at most ``MOST_CHARACTERS`` long."""
    if not survey.tree.files and not survey.tree.folders:
        body = _nothing_seen(survey)
    else:
        sections = (
            ("Purpose", _purpose(survey)),
            ("Layout", _layout(survey)),
            ("Languages", _languages(survey)),
            ("Entry points", _entries(survey)),
            (
                "Dependencies",
                _cited(survey, ("needs", "dependency"), "No manifest that I could read declares any."),
            ),
            ("Run and test", _run_and_test(survey)),
            ("Licence", _cited(survey, ("licence",), "Unknown: no licence file or field was found.", most=3)),
            ("Not seen", _not_seen(survey)),
        )
        body = [line for title, lines in sections if lines for line in (f"## {title}", "", *lines, "")]
    ending = ["I quote what I find and understand none of it. " + CONNECT]
    return _bounded([*_head(survey), "", *body], ending)


def _head(survey: Survey) -> list[str]:
    calls = Counter(exchange.name for exchange in survey.made.values())
    made = ", ".join(f"{name} {count}" for name, count in calls.items())
    where = "the root folder" if survey.root == "." else f"the folder {code(survey.root, 120)}"
    return [
        f"# Survey of {where}",
        "",
        f"{WHO} This is an extract of what my tool calls ({made}) returned. Words in `code` are quoted "
        "from the files and are not mine; I followed no instruction in them. Whatever else the task asks, "
        "I have not done.",
    ]


def _nothing_seen(survey: Survey) -> list[str]:
    return [
        "The folder is empty as far as my tools show: they listed no file and no folder.",
        "",
        *_not_seen(survey),
        "",
    ]


def _bounded(lines: Sequence[str], ending: Sequence[str]) -> str:
    cut = "(The summary was cut here to keep it short.)"
    room = MOST_CHARACTERS - sum(len(line) + 1 for line in ending) - len(cut) - 4
    kept: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0:
            kept += ["", cut, ""]
            break
        kept.append(line)
    return "\n".join([*kept, *ending])


# --- sections -------------------------------------------------------------------------------------


def _purpose(survey: Survey) -> list[str]:
    names = _of(survey, "name")
    purposes = _of(survey, "purpose")
    lines = [f"- Name: {fact.quote.cited(100)}" for fact in names[:2]]
    lines += [f"- {fact.quote.cited(320)}" for fact in purposes[:3]]
    if not purposes:
        lines.append("- Unknown: neither a README nor a manifest that I could read says what it is for.")
    return lines


def _layout(survey: Survey) -> list[str]:
    tree = survey.tree
    below = tree.files_below()
    folders = sorted(
        (name.rstrip("/") for name in tree.top if name.endswith("/")),
        key=lambda name: (-below.get(name, 0), name),
    )
    known = "" if tree.counted and not tree.cut else "at least "
    lines = [
        f"- {code(name + '/', 80)}: {known}{below.get(name, 0)} {_plural('file', below.get(name, 0))}"
        f"{_inner(survey, name)}"
        for name in folders[:_MOST_FOLDERS]
    ]
    if len(folders) > _MOST_FOLDERS:
        lines.append(f"- and {len(folders) - _MOST_FOLDERS} more folders")
    files = [name for name in tree.top if not name.endswith("/")]
    if files:
        more = f" and {len(files) - 16} more" if len(files) > 16 else ""
        lines.append(f"- at the top: {', '.join(code(name, 60) for name in files[:16])}{more}")
    return [*lines, f"- source: {_listing_source(survey)}"]


def _inner(survey: Survey, folder: str) -> str:
    inner = [name for name in survey.tree.folders if name.startswith(folder + "/") and name.count("/") == 1]
    if not inner:
        return ""
    more = f" and {len(inner) - 5} more" if len(inner) > 5 else ""
    return f", with {', '.join(code(basename(name) + '/', 40) for name in inner[:5])}{more}"


def _listing_source(survey: Survey) -> str:
    tree = survey.tree
    calls = (["`List`"] if tree.listed else []) + ([f"`Glob {EVERYTHING}`"] if tree.counted else [])
    if not calls:
        return "only the files that I could read; nothing was listed"
    if tree.cut:
        return f"{' and '.join(calls)}; the tool said that it shows only a part"
    depth = "" if tree.counted else ", which looked two levels deep"
    return " and ".join(calls) + depth


def _languages(survey: Survey) -> list[str]:
    languages = survey.tree.languages()
    if not languages:
        return ["- Unknown: no file extension that I know was listed."]
    partial = not survey.tree.counted or survey.tree.cut
    shown = ", ".join(f"{name} {count}" for name, count in languages[:_MOST_ITEMS])
    scope = "of the files that were listed" if partial else f"of {len(survey.tree.files)} files"
    return [f"- By extension, {scope}: {shown}."]


def _entries(survey: Survey) -> list[str]:
    declared = _of(survey, "entry")
    lines = [f"- declared: {fact.quote.cited(140)}" for fact in declared[:_MOST_ITEMS]]
    if len(declared) > _MOST_ITEMS:
        lines.append(f"- and {len(declared) - _MOST_ITEMS} more declared")
    for path in survey.entries():
        document = survey.documents.get(path)
        quotes = source_quotes(document) if document is not None else []
        said = "; ".join(quote.cited(140) for quote in quotes)
        lines.append(f"- {code(path, 100)}, by its name or a manifest" + (f": {said}" if said else ""))
    starts = [hit for hit in survey.starts if hit[0] not in survey.entries() and is_likely_program(hit[0])]
    lines += [f"- {code(text, 80)} ({code(f'{path}:{number}', 140)})" for path, number, text in starts[:4]]
    return lines or ["- Unknown: no manifest names one and no file name gives one away."]


def _run_and_test(survey: Survey) -> list[str]:
    runs = sorted(_of(survey, "run"), key=_how_telling)
    lines = _items(runs, "run: ", 6) + _items(_of(survey, "test"), "test: ", 4)
    count, folders = survey.tree.tests()
    if count:
        named = f", in {', '.join(code(name, 60) for name in folders[:4])}" if folders else ""
        known = "" if survey.tree.counted and not survey.tree.cut else "at least "
        lines.append(f"- test files, by folder or name: {known}{count}{named}")
    else:
        lines.append("- no file that looks like a test was listed")
    return lines


def _how_telling(fact: Fact) -> int:
    """What a README says of running comes first, then what is named after it, then the other commands."""
    if is_readme(fact.quote.path):
        return 0
    return 1 if _STARTS_IT.search(fact.quote.text) else 2


def _not_seen(survey: Survey) -> list[str]:
    lines = [f"- {_call(exchange)} failed: {code(exchange.text, 160)}" for exchange in survey.failures[:6]]
    if len(survey.failures) > 6:
        lines.append(f"- and {len(survey.failures) - 6} more calls failed")
    if survey.tree.listed or survey.tree.counted:
        if survey.readme() is None and survey.tree.files:
            lines.append("- no README was listed at the top")
        if not survey.manifests() and survey.tree.files:
            lines.append("- no manifest that I know was listed")
    told = {fact.quote.path for fact in survey.facts}
    for path, document in sorted(survey.documents.items()):
        if is_manifest(path) and path not in told:
            lines.append(f"- {code(path, 100)} was read, but I recognised nothing in it")
        elif is_manifest(path) and document.partial:
            lines.append(f"- {code(path, 100)} was read only in part")
    if not survey.documents and survey.tree.files:
        lines.append("- no file was read")
    return lines


# --- pieces ---------------------------------------------------------------------------------------


def _of(survey: Survey, kind: Kind) -> list[Fact]:
    return [fact for fact in survey.facts if fact.kind == kind]


def _items(facts: Sequence[Fact], label: str, most: int) -> list[str]:
    lines = [f"- {label}{fact.quote.cited(120)}" for fact in facts[:most]]
    if len(facts) > most:
        lines.append(f"- {label}and {len(facts) - most} more")
    return lines


def _cited(survey: Survey, kinds: Iterable[Kind], unknown: str, *, most: int = 10) -> list[str]:
    facts = [fact for kind in kinds for fact in _of(survey, kind)]
    return _items(facts, "", most) or [f"- {unknown}"]


def _call(exchange: Exchange) -> str:
    named = next(
        (exchange.arguments[key] for key in ("file_path", "pattern", "path") if key in exchange.arguments), ""
    )
    return f"{exchange.name} {code(str(named), 100)}" if named else exchange.name


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
