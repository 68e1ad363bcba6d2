"""A model once more without its weights once more: a deep copy would hold them twice."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def apart(module: Module) -> Module:
    """Return a module in evaluation mode, of parts of its own that share the weights."""
    own = copy.copy(module)
    own._modules = {name: part and apart(part) for name, part in module._modules.items()}
    own._forward_hooks = copy.copy(module._forward_hooks)  # so that `trace` may add its own
    own._forward_pre_hooks = copy.copy(module._forward_pre_hooks)
    own.training = False
    return own
