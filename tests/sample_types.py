"""The samples of the documentation in the eyes of mypy and pyright, both strict: what is printed there type-checks.

``python tests/sample_types.py`` checks all of them in one go, each as a module of its own; ``make check`` does.
A program with ``await`` at its top level is put into a coroutine, as its reader would.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from markdown_blocks import Block, blocks

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]

_NOT_FOR_SAMPLES = ("Variable", "Import", "Function", "Class", "Expression", "Coroutine")
"""What pyright calls unused in a sample is there to be read."""


def samples(page: Path) -> Iterator[list[Block]]:
    """The Python programs of a page: a block, and those that continue it."""
    current: list[Block] = []
    for block in blocks(page):
        if block.language not in ("python", "py"):
            continue
        if block.mark == "continues":
            current.append(block)
            continue
        if current:
            yield current
        current = [block]
    if current:
        yield current


def as_module(program: Sequence[Block]) -> str:
    """The program as a module that a checker can read, every line at the place it has on its page."""
    source = ""
    for block in program:
        source += "\n" * (block.line - source.count("\n")) + block.text
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    tree = compile(source, str(program[0].path), "exec", flags)
    if not any(
        isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith) for node in _outside_functions(tree)
    ):
        return source
    future = "from __future__ import annotations"
    head = future if future in source else ""
    body = source.removeprefix("\n").replace(future, "").lstrip("\n")
    skipped = source.count("\n") - body.count("\n")
    opening = "\n" * (skipped - 1) + "async def sample() -> None:\n"
    return head + opening + textwrap.indent(body, "    ")


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _outside_functions(child)


def write(folder: Path, pages: Sequence[Path]) -> list[Path]:
    """Write every program of the pages, and the examples, into files of their own, named for their place."""
    written: list[Path] = []
    for page in pages:
        for program in samples(page):
            name = re.sub(r"\W", "_", f"{page.relative_to(page.anchor).with_suffix('')}")[-60:]
            file = folder / f"{name}_line_{program[0].line}.py"
            file.write_text(as_module(program), encoding="utf-8")
            written.append(file)
    for example in EXAMPLES:
        written.append(folder / f"example_{example.name}")
        written[-1].write_text(example.read_text(encoding="utf-8"), encoding="utf-8")
    return written


def complaints(pages: Sequence[Path]) -> list[str]:
    """What both checkers have to say about the samples of these pages; none is fine."""
    with tempfile.TemporaryDirectory(prefix="loom-samples-") as temporary:
        folder = Path(temporary)
        write(folder, pages)
        relaxed = {f"reportUnused{word}": False for word in _NOT_FOR_SAMPLES}
        config = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "include": ["."], **relaxed}
        (folder / "pyrightconfig.json").write_text(json.dumps(config))
        binaries = Path(sys.executable).parent
        checks = [
            [binaries / "mypy", "--strict", "--python-version", "3.11", "--config-file", "",
             "--python-executable", sys.executable, "--cache-dir", ROOT / ".mypy_cache" / "samples", folder],
            [binaries / "pyright", "--pythonpath", sys.executable, "-p", folder],
        ]  # fmt: skip
        running = [
            subprocess.Popen(check, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder)
            for check in checks
        ]
        said = [process.communicate(timeout=300)[0] for process in running]
        return [
            line.replace(str(folder) + "/", "")
            for process, text in zip(running, said, strict=True)
            if process.returncode != 0
            for line in text.splitlines()
        ]


WRONG = """```python
from loom import Agent

async for event in Agent().stream("hello"):
    if event.type == "text.delta":
        print(event.words)
```
"""


def main() -> int:
    """Check the pages, and a wrong one that both checkers must find."""
    with tempfile.TemporaryDirectory() as temporary:
        wrong = Path(temporary) / "wrong_sample.md"
        wrong.write_text(WRONG, encoding="utf-8")
        said = complaints([*PAGES, wrong])
    found = [line for line in said if "error:" in line and "wrong_sample" not in line]
    checkers = sum('no attribute "words"' in line or 'attribute "words" for' in line for line in said)
    if checkers != 2:
        found = [*said, f"{checkers} of the 2 checkers found the mistake that is there to be found"]
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
