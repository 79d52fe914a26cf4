"""The promises of ``SessionStore`` as tests that any adapter's author can run.

With pytest and pytest-asyncio in auto mode::

    from loom.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        def make_store(self, directory):
            return MyStore(directory / "sessions.db")

Nothing here imports pytest. If the store's class says that it is ``durable``, ``make_store`` must open the
same sessions when it is called again with the same folder, in this process or another; what only a durable
store can promise is asked of no other. For asserts that explain themselves, put
``pytest.register_assert_rewrite("loom.testing.store_contract")`` at the top of your ``conftest.py``.
"""

from __future__ import annotations

from .events import EventPromises
from .inbox import InboxPromises
from .leases import LeasePromises
from .listing import ListingPromises
from .outputs import OutputPromises
from .processes import ProcessPromises
from .records import RecordPromises
from .samples import every_event

__all__ = ["StoreContract", "every_event"]


class StoreContract(
    EventPromises,
    LeasePromises,
    InboxPromises,
    OutputPromises,
    RecordPromises,
    ListingPromises,
    ProcessPromises,
):
    """Every promise. Subclass it with a name that pytest collects, and implement ``make_store``.

    A store that keeps nothing but what the seeds' three record methods take may set ``keeps_rows`` to False.
    """
