"""The process one scenario runs in: ``python -m benchmarks.worker '{"client": ..., "scenario": ...}'``.

The last line it prints is JSON: figures, or why there are none. With ``profile`` the measured part
runs under cProfile and the functions that took most are printed to standard error.
"""

from __future__ import annotations

import asyncio
import cProfile
import importlib
import json
import pstats
import sys
import traceback
from typing import Any

from . import meter
from .client import Client, NotOffered


async def _measure(order: dict[str, Any]) -> dict[str, float]:
    from .scenarios import SCENARIOS

    client: Client = getattr(importlib.import_module(order["module"]), order["client"])()
    return await SCENARIOS[order["scenario"]](client, order["server"], **order["given"])


def _profiled(order: dict[str, Any]) -> dict[str, float]:
    meter.profile = cProfile.Profile()
    figures = asyncio.run(_measure(order))
    pstats.Stats(meter.profile, stream=sys.stderr).sort_stats("tottime").print_stats(order["profile"])
    return figures


def main() -> None:
    """Run the scenario that the command line describes."""
    order = json.loads(sys.argv[1])
    try:
        answer: dict[str, Any] = {
            "figures": _profiled(order) if order.get("profile") else asyncio.run(_measure(order))
        }
    except NotOffered:
        answer = {"figures": {}}
    except Exception as error:  # the boundary of the process: the row becomes err, with this as its reason
        traceback.print_exc()
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
