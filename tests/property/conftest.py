"""Lets these tests use what the kernel's tests are played on."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "kernel"))
