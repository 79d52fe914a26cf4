"""Reads the printed samples and runs them, top-level ``await`` and ``async for`` included."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_SAMPLE = re.compile(r"^## (?P<title>.+?)\n+```python\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)


def sample(seed: str, title: str) -> str:
    text = (_HERE / f"{seed}.md").read_text()
    found = {match["title"]: match["code"] for match in _SAMPLE.finditer(text)}
    return found[title]


def run_sample(code: str, **names: Any) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "sample", **names}
    compiled = compile(code, "sample", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if compiled.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(compiled, namespace))
    else:
        exec(compiled, namespace)
    return namespace
