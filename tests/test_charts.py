import json
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import NAMES, some_ids, tiny_model

from compgpt_lib import charts, evaluation
from compgpt_lib.charts import PLOTLY
from compgpt_lib.introspection import trace


def history(n=3):
    return pd.DataFrame(
        {"step": range(n), "tokens": range(n), "train_loss": 2.0, "valid_loss": 1.0}
    )


def table(**columns):
    rows = {"loss": [1.3, 1.4, 1.5], "low": [1.2, np.nan, 1.4], "high": [1.35, np.nan, 1.7]}
    return pd.DataFrame(rows | {"size": [30, 20, 10]} | columns, index=["gpt", "lc-gpt", "small"])


def bundle(chart):
    return chart._repr_mimebundle_()


def test_loss_curves_draw_each_run():
    chart = charts.loss_curves({"gpt": history(), "other": history(5)})
    assert chart.alt.endswith("gpt from 1.00 to 1.00, other from 1.00 to 1.00")
    assert [trace.name for trace in chart.figure.data] == ["gpt", "other"]
    assert [len(trace.x) for trace in chart.figure.data] == [3, 5]
    layout = chart.figure.layout
    assert layout.xaxis.title.text == "characters seen" and "nats" in layout.yaxis.title.text
    assert not layout.updatemenus


def test_loss_curves_against_another_column():
    runs = {"gpt": history().assign(seconds=[1.0, 2.0, 4.0])}
    chart = charts.loss_curves(runs, "A title", "seconds", "train_loss")
    (trace,) = chart.figure.data
    assert list(trace.x) == [1.0, 2.0, 4.0] and list(trace.y) == [2.0] * 3
    assert chart.figure.layout.xaxis.title.text == "seconds of training"
    assert chart.figure.layout.title.text == "A title"
    with pytest.raises(ValueError, match="histories must have the columns seconds"):
        charts.loss_curves({"gpt": history()}, against="seconds")


def test_a_button_shows_the_difference_from_a_baseline():
    runs = {"gpt": history(), "other": history().assign(valid_loss=[1.5, 1.25, 1.0])}
    chart = charts.loss_curves(runs, baseline="gpt")
    loss, difference = chart.figure.layout.updatemenus[0].buttons
    assert (loss.label, difference.label) == ("loss", "difference from gpt")
    assert difference.args[0]["y"] == [[0.0, 0.0, 0.0], [0.5, 0.25, 0.0]]
    assert loss.args[0]["y"] == [list(trace.y) for trace in chart.figure.data]
    with pytest.raises(ValueError, match="histories must have the baseline 'x', got gpt"):
        charts.loss_curves({"gpt": history()}, baseline="x")


def test_models_are_told_apart_without_colour():
    models = (*NAMES, "p-gpt-1", "gpt, 2 blocks")
    styles = [charts.STYLES[name] for name in models]
    assert len({color for color, _ in styles}) == len({dash for _, dash in styles}) == len(styles)


def test_a_live_plot_is_shown_once_and_then_renewed_and_another_run_has_its_own(monkeypatch):
    events = []

    class Handle:
        def update(self, chart, raw=False):
            events.append("gap" if raw else len(chart.figure.data[1].x))

    def display(chart, display_id):
        events.append("new")
        return Handle()

    monkeypatch.setattr(charts, "display", display)
    plot = charts.LivePlot()
    for n in (1, 2, 3, 1, 2):
        plot(history(n))
    assert events == ["new", "gap", 2, "gap", 3, "new", "gap", 2]


def test_a_live_plot_has_a_line_for_counting(monkeypatch):
    shown = []
    monkeypatch.setattr(charts, "display", lambda chart, display_id: shown.append(chart))
    charts.LivePlot(counted=1.355)(history(3))
    (line,) = shown[0].figure.layout.shapes
    assert line.y0 == line.y1 == 1.355 and shown[0].alt.endswith("; a table of counts has 1.355")
    charts.LivePlot()(history(3))
    assert not shown[1].figure.layout.shapes


def test_a_live_study_draws_a_point_for_each_trial(monkeypatch):
    charts_shown = []
    monkeypatch.setattr(charts, "display", lambda chart, display_id: charts_shown.append(chart))
    rows = pd.DataFrame(
        {
            "trial": ["a", "a", "b", "c", "c"],
            "label": ["gpt", "gpt", "gpt", "p-gpt", "p-gpt"],
            "part": ["whole", "whole", "whole", "whole", "first"],
            "step": [1, 2, 2, 2, 2],
            "seed": [0, 0, 1, 0, 0],
            "learning_rate": 0.003,
            "parameters": [10, 10, 10, 20, 8],
            "valid_loss": [3.0, 1.5, 1.7, 1.6, 2.0],
        }
    )
    charts.LiveStudy()(rows)
    gpt, p = charts_shown[0].figure.data
    assert list(gpt.y) == [1.5, 1.7] and list(p.y) == [1.6] and list(p.x) == [20]
    assert charts_shown[0].alt == "How 3 trials ended: gpt 1.600, p-gpt 1.600"
    with pytest.raises(ValueError, match="against must be one of parameters, learning_rate"):
        charts.LiveStudy("size")


def test_the_frontier_has_every_number_of_its_table():
    sizes = {"size": "size (numbers)", "time": "time (ms)"}
    own = table(time=[1.0, 2.0, 3.0]).iloc[[1]].rename(index={"lc-gpt": "<b>mine"})
    chart = charts.frontier(table(time=[9, 8, 7]), sizes, ["small", "gpt"], counted=1.45, own=own)
    line, *points = chart.figure.data
    assert list(line.x) == [10, 30] and list(line.y) == [1.5, 1.3] and line.mode == "lines"
    assert [list(point.x) for point in points] == [[30], [20], [10], [20]]
    gpt, lc, _, mine = points
    assert gpt.hovertemplate.startswith("gpt<br>loss: 1.300, interval 1.200 to 1.350<br>size")
    assert gpt.error_y.array[0] == pytest.approx(0.05)
    assert gpt.error_y.arrayminus[0] == pytest.approx(0.1)
    assert "interval" not in lc.hovertemplate and list(lc.error_y.array) == [0]
    assert mine.marker.symbol == "star" and mine.name == "&lt;b&gt;mine"
    first, second = chart.figure.layout.updatemenus[0].buttons
    assert second.label == "time" and second.args[0]["x"] == [[7, 9], [9], [8], [7], [2.0]]
    assert second.args[1] == {"xaxis.title.text": "time (ms)"}
    assert chart.figure.layout.shapes[0].y0 == 1.45 and "counts has 1.450" in chart.alt
    with pytest.raises(ValueError, match="own must have the columns high, loss, low, size"):
        charts.frontier(table(), {"size": "size"}, own=pd.DataFrame(index=["x"]))


def test_the_line_of_plain_models_leaves_out_what_a_cheaper_one_beats():
    models = table(size=[10, 20, 30]).assign(loss=[1.5, 1.2, 1.4])
    line = charts.frontier(models, {"size": "size"}, list(models.index)).figure.data[0]
    assert list(line.x) == [10, 20] and list(line.y) == [1.5, 1.2]


def test_bars_reach_from_low_to_high():
    values = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=["one", "two"])
    chart = charts.bars(values, values - 0.5, values + 0.25)
    assert [bar.name for bar in chart.figure.data] == ["a", "b"]
    assert list(chart.figure.data[1].y) == [3.0, 4.0]
    assert list(chart.figure.data[0].error_y.array) == [0.25, 0.25]
    assert list(chart.figure.data[0].error_y.arrayminus) == [0.5, 0.5]
    assert "two: a 2.00, b 4.00" in chart.alt
    barmodes = [charts.bars(values, stacked=one).figure.layout.barmode for one in (False, True)]
    assert barmodes == ["group", "stack"]


def test_bars_need_no_intervals_and_keep_rows_of_one_name_apart():
    values = pd.DataFrame({"first branch": [1.0, 2.0]}, index=["a", "a"])
    (bar,) = charts.bars(values, y="push").figure.data
    assert list(bar.x) == [0, 1] and list(bar.customdata) == ["a", "a"] and not bar.error_y.visible
    with pytest.raises(ValueError, match="highs must have the rows and columns of table"):
        charts.bars(values, values, values.iloc[:1])


def test_points_have_names():
    rows = pd.DataFrame({"rank": [1, 2], "count": [90, 7]}, index=["e", "<"])
    chart = charts.points(rows, "rank", "count", log=True)
    (trace_,) = chart.figure.data
    assert list(trace_.text) == ["e", "&lt;"] and list(trace_.y) == [90, 7]
    assert chart.figure.layout.xaxis.type == "log" and chart.alt.endswith("90 at 1 to 7 at 2")


def test_a_heatmap_is_its_table():
    rows = pd.DataFrame({"next": [0.31, 0.45], "1 back": [0.29, 0.81]}, index=["a", "b"])
    chart = charts.heatmap(rows, "what", "where", "share")
    (map_,) = chart.figure.data
    assert [list(row) for row in map_.z] == rows.to_numpy().tolist()
    assert list(map_.x) == ["next", "1 back"] and "b: next 0.45, 1 back 0.81" in chart.alt


def test_an_attention_map_names_who_looks_at_whom():
    weights = torch.tensor([[1.0, 0, 0], [0.25, 0.75, 0], [0.9, 0, 0.1]])
    chart = charts.attention_map(weights, "a a")
    (map_,) = chart.figure.data
    assert np.allclose(map_.z, weights)
    assert list(chart.figure.layout.xaxis.ticktext) == ["a", "␣", "a"]
    assert (
        list(map_.customdata[2][0]) == ["a at 2", "a at 0"] and "a at 2 most at a at 0" in chart.alt
    )
    with pytest.raises(ValueError, match="text must have 3 characters, got 2"):
        charts.attention_map(weights, "ab")


def test_an_icicle_adds_up():
    chart = charts.icicle({"gpt": {"head": 3, "blocks": 4}, "lc": {"head": 1}}, "parameters")
    first, second = chart.figure.data
    assert list(first.labels) == ["gpt", "head", "blocks"] and list(second.labels) == ["lc", "head"]
    assert list(first.values) == [7, 3, 4] and list(first.parents) == ["", "0", "0"]
    heights = [np.ptp(trace.domain.y) for trace in (first, second)]
    assert heights == pytest.approx([7 / 8, 1 / 8])  # one scale for both
    assert "gpt: head 3, blocks 4; lc: head 1" in chart.alt


def test_spectra_are_shares_of_variance_by_the_names_of_people():
    record = trace(tiny_model("lc-gpt"), some_ids(1, 16)[0])
    lines = charts.spectra(record).figure.data
    assert [line.name.rpartition(" (")[0] for line in lines] == [
        *("embedding", "stage 1, block 1", "stage 1, block 2", "after the first compression"),
        *("stage 2, block 1", "stage 2, block 2", "after the second compression"),
    ]
    for line in lines:
        values = np.asarray(line.y)
        assert np.isclose(values.sum(), 1, atol=0.01) and (np.diff(values) <= 1e-9).all()


def test_what_is_kept_of_a_chart_is_small_and_has_words(monkeypatch):
    data, about = bundle(charts.loss_curves({"gpt": history(200)}))
    assert set(data) == {PLOTLY, "text/plain"} and about[PLOTLY]["alt"].startswith("Loss in nats")
    said = json.dumps(data)
    assert len(said) < 12_000 and "bdata" not in said  # older pages cannot read packed numbers
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("colab"))
    data, _ = bundle(charts.loss_curves({"gpt": history()}))
    assert "<script" in data["text/html"] and len(data["text/html"]) < 50_000
    with pytest.raises(ValueError, match="alt must say what the picture shows"):
        charts.Chart(charts.loss_curves({}).figure, " ")


def compared():
    losses = pd.DataFrame(
        {"gpt": [1.3, 1.31, 1.33], "lc-gpt": [1.4, 1.42, 1.41], "<b>lc-gpt, x": [1.2, 1.4, 1.3]}
    )
    return evaluation.compare(losses, "gpt")


def test_intervals_show_each_difference_and_never_the_baseline():
    table = compared()
    figure = charts.intervals(table, "difference from gpt (nats)", limit=0.02).figure
    (points,) = figure.data
    assert list(points.y) == ["lc-gpt", "&lt;b&gt;lc-gpt, x"]  # the lowest difference on top
    assert points.x[0] == pytest.approx(table.difference["lc-gpt"], abs=1e-4)
    reach = points.x[0] + points.error_x.array[0], points.x[0] - points.error_x.arrayminus[0]
    assert reach == pytest.approx((table.high["lc-gpt"], table.low["lc-gpt"]), abs=1e-3)
    assert [shape.x0 for shape in figure.layout.shapes] == [0, 0.02]
    assert points.customdata[0][1] == "higher"
    assert points.marker.color[0] == charts.style("lc-gpt")[0]
    with pytest.raises(ValueError, match="must have the columns difference, high, low, .*verdict"):
        charts.intervals(pd.DataFrame({"loss": [1.0]}), "x")


def test_a_failed_training_has_a_point_without_an_interval():
    losses = pd.DataFrame({"a": [1.0, 2.0], "b": [1.0, float("inf")]})
    (points,) = charts.intervals(evaluation.compare(losses, "a"), "x").figure.data
    assert list(points.error_x.array) == [0] and points.customdata[0][1] == "a training failed"


def test_lines_reach_from_low_to_high():
    table = pd.DataFrame({"gpt": [1.0, 2.0], "own": [3.0, 4.0]}, index=[10, 100])
    figure = charts.lines(table, "size", "loss (nats)", table - 0.1, table + 0.2, log=True).figure
    one, _ = figure.data
    assert list(one.x) == [10, 100] and list(one.y) == [1, 2]
    assert list(one.error_y.array) == pytest.approx([0.2, 0.2])
    assert list(one.error_y.arrayminus) == pytest.approx([0.1, 0.1])
    assert figure.layout.xaxis.type == "log"
    plain = charts.lines(table.rename(index=str), "size", "loss (nats)").figure
    assert plain.layout.xaxis.type != "log" and not plain.data[0].error_y.visible
    with pytest.raises(ValueError, match="low must have the rows and columns"):
        charts.lines(table, "size", "loss", table.iloc[:1], table)
