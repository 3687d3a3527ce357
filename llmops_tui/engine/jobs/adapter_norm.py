"""How large an adapter is. A norm that stays the same while there is a learning rate says that nothing is learnt."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel


class AdapterNorm:
    """Of one model, once it is placed and wrapped as it will be trained."""

    def __init__(self, model: Any) -> None:
        """Finding the weights among thousands costs more than their norm, so it is done once."""
        adapted = isinstance(model, PeftModel)
        self._weights = [weight.detach() for weight in model.parameters() if weight.requires_grad] if adapted else []

    def now(self) -> float | None:
        """The norm of all that is trained; None where that is the model itself. Among several ranks a collective call."""
        if not self._weights:
            return None
        total: Any = torch.nn.utils.get_total_norm(self._weights)
        return float(total.full_tensor() if hasattr(total, "full_tensor") else total)  # sharded weights have their norm in parts
