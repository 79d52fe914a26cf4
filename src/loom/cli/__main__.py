"""``python -m loom.cli`` is the ``loom`` command."""

import sys

from . import main

sys.exit(main())
