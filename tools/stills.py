"""Pictures of plotly where no kernel runs: a PNG in a saved notebook, the live figure in a page."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import shutil
from typing import Any

import plotly.graph_objects as go
from PIL import Image
from plotly.offline import get_plotlyjs

from compgpt_lib.charts import PLOTLY

# Once in a page, to be run by each of its frames that has figures.
PLOTLY_SCRIPT = f'<script id="plotly" type="text/plain">{get_plotlyjs()}</script>'
FROM_PARENT = '<script>(0, eval)(parent.document.getElementById("plotly").textContent)</script>'


def add_stills(notebook: Any) -> None:
    """Put a PNG beside each figure of plotly: what GitHub, nbviewer and print show.

    Raises an error of kaleido's where there is no Chrome to draw it with.
    """
    if chromium := shutil.which("chromium"):  # Debian's, which kaleido does not find by itself
        os.environ.setdefault("BROWSER_PATH", chromium)
    for output in _charts(notebook):
        figure = go.Figure(dict(output.data[PLOTLY]))
        if figure.layout.updatemenus:
            figure.layout.updatemenus = ()  # a button in print does nothing
            figure.layout.margin.t = 50
        image = Image.open(io.BytesIO(figure.to_image("png", scale=1.5))).convert("RGB")
        png = io.BytesIO()  # a palette is enough for lines and bars, and a third of the bytes
        image.quantize(128).save(png, "png", optimize=True)
        output.data["image/png"] = base64.b64encode(png.getvalue()).decode() + "\n"
        output.metadata["image/png"] = {"alt": _alt(output)}


def add_live(notebook: Any) -> bool:
    """Put the live figure itself, as HTML, beside each figure; say whether there was any.

    The page needs plotly's JavaScript: `FROM_PARENT` where a page around it has `PLOTLY_SCRIPT`.
    """
    outputs = _charts(notebook)
    for number, output in enumerate(outputs):
        figure = json.dumps(output.data[PLOTLY]).replace("</", "<\\/")
        label = html.escape(_alt(output), quote=True)
        output.data["text/html"] = (
            f'<div id="chart{number}" role="img" aria-label="{label}"></div><script>'
            f'{{const f = {figure}; Plotly.newPlot("chart{number}", f.data, f.layout)}}</script>'
        )
    return bool(outputs)


def _charts(notebook: Any) -> list[Any]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output for output in outputs if PLOTLY in output.get("data", {})]


def _alt(output: Any) -> str:
    return str(output.get("metadata", {}).get(PLOTLY, {}).get("alt", ""))
