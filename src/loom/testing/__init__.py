"""Door: what tests of agents are made of. Public, so that users test the way we do."""

from typing import TYPE_CHECKING

from .._door import hand_on

if TYPE_CHECKING:
    from .clock import FrozenClock
    from .human import ScriptedHuman
    from .model_server import ModelServer
    from .recording import RecordingProvider, record
    from .replaying import ReplayProvider, replay
    from .scripted import ScriptedProvider, call, interrupted, say, stalled
    from .store_contract import StoreContract

__all__ = [
    "FrozenClock",
    "ModelServer",
    "RecordingProvider",
    "ReplayProvider",
    "ScriptedHuman",
    "ScriptedProvider",
    "StoreContract",
    "call",
    "interrupted",
    "record",
    "replay",
    "say",
    "stalled",
]

__getattr__ = hand_on(
    __name__,
    {
        "FrozenClock": ".clock",
        "ModelServer": ".model_server",
        "RecordingProvider": ".recording",
        "ReplayProvider": ".replaying",
        "ScriptedHuman": ".human",
        "ScriptedProvider": ".scripted",
        "StoreContract": ".store_contract",
        "call": ".scripted",
        "interrupted": ".scripted",
        "record": ".recording",
        "replay": ".replaying",
        "say": ".scripted",
        "stalled": ".scripted",
    },
)
