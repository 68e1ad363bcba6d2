"""Pictures to poke at, in plotly: a hover names the point, a button changes what is shown.

What notebooks keep beside them for pages where nothing runs, a PNG, is made when they are saved.
"""

from __future__ import annotations

import html
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from IPython.display import display
from plotly.colors import sample_colorscale
from torch import Tensor

from compgpt_lib.figures import visible
from compgpt_lib.introspection import Trace
from compgpt_lib.measures import spectrum
from compgpt_lib.plans import finals
from compgpt_lib.support import checks
from compgpt_lib.support.checks import Real, Shape, checked

PLOTLY = "application/vnd.plotly.v1+json"
# Okabe and Ito's palette: told apart with any colour vision, and by dashes in grey print.
STYLES = {
    "gpt": ("#000000", "solid"),
    "p-gpt": ("#0072B2", "dash"),
    "p-gpt-1": ("#56B4E9", "dot"),
    "lc-gpt": ("#D55E00", "dashdot"),
    "cc-gpt": ("#009E73", "longdashdot"),
    "gpt, 2 blocks": ("#777777", "longdash"),  # plain gpts are black and grey
    "gpt, width 100": ("#999999", "solid"),
    "gpt, width 306": ("#999999", "solid"),
    "gpt, width 64": ("#BBBBBB", "solid"),
    "cc-gpt, kernel 3": ("#44CFA5", "solid"),
    "wide stream": ("#5D3A9B", "solid"),
    "yours": ("#CC79A7", "solid"),
    "first branch": ("#0072B2", "solid"),  # p-gpt's own blue, and its other half
    "second branch": ("#E69F00", "solid"),
    "cut": ("#C0C0C0", "solid"),  # what a sampler leaves out
}
_SYMBOLS = (
    *("circle", "square", "hexagon", "x", "triangle-up", "diamond", "cross", "pentagon"),
    *("triangle-left", "triangle-down", "hourglass", "bowtie"),
)
_COUNTED, _OWN = "#8F7700", "#CC79A7"
_OTHERS = ("#AA3377", "#117733", "#882255", "#B8860B")
UNITS = {
    "step": "step",
    "tokens": "characters seen",
    "seconds": "seconds of training",
    "learning_rate": "learning rate",
    "parameters": "parameters",
    "train_loss": "training",
    "valid_loss": "validation",
}
NATS = "loss (nats per character)"
_LAYOUT = dict(
    template="none",
    width=700,
    height=420,
    margin=dict(l=70, r=20, t=50, b=55),
    font=dict(size=13, color="#222222"),
    paper_bgcolor="#ffffff",
    plot_bgcolor="#ffffff",
    hovermode="closest",
)
_GRID = dict(
    gridcolor="#dddddd", zeroline=False, showline=True, linecolor="#777777", automargin=True
)
_LOG = dict(type="log", dtick=1, exponentformat="power")

Histories = Annotated[Mapping[str, pd.DataFrame], "a dict from names to histories"]
Table = Annotated[pd.DataFrame, "a table of pandas"]


class Chart:
    """A figure of plotly with what it shows in words, for those who cannot see it: its `alt`."""

    @checked
    def __init__(
        self,
        figure: Annotated[go.Figure, "a figure of plotly"],
        alt: Annotated[str, "what the picture shows, in words"],
    ) -> None:
        if not alt.strip():
            raise ValueError("alt must say what the picture shows, got an empty text")
        self.figure, self.alt = figure, alt

    def __repr__(self) -> str:
        return f"Chart({self.figure.layout.width} x {self.figure.layout.height})"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # Colab shows plotly's pages only, which fetch its JavaScript; all others know the figure.
        renderer = "colab" if "google.colab" in sys.modules else "plotly_mimetype"
        data = pio.renderers[renderer].to_mimebundle(self.figure.to_dict())
        return data | {"text/plain": repr(self)}, {PLOTLY: {"alt": self.alt}}


def style(name: str, number: int = 0) -> tuple[str, str]:
    """Return the colour and the dash of a model's line; of any other name, one by its number."""
    return STYLES.get(name, (_OTHERS[number % len(_OTHERS)], "solid"))


def _family(name: str, number: int = 0) -> str:
    """Return the colour of a model's point: a variant has that of the model it varies."""
    if name == "counting":
        return _COUNTED
    return STYLES.get(name, STYLES.get(name.split(",")[0], style(name, number)))[0]


def _colors(names: Sequence[str]) -> list[str]:
    """Return a colour for each line: its family's, unless another line has that."""
    families = [name.split(",")[0] for name in names]
    return [
        style(name, number)[0] if families.count(family) > 1 else _family(name, number)
        for number, (name, family) in enumerate(zip(names, families, strict=True))
    ]


def _symbol(name: str, number: int) -> str:
    place = list(STYLES).index(name) if name in STYLES else number
    return _SYMBOLS[place % len(_SYMBOLS)]


def plain(name: Any) -> str:
    """Return a name as text: plotly reads tags, and %{ } as a number to fill in."""
    return html.escape(str(name), quote=False).replace("%{", "% {")


def _figure(x: str, y: str, title: str = "", **layout: Any) -> go.Figure:
    axes = dict(xaxis=dict(title=x, **_GRID), yaxis=dict(title=y, **_GRID))
    return go.Figure(layout=_LAYOUT | axes | dict(title=dict(text=title)) | layout)


@checked
def loss_curves(
    histories: Histories,
    title: str = "",
    against: str = "tokens",
    loss: str = "valid_loss",
    baseline: str | None = None,
) -> Chart:
    """Draw the losses of several runs, in nats per character, against a column of their history.

    With a `baseline`, one of the runs, a button shows each run's difference from it instead. Raises
    ValueError for a column that a history lacks.
    """
    for history in histories.values():
        if missing := {against, loss} - set(history.columns):
            raise ValueError(f"histories must have the columns {', '.join(sorted(missing))}")
    figure = _figure(UNITS.get(against, against), NATS, title)
    colors = _colors([*map(str, histories)])
    for number, (name, history) in enumerate(histories.items()):
        color, dash = colors[number], style(name, number)[1]
        figure.add_scatter(
            x=history[against].tolist(),
            y=history[loss].round(4).tolist(),
            name=plain(name),
            mode="lines+markers",
            line=dict(color=color, dash=dash),
            marker=dict(color=color, size=6),
            hovertemplate=f"{plain(name)}<br>%{{x:,}} {UNITS.get(against, against)}<br>"
            "%{y:.3f} nats<extra></extra>",
        )
    if baseline is not None:
        if baseline not in histories:
            names = ", ".join(map(str, histories))
            raise ValueError(f"histories must have the baseline {baseline!r}, got {names}")
        _with_differences(figure, histories, loss, baseline)
    runs = ", ".join(f"{name} {_way(history[loss])}" for name, history in histories.items())
    where = UNITS.get(against, against)
    return Chart(figure, f"Loss in nats per character against {where}: {runs}")


def _with_differences(
    figure: go.Figure, histories: Mapping[str, pd.DataFrame], loss: str, baseline: str
) -> None:
    own = [list(trace.y) for trace in figure.data]
    base = histories[baseline][loss].reset_index(drop=True)
    less = [
        (history[loss].reset_index(drop=True) - base).round(4).tolist()
        for history in histories.values()
    ]
    words = f"difference from {baseline} (nats per character)"
    _switch(
        figure,
        {
            "loss": [{"y": own}, {"yaxis.title.text": NATS}],
            f"difference from {baseline}": [{"y": less}, {"yaxis.title.text": words}],
        },
    )


def _switch(figure: go.Figure, choices: Mapping[str, list[Any]]) -> None:
    """Put a row of buttons above a figure; each changes traces and layout as plotly's `update`."""
    buttons = [
        dict(label=label, method="update", args=changes) for label, changes in choices.items()
    ]
    menu = dict(type="buttons", direction="right", x=0, xanchor="left", y=1.02, yanchor="bottom")
    title = dict(y=1, yref="container", yanchor="top", pad_t=12)
    figure.update_layout(updatemenus=[menu | dict(buttons=buttons)], title=title)
    figure.update_layout(margin_t=100 if figure.layout.title.text else 60)


def _way(values: pd.Series) -> str:
    if values.empty:
        return "without values"
    return f"from {values.iloc[0]:.2f} to {values.iloc[-1]:.2f}"


def renew(place: Any, chart: Chart) -> None:
    """Draw a chart in the place of another one, which `display(..., display_id=True)` returned.

    JupyterLab's renderer of plotly keeps the figure that it has, whatever it is given, so that an
    empty page of the same height goes before each new one; both are there before it draws.
    """
    gap = f"<div style='height: {chart.figure.layout.height}px'></div>"
    place.update({"text/html": gap}, raw=True)
    place.update(chart)


class _Live:
    """A chart in a notebook that is renewed in place."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._rows = 0

    def _show(self, chart: Chart, rows: int) -> None:
        """Draw a chart in place of the one before; fewer rows are another run, with its own."""
        if rows <= self._rows:
            self._handle = None
        self._rows = rows
        if self._handle is None:
            self._handle = display(chart, display_id=True)
        else:
            renew(self._handle, chart)


class LivePlot(_Live):
    """A plot in a notebook that grows while a model trains: pass it to `train` as `watch`.

    `counted` is the loss of a table of counts, a line across.
    """

    @checked
    def __init__(self, counted: Annotated[float, Real(above=0)] | None = None) -> None:
        super().__init__()
        self.counted = counted

    def __call__(self, history: pd.DataFrame) -> None:
        """Draw the history so far."""
        figure = _figure("step", NATS, height=340)
        for column, color in (("train_loss", "#999999"), ("valid_loss", "#000000")):
            figure.add_scatter(
                x=history.step.tolist(),
                y=history[column].round(4).tolist(),
                name=UNITS[column],
                mode="lines+markers",
                line_color=color,
                hovertemplate=f"{UNITS[column]}<br>step %{{x:,}}<br>%{{y:.3f}} nats<extra></extra>",
            )
        chart = Chart(
            figure,
            f"Loss in nats per character against steps: training {_way(history.train_loss)}, "
            f"validation {_way(history.valid_loss)}{_add_counted(figure, self.counted)}",
        )
        self._show(chart, len(history))


class LiveStudy(_Live):
    """A plot in a notebook that grows while a study runs: pass it to `run_study` as `watch`.

    `against` is "parameters" or "learning_rate".
    """

    @checked
    def __init__(self, against: Literal["parameters", "learning_rate"] = "parameters") -> None:
        super().__init__()
        self.against = against

    def __call__(self, rows: pd.DataFrame) -> None:
        """Draw how the trials so far ended: a point for each, the lone branches left out."""
        last = finals(rows)
        last = last[last.part == "whole"]
        figure = _figure(UNITS.get(self.against, self.against), NATS, height=340)
        for number, (label, group) in enumerate(last.groupby("label", sort=False)):
            figure.add_scatter(
                x=group[self.against].tolist(),
                y=group.valid_loss.round(4).tolist(),
                name=plain(label),
                mode="markers",
                marker=dict(color=style(str(label), number)[0], size=8),
                customdata=group[["seed", "learning_rate"]].values.tolist(),
                hovertemplate=f"{plain(label)}, seed %{{customdata[0]}}, rate %{{customdata[1]:g}}"
                "<br>%{y:.3f} nats<extra></extra>",
            )
        means = last.groupby("label", sort=False).valid_loss.mean()
        told = ", ".join(f"{label} {mean:.3f}" for label, mean in means.items())
        self._show(Chart(figure, f"How {len(last)} trials ended: {told}"), len(last))


@checked
def frontier(
    table: Table,
    costs: Annotated[Mapping[str, str], "a dict from columns to their words"],
    line: Annotated[Sequence[str], "a list of models"] = (),
    counted: Annotated[float, Real(above=0)] | None = None,
    own: Table | None = None,
    title: str = "",
) -> Chart:
    """Draw each model's loss against what it costs, with its interval; a button for each cost.

    `table` has a row for each model: loss, low and high (the ends of the interval, NaN for none)
    in nats per character, and the columns of `costs`, a dict from columns to the words of their
    axes. `line` names plain models in several sizes; those are joined that no cheaper one of them
    beats. `counted` is the loss of a table of counts, a line across. `own` has rows of the reader's
    own models.
    """
    columns = ["loss", "low", "high", *costs]
    for name, part in {"table": table, "own": own}.items():
        if part is not None and (missing := set(columns) - set(part.columns)):
            raise ValueError(f"{name} must have the columns {', '.join(sorted(missing))}")
    if not costs:
        raise ValueError("costs must name a column of the table, got none")
    if strangers := set(line) - set(table.index):
        raise ValueError(f"line must name models of the table, got {checks.short(strangers)}")
    every = table if own is None else pd.concat([table, own])
    views: dict[str, list[Any]] = {
        words.split(" (")[0]: [
            _places(every, table.loc[list(line)], column),
            {"xaxis.title.text": words},
        ]
        for column, words in costs.items()
    }
    figure = _figure("", NATS, title, height=520)
    figure.add_scatter(name="plain gpts", mode="lines", line_color="#000000", hoverinfo="skip")
    for number, name in enumerate(every.index):
        figure.add_trace(_point(str(name), every.iloc[number], costs, number, number >= len(table)))
    traces, layout = next(iter(views.values()))
    for number, trace in enumerate(figure.data):
        trace.update({name: values[number] for name, values in traces.items()})
    figure.update_layout(layout)
    counts = _add_counted(figure, counted)
    if len(views) > 1:
        _switch(figure, views)
    told = ", ".join(f"{name} {table.loss[name]:.3f}" for name in table.index)
    against = next(iter(costs.values()))
    return Chart(figure, f"Loss in nats per character against {against}: {told}{counts}")


def _add_counted(figure: go.Figure, counted: float | None) -> str:
    """Draw the loss of a table of counts as a line across, if given; return it in words."""
    if counted is None:
        return ""
    figure.add_hline(
        y=counted,
        line=dict(color=_COUNTED, dash="dot"),
        annotation=dict(text=f"counted characters: {counted:.3f}", font_color="#6b5900"),
        annotation_position="top left",
    )
    return f"; a table of counts has {counted:.3f}"


def _places(every: pd.DataFrame, joined: pd.DataFrame, cost: str) -> dict[str, list[Any]]:
    """Return where the line and each point stand."""
    best = _undominated(joined, cost)
    return {
        "x": [best[cost].tolist(), *([value] for value in every[cost].tolist())],
        "y": [best.loss.tolist(), *([value] for value in every.loss.round(4).tolist())],
    }


def _undominated(models: pd.DataFrame, cost: str) -> pd.DataFrame:
    """Return the models that have the lowest loss of all that cost no more, the cheapest first."""
    models = models.sort_values([cost, "loss"])
    return models[models.loss < models.loss.cummin().shift(fill_value=math.inf)]


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"


def _point(
    label: str, row: pd.Series, costs: Mapping[str, str], number: int, own: bool
) -> go.Scatter:
    name, color = plain(label), _OWN if own else _family(label, number)
    interval = f", interval {row.low:.3f} to {row.high:.3f}" if pd.notna(row.low) else ""
    rest = "".join(f"<br>{words}: {_short(row[column])}" for column, words in costs.items())
    above, below = row.high - row.loss, row.loss - row.low
    return go.Scatter(
        name=name,
        mode="markers",
        error_y=dict(
            type="data",
            symmetric=False,
            array=[round(float(np.nan_to_num(above)), 4)],
            arrayminus=[round(float(np.nan_to_num(below)), 4)],
            color=color,
        ),
        marker=dict(color=color, size=12, symbol="star" if own else _symbol(label, number)),
        hovertemplate=f"{name}<br>loss: {row.loss:.3f}{interval}{rest}<extra></extra>",
    )


@checked
def bars(
    table: Table,
    lows: Table | None = None,
    highs: Table | None = None,
    y: str = NATS,
    x: str = "",
    stacked: bool = False,
) -> Chart:
    """Draw a table as bars side by side, a group for each row, with intervals from low to high.

    `stacked`, the bars of a row stand on one another. Raises ValueError unless the tables have the
    same rows and columns.
    """
    for name, other in {"lows": lows, "highs": highs}.items():
        same = other is None or (
            other.index.equals(table.index) and other.columns.equals(table.columns)
        )
        if not same:
            raise ValueError(f"{name} must have the rows and columns of table, got others")
    figure = _figure(x, y, barmode="stack" if stacked else "group")
    places, names = list(range(len(table))), [plain(name) for name in table.index]
    figure.update_xaxes(tickvals=places, ticktext=names)  # two rows may have one name
    for number, column in enumerate(table.columns):
        above, below = (
            [0.0] * len(table) if other is None else (other[column] - table[column]).abs().tolist()
            for other in (highs, lows)
        )
        figure.add_bar(
            x=places,
            y=table[column].round(4).tolist(),
            name=plain(column),
            marker_color=_COUNTED if column == "counting" else style(str(column), number)[0],
            error_y=dict(
                type="data",
                symmetric=False,
                array=[round(value, 4) for value in above],
                arrayminus=[round(value, 4) for value in below],
                visible=highs is not None,
            ),
            customdata=names,
            hovertemplate=f"%{{customdata}}<br>{plain(column)}: %{{y:.3f}}<extra></extra>",
        )
    told = "; ".join(
        f"{name}: " + ", ".join(f"{column} {row[column]:.2f}" for column in table.columns)
        for name, row in table.iterrows()
    )
    return Chart(figure, f"Bars of {y}: {told}")


@checked
def points(table: Table, x: str, y: str, log: bool = False, title: str = "") -> Chart:
    """Draw two columns of a table against each other; a hover names the row."""
    if missing := {x, y} - set(table.columns):
        raise ValueError(f"table must have the columns x={x!r} and y={y!r}, lacks {missing}")
    figure = _figure(x, y, title)
    figure.add_scatter(
        x=table[x].tolist(),
        y=table[y].tolist(),
        mode="markers",
        marker=dict(color="#0072B2", size=6),
        text=[plain(name) for name in table.index],
        hovertemplate=f"%{{text}}<br>{x}: %{{x:,}}<br>{y}: %{{y:,}}<extra></extra>",
    )
    if log:
        figure.update_xaxes(_LOG)
        figure.update_yaxes(_LOG)
    first, last = (f"{row[y]:,} at {row[x]:,}" for _, row in table.iloc[[0, -1]].iterrows())
    return Chart(figure, f"{y} against {x}, from {first} to {last}")


@checked
def heatmap(table: Table, x: str, y: str, scale: str = "", title: str = "") -> Chart:
    """Draw a table of numbers as a map, darker for more; a hover says row, column and number."""
    values = table.round(3)
    figure = _figure(x, y, title, hovermode="closest")
    figure.add_heatmap(
        z=values.to_numpy().tolist(),
        x=[plain(name) for name in table.columns],
        y=[plain(name) for name in table.index],
        colorscale="Greys",
        colorbar=dict(title=dict(text=scale, side="right")),
        texttemplate="%{z:.2f}",
        hovertemplate="%{y}<br>%{x}: %{z:.3f}<extra></extra>",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(showgrid=False, tickangle=0)
    told = "; ".join(
        f"{name}: " + ", ".join(f"{column} {row[column]:.2f}" for column in table.columns)
        for name, row in values.iterrows()
    )
    return Chart(figure, f"A map of {scale or 'numbers'}: {told}")


@checked
def attention_map(
    weights: Annotated[Tensor, Shape("T", "T", floating=True)], text: str, title: str = ""
) -> Chart:
    """Draw where each character of a text looks, darker for more; a hover names both and says how.

    A row is the character that looks, a column one that it looks at. Raises ValueError unless text
    has a character for each row.
    """
    if len(text) != len(weights):
        raise ValueError(f"text must have {len(weights)} characters, got {len(text)}")
    signs, places = [visible(character) for character in text], list(range(len(text)))
    names = [plain(f"{sign} at {place}") for place, sign in enumerate(signs)]
    figure = _figure("looks at", "the character that looks", title, width=620, height=560)
    figure.add_heatmap(
        z=weights.detach().float().cpu().numpy().round(3).tolist(),
        zmin=0,
        zmax=1,
        colorscale="Greys",
        colorbar=dict(title=dict(text="share of its attention", side="right")),
        customdata=[[[row, column] for column in names] for row in names],
        hovertemplate="%{customdata[0]}<br>looks at %{customdata[1]}<br>%{z:.0%}<extra></extra>",
    )
    axis = dict(tickvals=places, ticktext=[plain(sign) for sign in signs], tickangle=0)
    figure.update_xaxes(showgrid=False, **axis)
    figure.update_yaxes(showgrid=False, autorange="reversed", **axis)
    most = [f"{names[row]} most at {names[int(one.argmax())]}" for row, one in enumerate(weights)]
    return Chart(figure, f"Where each character looks. {', '.join(most)}")


@checked
def spectra(record: Trace, title: str = "") -> Chart:
    """Draw each stage's share of variance by principal component, on a logarithmic scale."""
    figure = _figure("principal component", "share of variance", title, height=460)
    strongest = []
    colors = sample_colorscale("Viridis", [0.9 * n / 9 for n in range(10)])
    for number, (path, rows) in enumerate(record.residual.items()):
        name = record.names.get(path, path)
        shares = spectrum(rows)
        strongest.append(f"{name} {shares[0]:.0%}")
        figure.add_scatter(
            x=list(range(1, len(shares) + 1)),
            y=[float(f"{share:.3g}") for share in shares],
            name=f"{name} ({rows.shape[1]} wide)",
            mode="lines",
            line_color=colors[number % len(colors)],
            hovertemplate=f"{name}<br>component %{{x}}: %{{y:.2%}}<extra></extra>",
        )
    figure.update_yaxes(_LOG, range=[-6, 0])
    return Chart(
        figure,
        "Share of variance by principal component, a falling line for each stage. On the strongest "
        f"component: {', '.join(strongest)}",
    )


@checked
def icicle(
    parts: Annotated[Mapping[str, Mapping[str, float]], "a dict of dicts of numbers"],
    unit: str,
    title: str = "",
) -> Chart:
    """Draw what models are made of, each part as high as its number: a click looks into a model."""
    figure = _figure("", "", title, uniformtext=dict(minsize=12, mode="hide"), height=480)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    total, top = sum(sum(own.values()) for own in parts.values()), 1.0
    for number, (model, own) in enumerate(parts.items()):
        color, _ = style(model, number)
        shades = [0.7 + 0.2 * n / len(own) for n in range(len(own))]
        whole = sum(own.values())
        figure.add_icicle(
            labels=[plain(model), *map(plain, own)],
            ids=[str(part) for part in range(len(own) + 1)],  # two parts may have one name
            parents=["", *["0"] * len(own)],
            values=[whole, *own.values()],
            branchvalues="total",
            domain=dict(y=[top - whole / total, top]),
            marker=dict(
                colors=[color, *sample_colorscale([color, "#ffffff"], shades)],
                line=dict(color="#ffffff", width=1),
            ),
            textfont=dict(color=["#ffffff", *["#222222"] * len(own)]),
            texttemplate="%{label}  %{value:,}",
            hovertemplate=(
                f"%{{label}}<br>%{{value:,}} {unit}<br>%{{percentParent:.0%}}<extra></extra>"
            ),
        )
        top -= whole / total
    told = "; ".join(
        f"{model}: " + ", ".join(f"{name} {value:,}" for name, value in own.items())
        for model, own in parts.items()
    )
    return Chart(figure, f"{unit.capitalize()} of each part. {told}")


@checked
def intervals(table: Table, x: str, limit: float | None = None, title: str = "") -> Chart:
    """Draw each row's difference with its interval, a row of points above a row; 0 is a line.

    `table` is what `evaluation.compare` returns: difference, low, high and verdict by model.
    `limit` draws a second line, as of 2 % of the baseline's loss.
    """
    wanted = {"mean", "difference", "low", "high", "verdict"}
    if missing := wanted - set(table.columns):
        raise ValueError(f"table must have the columns {', '.join(sorted(missing))}")
    rows = table[table.verdict != "the baseline"].sort_values("difference", ascending=False)
    figure = _figure("", "", title, width=800, height=130 + 28 * len(rows), showlegend=False)
    # Names may take half of the width: an axis title would be centred below the rest of it.
    figure.add_annotation(
        text=x, xref="paper", yref="paper", x=1, y=0, yshift=-50, xanchor="right", showarrow=False
    )
    names = [plain(name) for name in rows.index]
    figure.add_scatter(
        x=rows.difference.round(4).tolist(),
        y=names,
        mode="markers",
        marker=dict(color=[_family(str(name)) for name in rows.index], size=9),
        error_x=dict(
            type="data",
            symmetric=False,
            array=(rows.high - rows.difference).fillna(0).round(4).tolist(),
            arrayminus=(rows.difference - rows.low).fillna(0).round(4).tolist(),
            color="#777777",
        ),
        customdata=[
            [f"{low:+.3f} to {high:+.3f}", verdict, round(mean, 3)]
            for low, high, verdict, mean in rows[["low", "high", "verdict", "mean"]].to_numpy()
        ],
        hovertemplate="%{y}: %{customdata[2]}<br>difference %{x:+.3f}, interval %{customdata[0]}"
        "<br>%{customdata[1]}<extra></extra>",
    )
    figure.add_vline(x=0, line=dict(color="#222222"))
    if limit is not None:
        figure.add_vline(x=limit, line=dict(color="#777777", dash="dot"))
    told = "; ".join(
        f"{name} {row.difference:+.3f}, {row.low:+.3f} to {row.high:+.3f}"
        for name, row in rows.iloc[::-1].iterrows()
    )
    return Chart(figure, f"{x}, with the interval: {told}")


@checked
def lines(
    table: Table,
    x: str,
    y: str,
    low: Table | None = None,
    high: Table | None = None,
    log: bool = False,
    title: str = "",
) -> Chart:
    """Draw a line for each column of a table over its rows, with the ends of intervals if given.

    `low` and `high` have the table's rows and columns. With `log`, the rows are numbers on a
    logarithmic axis. A line joins the numbers that its column has.
    """
    for name, part in {"low": low, "high": high}.items():
        if part is not None and not (
            part.index.equals(table.index) and part.columns.equals(table.columns)
        ):
            raise ValueError(f"{name} must have the rows and columns of the table")
    figure = _figure(x, y, title, hovermode="closest")
    places = table.index.tolist() if log else [plain(row) for row in table.index]
    colors = _colors([str(column) for column in table.columns])
    for number, column in enumerate(table.columns):
        color, dash = colors[number], style(str(column), number)[1]
        values = table[column]
        figure.add_scatter(
            x=places,
            y=values.round(4).tolist(),
            name=plain(column),
            mode="lines+markers",
            connectgaps=True,
            line=dict(color=color, dash=dash),
            marker=dict(color=color, size=7),
            error_y=dict(
                type="data",
                symmetric=False,
                array=[] if high is None else (high[column] - values).round(4).tolist(),
                arrayminus=[] if low is None else (values - low[column]).round(4).tolist(),
                visible=high is not None,
                thickness=1,
            ),
            hovertemplate=f"{plain(column)}<br>%{{x}}: %{{y:.3f}}<extra></extra>",
        )
    if log:
        figure.update_xaxes(_LOG)
    told = "; ".join(
        f"{column}: "
        + ", ".join(f"{value:.3f} at {row}" for row, value in table[column].dropna().items())
        for column in table.columns
    )
    return Chart(figure, f"{y} by {x}: {told}")
