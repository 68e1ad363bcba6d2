"""The paper's models mended and extended, one short class each: the open questions, tried."""

from __future__ import annotations

from compgpt_lib.models import Decoder
from compgpt_lib.variants import branches, narrow

VARIANTS: dict[str, type[Decoder]] = {
    value.name: value
    for module in (branches, narrow)
    for value in vars(module).values()
    if isinstance(value, type)
    and issubclass(value, Decoder)
    and value.__module__ == module.__name__
}
