"""Charts in a browser: a hover says the table's number, a live plot is renewed in place."""

import base64
import io

import nbformat
import numpy as np
import pandas as pd
import pytest
from chapters import report
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from stills import add_stills

from compgpt_lib import charts

pytestmark = pytest.mark.slow
TABLE = pd.DataFrame(
    {
        "loss": [1.3127, 1.4084, 1.5],
        "low": [1.29, 1.38, np.nan],
        "high": [1.33, 1.43, np.nan],
        "parameters": [836_457, 540_137, 219_241],
        "ms": [54.25, 41.5, 20.125],
    },
    index=["gpt", "lc-gpt", "<img src=x onerror=alert(1)>"],
)
COSTS = {"parameters": "parameters (numbers to store)", "ms": "training time (ms a step)"}
MAKE = """
import io
import pandas as pd
from compgpt_lib import charts

table = pd.read_json(io.StringIO({table!r}))
charts.frontier(table, {costs!r}, list(table.index), counted=1.355)
"""


def chart():
    return charts.frontier(TABLE, COSTS, list(TABLE.index), counted=1.355)


def notebook_with_chart():
    data, metadata = chart()._repr_mimebundle_()
    output = new_output("display_data", data=data, metadata=metadata)
    cells = [new_markdown_cell("# A chapter"), new_code_cell("1", outputs=[output])]
    return new_notebook(cells=cells)


def test_a_saved_chart_has_a_still(browser):
    notebook = notebook_with_chart()
    add_stills(notebook)
    (output,) = notebook.cells[1].outputs
    png = base64.b64decode(output.data["image/png"])
    image = Image.open(io.BytesIO(png))
    assert image.size == (1050, 780) and len(image.getcolors()) > 20 and len(png) < 60_000
    assert output.data[charts.PLOTLY]["layout"]["updatemenus"]  # which print leaves out:
    assert len(image.convert("L").crop((0, 0, 1050, 70)).getcolors()) == 1
    assert output.metadata["image/png"]["alt"] == chart().alt


def test_a_report_is_live_without_a_network(browser, tmp_path):
    nbformat.write(notebook_with_chart(), tmp_path / "00_one.ipynb")
    page_path = tmp_path / "report.html"
    page_path.write_text(report([tmp_path / "00_one.ipynb"]), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    errors, requests = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append("a dialog") or dialog.dismiss())
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_path.as_uri())
    frame = page.frame_locator("iframe").first
    frame.locator("[role=img] .main-svg").first.wait_for()
    assert "gpt 1.313" in frame.locator("[role=img]").get_attribute("aria-label")
    points = frame.locator(".scatterlayer .points path")
    assert points.count() == len(TABLE)
    for index, (name, row) in enumerate(TABLE.iterrows()):
        box = points.nth(index).bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        hover = frame.locator(".hoverlayer .hovertext")
        hover.wait_for()
        said = hover.first.text_content()
        assert name.split("-")[0] in said and f"loss: {row.loss:.3f}" in said
        assert ("interval" in said) == bool(np.isfinite(row.low))
        assert f"{row.parameters:,.0f}" in said and f"{row.ms:.4g}" in said
        page.mouse.move(5, 5)
        hover.wait_for(state="detached")
    frame.locator(".updatemenu-button", has_text="training time").click()
    frame.locator(".xtitle", has_text="training time (ms a step)").wait_for()
    assert errors == [] and {url.partition(":")[0] for url in requests} <= {"file", "data", "about"}
    page.close()


def test_a_chart_in_jupyterlab(open_notebook):
    notebook = open_notebook("charts", MAKE.format(table=TABLE.iloc[:2].to_json(), costs=COSTS))
    figure = notebook.page.locator(".jp-RenderedPlotly").first
    figure.locator(".main-svg").first.wait_for()
    point = figure.locator(".scatterlayer .points path").nth(1)
    point.hover(force=True)
    said = figure.locator(".hoverlayer .hovertext").first.text_content()
    assert "lc-gpt" in said and "loss: 1.408, interval 1.380 to 1.430" in said
    notebook.keep("charts")
    assert notebook.errors == []


LIVE = """
import time
import pandas as pd
from compgpt_lib.charts import LivePlot

plot = LivePlot()
history = pd.DataFrame(
    {"step": range(1, 21), "train_loss": [3 / n for n in range(1, 21)], "valid_loss": 2.0}
)
for n in range(1, 21):
    plot(history[:n])
    time.sleep(0.5)
"""
WATCH = """
() => {
  window.frames_seen = window.frames_without = 0;
  window.top_moved = 0;
  let top = null;
  const look = () => {
    const plot = document.querySelector(".jp-RenderedPlotly .main-svg");
    const box = plot?.getBoundingClientRect();
    window.frames_seen += 1;
    if (!box || box.height < 100) window.frames_without += 1;
    else {
      if (top !== null && Math.abs(box.top - top) > 1) window.top_moved += 1;
      top = box.top;
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}
"""


def test_a_live_plot_is_renewed_in_place_and_does_not_flicker(open_notebook):
    notebook = open_notebook("live", LIVE)
    page = notebook.page
    page.locator(".jp-RenderedPlotly .main-svg").first.wait_for()
    page.evaluate(WATCH)
    whole = "document.querySelector('.jp-OutputArea .js-plotly-plot')?.data[0].x.length == 20"
    page.wait_for_function(whole)
    figure = page.locator(".jp-RenderedPlotly")
    assert figure.count() == 1
    seen, without, moved = page.evaluate(
        "[window.frames_seen, window.frames_without, window.top_moved]"
    )
    print(seen, without, moved)
    assert seen > 20 and without <= 20 and moved == 0  # a frame for each renewal at most
    notebook.keep("live")
    assert notebook.errors == []
