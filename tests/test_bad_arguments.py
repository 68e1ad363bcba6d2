"""Every public function, every argument: what it cannot use is refused by name, by our own code."""

import json
import math
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LIBRARY, NAMES, short_run, some_ids, tiny, tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from test_training import fresh

from compgpt_lib import (
    charts,
    corpora,
    counting,
    evaluation,
    figures,
    generation,
    introspection,
    measures,
    models,
    runs,
    study,
    training,
    weights,
    widgets,
)
from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.corpus import Corpus
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.widgets import completer

JUNK = [
    None,
    "",
    "no such thing",
    b"bytes",
    -1,
    0,
    1.5,
    math.nan,
    math.inf,
    True,
    [],
    [1, "a"],
    {},
    {"a": 1},
    object(),
    Path("/no/such/path"),
    torch.empty(0),
    torch.ones(3),
    torch.ones(2, 3),
    torch.ones(1, 2, 3, dtype=torch.long),
    torch.tensor([99]),
    torch.tensor([[-1, 2]]),
    torch.zeros(1, 17, dtype=torch.long),
    torch.zeros(1, 4, dtype=torch.long, device="meta"),
    np.array([]),
    np.array(["a"]),
    np.array([0.5]),
    pd.DataFrame({"step": [1]}),
    lambda: None,
]


def public(corpus: Corpus, folder: Path) -> dict[str, tuple]:
    """Each public function with arguments that it can use."""
    model = tiny_model("gpt")
    trained = fresh(corpus)
    tokenizer = CharTokenizer("".join(map(chr, range(97, 97 + 23))))
    ids, targets = some_ids(), some_ids(seed=1)
    rng = np.random.default_rng(0)
    history = pd.DataFrame({"tokens": [1, 2], "valid_loss": [2.0, 1.0]})
    record = introspection.trace(tiny_model("lc-gpt"), ids[0])
    pair, rows = tiny_model("p-gpt"), torch.randn(9, 4)
    paired = introspection.trace(pair, ids[0])
    losses = pd.DataFrame({"gpt": [1.0, 1.1], "p-gpt": [1.2, 1.3]})
    points = pd.DataFrame({"loss": [1.0], "low": [0.9], "high": [1.1], "size": [9]}, ["gpt"])
    counted = counting.CountTable(23, 2).fit(ids, targets)
    weights.save(model, folder / "good.safetensors")
    drawing = dict(max_new=2, temperature=1.0, top_k=3, top_p=0.5, seed=0, stop="z")
    return {
        "CharTokenizer": (CharTokenizer, dict(vocabulary="abc", unknown="?")),
        "from_text": (CharTokenizer.from_text, dict(text="aab", min_count=1)),
        "encode": (tokenizer.encode, dict(text="abc")),
        "decode": (tokenizer.decode, dict(ids=[0, 1])),
        "from_json": (CharTokenizer.from_json, dict(text=tokenizer.to_json())),
        "from_files": (corpora.from_files, dict(paths=LIBRARY, suffix=".py", min_count=1)),
        "split": (corpus.split, dict(split="train")),
        "text": (corpus.text, dict(split="train", start=0, length=5)),
        "batch": (corpus.batch, dict(split="train", batch_size=2, context_length=4, rng=rng)),
        "windows": (corpus.windows, dict(split="valid", count=2, context_length=4)),
        "build": (models.build, dict(model="gpt", config=tiny(), seed=0)),
        "save": (weights.save, dict(model=model, path=folder / "a.safetensors")),
        "load": (weights.load, dict(path=folder / "good.safetensors")),
        "forward": (model, dict(ids=ids, targets=targets)),
        "loss": (model.loss, dict(ids=ids, targets=targets)),
        "only": (tiny_model("p-gpt").only, dict(branch="first")),
        "Sampling": (generation.Sampling, drawing),
        "generate": (
            lambda **arguments: list(generation.generate(**arguments)),
            dict(model=model, text=ids[0, :4], sampling=generation.Sampling(2), cache=True),
        ),
        "stream": (
            lambda **arguments: list(generation.stream(**arguments)),
            dict(model=model, prompt="abc", sampling=generation.Sampling(2)),
        ),
        "complete": (generation.complete, dict(model=model, prompt="abc") | drawing),
        "complete_with_tab": (
            lambda **arguments: completer.complete_with_tab(**arguments).offers("a"),
            dict(
                model=model,
                deadline=1.0,
                max_new=2,
                count=1,
                shell=InteractiveShell(),
            ),
        ),
        "trace": (introspection.trace, dict(model=model, text=ids[0], knocked=["blocks.0"])),
        "trace_block": (
            introspection.trace_block,
            dict(model=model, text=ids[0], block="blocks.0"),
        ),
        "parts": (introspection.parts, dict(model=model)),
        "load_pretrained": (weights.load_pretrained, dict(name="gpt")),
        "character_classes": (measures.character_classes, dict(text="a")),
        "pattern_targets": (measures.pattern_targets, dict(text="ab")),
        "head_patterns": (measures.head_patterns, dict(record=record)),
        "head_names": (measures.head_names, dict(record=record)),
        "losses": (measures.losses, dict(logits=torch.ones(3, 23), ids=ids[0, :3])),
        "contributions": (measures.contributions, dict(model=pair, record=paired)),
        "pushes": (measures.pushes, dict(model=pair, record=paired)),
        "branch_table": (
            measures.branch_table,
            dict(model=pair, record=paired),
        ),
        "spectrum": (measures.spectrum, dict(rows=rows)),
        "effective_rank": (measures.effective_rank, dict(rows=rows)),
        "variance_kept": (measures.variance_kept, dict(before=rows, after=rows)),
        "cka": (measures.cka, dict(before=rows, after=rows)),
        "stage_rows": (measures.stage_rows, dict(model=model, windows=ids)),
        "probe": (
            measures.probe,
            dict(rows=torch.ones(4, 3, 2), labels=torch.ones(4, 3, dtype=torch.long), ridge=1.0),
        ),
        "stage_table": (
            measures.stage_table,
            dict(stages=measures.stage_rows(model, some_ids(4)), windows=some_ids(4)),
        ),
        "logit_lens": (
            measures.logit_lens,
            dict(model=model, record=introspection.trace(model, ids[0])),
        ),
        "planes": (measures.planes, dict(stages=[rows])),
        "explore_attention": (
            widgets.explore_attention,
            dict(models=model, text="abc"),
        ),
        "explore_branches": (
            widgets.explore_branches,
            dict(model=pair, text="abc"),
        ),
        "explore_dimensions": (
            widgets.explore_dimensions,
            dict(model=model, sample=some_ids(8), text="abc"),
        ),
        "explore_forward": (
            widgets.explore_forward,
            dict(model=model, text="abc"),
        ),
        "playground": (
            widgets.playground,
            dict(
                models=model,
                prompt="abc",
                temperature=0.5,
                top_p=0.9,
                max_new=2,
                seed=0,
            ),
        ),
        "train": (
            lambda **arguments: training.train(**arguments, progress=False),
            dict(model=trained, corpus=corpus, config=short_run(steps=1)),
        ),
        "mean_loss": (
            training.mean_loss,
            dict(model=trained, corpus=corpus, split="valid", windows=2, batch_size=2),
        ),
        "run_folder": (
            runs.run_folder,
            dict(model=trained, corpus=corpus, config=short_run()),
        ),
        "bits_per_character": (evaluation.bits_per_character, dict(loss=1.0)),
        "megabytes": (evaluation.megabytes, dict(parameters=1000)),
        "flops_per_character": (evaluation.flops_per_character, dict(model=model)),
        "cost_table": (evaluation.cost_table, dict(config=tiny(), names=["gpt"])),
        "step_seconds": (
            evaluation.step_seconds,
            dict(models={"gpt": model}, batch_size=1, repeats=1, warmup=0),
        ),
        "held_out_lines": (
            evaluation.held_out_lines,
            dict(corpus=corpus, count=2, context_length=16, seed=0),
        ),
        "score_lines": (evaluation.score_lines, dict(written=["a"], wanted=["b"])),
        "completion_scores": (
            evaluation.completion_scores,
            dict(model=trained, corpus=corpus, count=1),
        ),
        "needed_parameters": (evaluation.needed_parameters, dict(model=model)),
        "cache_megabytes": (evaluation.cache_megabytes, dict(model=model)),
        "mean_interval": (evaluation.mean_interval, dict(values=[1.0, 2.0], level=0.9)),
        "compare": (evaluation.compare, dict(losses=losses, baseline="gpt", level=0.9)),
        "CountTable": (counting.CountTable, dict(vocab_size=23, order=2)),
        "fit": (counting.CountTable(23, 2).fit, dict(ids=ids, targets=targets)),
        "count_loss": (counted.loss, dict(ids=ids, targets=targets)),
        "count_table": (
            counting.count_table,
            dict(corpus=corpus, config=short_run(), context_length=4, order=1),
        ),
        "load_study": (study.load_study, dict(name="paper_size")),
        "loss_curves": (charts.loss_curves, dict(histories={"gpt": history}, baseline="gpt")),
        "frontier": (
            charts.frontier,
            dict(table=points, costs={"size": "size"}, line=["gpt"], counted=1.0, own=points),
        ),
        "bars": (charts.bars, dict(table=losses, lows=losses, highs=losses)),
        "attention_maps": (
            figures.attention_maps,
            dict(record=record),
        ),
        "spectra": (charts.spectra, dict(record=record)),
        "points": (charts.points, dict(table=losses, x="gpt", y="p-gpt", log=False)),
        "attention_map": (charts.attention_map, dict(weights=torch.eye(2), text="ab")),
        "heatmap": (charts.heatmap, dict(table=losses, x="what", y="where")),
        "icicle": (charts.icicle, dict(parts={"gpt": {"head": 3}}, unit="parameters")),
        "diagram": (figures.diagram, dict(model=model)),
        "visible": (figures.visible, dict(character="a")),
    }


ARGUMENTS = [
    *[("CharTokenizer", name) for name in ("vocabulary", "unknown")],
    *[("from_text", name) for name in ("text", "min_count")],
    *[(name, "text") for name in ("encode", "from_json")],
    ("decode", "ids"),
    *[("from_files", name) for name in ("paths", "suffix", "min_count")],
    ("split", "split"),
    *[("text", name) for name in ("split", "start", "length")],
    *[("batch", name) for name in ("split", "batch_size", "context_length", "rng")],
    *[("windows", name) for name in ("split", "count", "context_length")],
    *[("build", name) for name in ("model", "config", "seed")],
    *[("save", name) for name in ("model", "path")],
    ("load", "path"),
    *[(name, argument) for name in ("forward", "loss") for argument in ("ids", "targets")],
    ("only", "branch"),
    *[("generate", name) for name in ("model", "text", "sampling", "cache")],
    *[("stream", name) for name in ("model", "prompt", "sampling")],
    *[
        (function, name)
        for function in ("Sampling", "complete")
        for name in ("max_new", "temperature", "top_k", "top_p", "seed", "stop")
    ],
    *[("complete", name) for name in ("model", "prompt")],
    *[("complete_with_tab", name) for name in ("model", "deadline", "max_new", "count", "shell")],
    *[
        ("playground", name)
        for name in ("models", "prompt", "temperature", "top_p", "max_new", "seed")
    ],
    *[("trace", name) for name in ("model", "text", "knocked")],
    *[("trace_block", name) for name in ("model", "text", "block")],
    ("parts", "model"),
    ("load_pretrained", "name"),
    ("character_classes", "text"),
    ("pattern_targets", "text"),
    ("head_patterns", "record"),
    ("head_names", "record"),
    *[("losses", name) for name in ("logits", "ids")],
    *[("contributions", name) for name in ("model", "record")],
    *[("pushes", name) for name in ("model", "record")],
    *[("branch_table", name) for name in ("model", "record")],
    ("spectrum", "rows"),
    ("effective_rank", "rows"),
    *[("variance_kept", name) for name in ("before", "after")],
    *[("cka", name) for name in ("before", "after")],
    *[("stage_rows", name) for name in ("model", "windows")],
    *[("probe", name) for name in ("rows", "labels", "ridge")],
    *[("stage_table", name) for name in ("stages", "windows")],
    *[("logit_lens", name) for name in ("model", "record")],
    ("planes", "stages"),
    *[("explore_attention", name) for name in ("models", "text")],
    *[("explore_branches", name) for name in ("model", "text")],
    *[("explore_dimensions", name) for name in ("model", "sample", "text")],
    *[("explore_forward", name) for name in ("model", "text")],
    *[("train", name) for name in ("model", "corpus", "config")],
    *[("run_folder", name) for name in ("model", "corpus", "config")],
    *[("mean_loss", name) for name in ("model", "corpus", "split", "windows", "batch_size")],
    ("bits_per_character", "loss"),
    ("megabytes", "parameters"),
    ("flops_per_character", "model"),
    *[("cost_table", name) for name in ("config", "names")],
    *[("step_seconds", name) for name in ("models", "batch_size", "repeats", "warmup")],
    *[("held_out_lines", name) for name in ("corpus", "count", "context_length", "seed")],
    *[("score_lines", name) for name in ("written", "wanted")],
    *[("completion_scores", name) for name in ("model", "corpus", "count")],
    ("needed_parameters", "model"),
    ("cache_megabytes", "model"),
    *[("mean_interval", name) for name in ("values", "level")],
    *[("compare", name) for name in ("losses", "baseline", "level")],
    *[("CountTable", name) for name in ("vocab_size", "order")],
    *[(name, argument) for name in ("fit", "count_loss") for argument in ("ids", "targets")],
    *[("count_table", name) for name in ("corpus", "config", "context_length", "order")],
    ("load_study", "name"),
    *[("loss_curves", name) for name in ("histories", "baseline")],
    *[("frontier", name) for name in ("table", "costs", "line", "counted", "own")],
    *[("bars", name) for name in ("table", "lows", "highs")],
    ("attention_maps", "record"),
    ("spectra", "record"),
    *[("points", name) for name in ("table", "x", "y", "log")],
    *[("attention_map", name) for name in ("weights", "text")],
    *[("heatmap", name) for name in ("table", "x", "y")],
    *[("icicle", name) for name in ("parts", "unit")],
    ("diagram", "model"),
    ("visible", "character"),
]  # fmt: skip


@pytest.fixture(scope="module")
def functions(corpus, tmp_path_factory):
    return public(corpus, tmp_path_factory.mktemp("weights"))


def test_every_argument_is_tried(functions):
    for name, (_, arguments) in functions.items():
        tried = {argument for function, argument in ARGUMENTS if function == name}
        assert tried == set(arguments), name


def refuses_by_name_or_works(call, argument: str) -> None:
    try:
        call()
    except (ValueError, TypeError, FileNotFoundError) as error:
        frames = traceback.extract_tb(error.__traceback__)
        assert LIBRARY in Path(frames[-1].filename).parents, f"from elsewhere: {error!r}"
        assert argument in str(error) or "/no/such/path" in str(error), f"not named: {error!r}"


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_what_cannot_be_used_is_refused_by_name(functions, name, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, arguments = functions[name]
    function(**arguments)
    for junk in JUNK:
        refuses_by_name_or_works(
            lambda junk=junk: function(**arguments | {argument: junk}), argument
        )


WHOLE = [np.int64, np.int16, np.array, torch.tensor, lambda n: torch.tensor(n, dtype=torch.int16)]
FLOAT = [np.float64, np.float32, np.array, torch.tensor, lambda x: torch.tensor(x).bfloat16()]
NO_NUMBERS = [True, np.True_, torch.tensor(True), np.array([1]), torch.ones(1), "1", None, 1j]
COUNTED = (
    "start", "length", "min_count", "batch_size", "context_length", "count", "seed", "max_new",
    "temperature", "top_k", "top_p", "deadline", "ridge", "windows", "loss", "parameters",
    "repeats", "warmup",
)  # fmt: skip
TENSORS = {("stage_rows", "windows"), ("stage_table", "windows"), ("explore_dimensions", "sample")}
NUMBERS = [pair for pair in ARGUMENTS if pair[1] in COUNTED and pair not in TENSORS]


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
def test_a_number_is_a_number_whoever_counted_it(functions, name, argument):
    """Python's, numpy's and torch's alike, and nothing else."""
    function, arguments = functions[name]
    value = arguments[argument]
    for kind in WHOLE if isinstance(value, int) else FLOAT:
        function(**arguments | {argument: kind(value)})
    optional = argument in ("length", "top_k", "top_p", "seed") and name not in (
        "build", "playground", "held_out_lines"
    )  # fmt: skip
    for value in NO_NUMBERS:
        if value is None and optional:
            continue
        with pytest.raises((TypeError, ValueError), match=argument):
            function(**arguments | {argument: value})
    if argument == "seed":
        function(**arguments | {"seed": 2**64 - 1})
        with pytest.raises(ValueError, match="seed must be at most 18446744073709551615"):
            function(**arguments | {"seed": 2**64})


def test_configurations_take_the_numbers_of_numpy_and_torch():
    for kind, good in ((ModelConfig, tiny()), (TrainConfig, short_run())):
        for field, value in good.as_dict().items():
            if isinstance(value, bool | str):
                continue
            for scalar in WHOLE if isinstance(value, int) else FLOAT[:1]:
                built = kind(**good.as_dict() | {field: scalar(value)})
                assert built == good and type(getattr(built, field)) is type(value)
                assert json.dumps(built.as_dict()) == json.dumps(good.as_dict())
    assert short_run(gradient_clip=1) == short_run(gradient_clip=np.float32(1.0))
    with pytest.raises(ValueError, match="seed must be at most"):
        short_run(seed=2**64)
    for kind in (ModelConfig, TrainConfig):
        with pytest.raises(ValueError, match="preset must be one of paper, laptop, smoke"):
            kind.preset(["smoke"])


SHAPES = st.lists(st.integers(0, 5), max_size=4)
DTYPES = st.sampled_from(
    [torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32, torch.bfloat16, torch.int16]
)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(SHAPES, DTYPES, st.integers(-3, 40), st.booleans())
def test_tensors_of_any_kind(name, shape, dtype, value, as_targets):
    model = tiny_model(name)
    given_ = torch.full(shape, value).to(dtype)
    arguments = {"ids": some_ids(2, 5), "targets": some_ids(2, 5)}
    wrong = "targets" if as_targets else "ids"
    for call in (model, model.loss):
        refuses_by_name_or_works(lambda call=call: call(**arguments | {wrong: given_}), wrong)


@settings(max_examples=200)
@given(
    st.sampled_from([ModelConfig, TrainConfig]),
    st.data(),
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-5, 5),
        st.floats(),
        st.text(max_size=3),
        st.lists(st.none()),
    ),
)
def test_configurations_of_any_kind(kind, data, value):
    good = tiny() if kind is ModelConfig else short_run()
    field = data.draw(st.sampled_from(sorted(good.as_dict())))
    refuses_by_name_or_works(lambda: kind(**good.as_dict() | {field: value}), field)


@settings(max_examples=60)
@given(st.text(max_size=30))
def test_any_prompt(text):
    model = tiny_model("gpt")
    model.tokenizer = CharTokenizer("".join(map(chr, range(97, 97 + 23))))
    try:
        generation.complete(model, text, 2)
    except ValueError as error:
        assert "vocabulary" in str(error) or "prompt must have" in str(error)
