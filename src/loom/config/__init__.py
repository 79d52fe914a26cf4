"""Door: declarations, the plain values users write."""

from typing import TYPE_CHECKING

from .._door import hand_on

if TYPE_CHECKING:
    from ..policies.governance import GovernancePolicy
    from ..policies.profile import Runtime, RuntimeLimits
    from ..policies.rule_check import RuleCheck
    from ..safety.permissions import PermissionMode, PermissionRule
    from ..safety.veto import SafetyEvaluator, SafetyRule
    from .abilities import Files, Web
    from .model import Generation, Instructions, Model, Price
    from .models import FallbackModel, RoutedModel

__all__ = [
    "FallbackModel",
    "Files",
    "Generation",
    "GovernancePolicy",
    "Instructions",
    "Model",
    "PermissionMode",
    "PermissionRule",
    "Price",
    "RoutedModel",
    "RuleCheck",
    "Runtime",
    "RuntimeLimits",
    "SafetyEvaluator",
    "SafetyRule",
    "Web",
]

__getattr__ = hand_on(
    __name__,
    {
        "FallbackModel": ".models",
        "Files": ".abilities",
        "Generation": ".model",
        "GovernancePolicy": "..policies.governance",
        "Instructions": ".model",
        "Model": ".model",
        "PermissionMode": "..safety.permissions",
        "PermissionRule": "..safety.permissions",
        "Price": ".model",
        "RoutedModel": ".models",
        "RuleCheck": "..policies.rule_check",
        "Runtime": "..policies.profile",
        "RuntimeLimits": "..policies.profile",
        "SafetyEvaluator": "..safety.veto",
        "SafetyRule": "..safety.veto",
        "Web": ".abilities",
    },
)
