"""The live views: attention, width and branches of a model, a playground, charts that move."""

from compgpt_lib.widgets.attention import explore_attention
from compgpt_lib.widgets.branches import explore_branches
from compgpt_lib.widgets.dimensions import explore_dimensions
from compgpt_lib.widgets.moving import interact
from compgpt_lib.widgets.playground import playground

__all__ = [
    "explore_attention",
    "explore_branches",
    "explore_dimensions",
    "interact",
    "playground",
]
