"""The published numbers of the four models (arXiv 2404.14462)."""

from __future__ import annotations

import numpy as np
import pandas as pd

PAPER = pd.DataFrame(
    {
        "parameters (M)": [8.82, 6.19, 5.65, 5.65],
        "size (MB)": [33.66, 23.60, 21.54, 21.54],
        "training (min)": [25.35, 26.15, 20.68, 21.68],
    },
    index=pd.Index(["gpt", "p-gpt-1", "lc-gpt", "cc-gpt"], name="model"),
)
"""The published table (arXiv 2404.14462); p-gpt-1's time is the training time of p-gpt whole."""


_CURVES = """\
500   2.0621 2.2109 2.2284 2.2198 3.1185
1000  1.5155 1.6306 1.6825 1.7273 2.4795
2000  1.1748 1.2162 1.2254 1.2294 1.9876
3000  1.0770 1.1170 1.1202 1.1171 1.9051
4000  1.0267 1.0716 1.0640 1.0582 1.7106
5000  0.9961 1.0354 1.0318 1.0330 1.6494
6000  0.9691 1.0109 1.0096 1.0103 1.5779
7000  0.9585 0.9870 0.9820 0.9857 1.5481
8000  0.9420 0.9817 0.9719 0.9766 1.5096
9000  0.9259 0.9640 0.9572 0.9632 1.5027
10000 0.9105 0.9489 0.9432 0.9505 1.4901"""


PAPER_CURVES = pd.DataFrame(
    np.array([row.split() for row in _CURVES.splitlines()], dtype=float),
    columns=["step", "gpt", "p-gpt", "lc-gpt", "cc-gpt", "p-gpt-1"],
).set_index("step")
"""The published validation losses in nats per character, by iteration (arXiv 2404.14462)."""
