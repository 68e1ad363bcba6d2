"""The live views: a forward pass, attention, width, branches, a playground, charts that move."""

from compgpt_lib.widgets.attention import explore_attention
from compgpt_lib.widgets.branches import explore_branches
from compgpt_lib.widgets.dimensions import explore_dimensions
from compgpt_lib.widgets.forward import explore_forward
from compgpt_lib.widgets.moving import interact
from compgpt_lib.widgets.playground import playground

__all__ = [
    "explore_attention",
    "explore_branches",
    "explore_dimensions",
    "explore_forward",
    "interact",
    "playground",
]
