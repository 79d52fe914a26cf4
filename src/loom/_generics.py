"""The type variables of what users see: what a run answers with, and what its tools are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import TypeVar

    OutputT = TypeVar("OutputT", default=str)
    DepsT = TypeVar("DepsT", default=Any)
else:
    from typing import TypeVar

    OutputT = TypeVar("OutputT")
    DepsT = TypeVar("DepsT")
