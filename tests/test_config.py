import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compgpt_lib.config import ModelConfig, TrainConfig
from compgpt_lib.support.files import home


def test_presets_differ_only_where_told():
    changed = ModelConfig.preset("paper", d_model=192)
    assert changed.as_dict() == ModelConfig.preset("paper").as_dict() | {"d_model": 192}
    assert ModelConfig.preset("paper").vocab_size == 2117
    published = TrainConfig.preset("paper")
    assert (published.steps, published.batch_size, published.learning_rate) == (10_000, 64, 3e-4)
    assert (published.weight_decay, published.gradient_clip) == (0.001, 0)
    assert (published.schedule, published.precision) == ("constant", "fp16")


def test_unknown_preset_and_field_are_named():
    with pytest.raises(ValueError, match="preset must be one of paper, laptop, smoke, got 'big'"):
        ModelConfig.preset("big")
    with pytest.raises(TypeError, match="no field 'width'; it has"):
        ModelConfig.preset("laptop", width=3)


@given(
    field=st.sampled_from(["vocab_size", "context_length", "d_model", "n_heads", "n_layers"]),
    value=st.one_of(st.integers(max_value=0), st.floats(), st.text(), st.booleans(), st.none()),
)
def test_sizes_must_be_positive_whole_numbers(field, value):
    with pytest.raises((ValueError, TypeError), match=field):
        ModelConfig.preset("laptop", **{field: value})


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan"), "a", True])
def test_dropout_is_a_probability(dropout):
    with pytest.raises((ValueError, TypeError), match="dropout"):
        ModelConfig.preset("laptop", dropout=dropout)


def test_messages_say_what_to_do():
    with pytest.raises(ValueError, match="context_length must be positive, got 0"):
        ModelConfig.preset("laptop", context_length=0)
    with pytest.raises(ValueError, match="d_model must be a multiple of n_heads.*try d_model=128"):
        ModelConfig.preset("laptop", d_model=130)
    with pytest.raises(ValueError, match="lc-gpt needs an even n_layers, got 3; try 4"):
        ModelConfig.preset("laptop", n_layers=3).stage_widths("lc-gpt")
    with pytest.raises(ValueError, match="d_model must be a multiple of 16, got 24"):
        ModelConfig.preset("laptop", d_model=24, n_heads=4, n_layers=6).stage_widths("lc-gpt")


def test_stage_widths_halve():
    assert ModelConfig.preset("paper").stage_widths() == (384, 192, 96)
    assert ModelConfig.preset("laptop", n_layers=2).stage_widths() == (128, 64)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(steps=0),
        dict(batch_size=-1),
        dict(learning_rate=0.0),
        dict(learning_rate=float("inf")),
        dict(weight_decay=-1.0),
        dict(precision="fp8"),
        dict(schedule="linear"),
        dict(warmup_steps=20),
        dict(accumulation=0),
        dict(seed=-1),
    ],
)
def test_training_values_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TrainConfig.preset("smoke", **wrong)


def test_home_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv("COMPGPT_HOME")
    assert (home() / "pyproject.toml").is_file()


def test_the_package_imports_nothing_heavy():
    code = "import sys, compgpt_lib, compgpt_lib.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
