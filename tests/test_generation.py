import itertools

import pytest
import torch
from conftest import some_ids, tiny_model, written
from hypothesis import given, settings
from hypothesis import strategies as st
from test_models import each_kind

from compgpt_lib.generation import Sampling, _until, choose, complete, generate, stream
from compgpt_lib.tokenizer import CharTokenizer


@each_kind
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_cache_changes_nothing_even_past_the_context(name, kernel_size, temperature):
    model = tiny_model(name, kernel_size=kernel_size)
    for length in (1, 7, 16, 30):
        ids = some_ids(1, length)[0]
        runs = [
            written(model, ids, 45, cache, temperature=temperature, seed=1)
            for cache in (True, False)
        ]
        assert runs[0] == runs[1] and len(runs[0]) == 45


def test_greedy_text_within_the_context_is_that_of_the_whole_model():
    model = tiny_model("gpt")
    ids = some_ids(1, 3)
    for drawn in written(model, ids[0], 13, temperature=0):
        assert drawn == int(model(ids)[0, -1].argmax())
        ids = torch.cat((ids, torch.tensor([[drawn]])), 1)


def test_seeds():
    model = tiny_model("gpt")
    a, b, c = (written(model, some_ids(1)[0], 30, seed=seed) for seed in (1, 1, 2))
    assert a == b != c


def test_generation_is_lazy_and_leaves_the_mode():
    model = tiny_model("gpt").train()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    drawn = generate(model, some_ids(1)[0], Sampling(1000))
    assert not calls
    next(drawn)
    assert len(calls) == 1
    drawn.close()
    assert model.training


def test_top_k_1_is_greedy():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert (
        choose(logits, Sampling(top_k=1))
        == choose(logits, Sampling(temperature=0))
        == int(logits.argmax())
    )


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=12, unique=True), st.floats(0.01, 1.0))
@settings(deadline=None, max_examples=50)
def test_top_p_keeps_the_smallest_nucleus(values, top_p):
    logits = torch.tensor(values)
    probabilities = logits.softmax(0)
    generator = torch.Generator().manual_seed(0)
    for drawn in {choose(logits, Sampling(top_p=top_p), generator) for _ in range(60)}:
        likelier = probabilities[probabilities > probabilities[drawn] + 1e-6].sum()
        assert likelier < top_p + 1e-5
    assert probabilities[choose(logits, Sampling(top_p=1e-9))] == probabilities.max()


def test_frequencies_follow_the_temperature():
    logits = torch.tensor([0.0, 1.0, 2.0])
    generator = torch.Generator().manual_seed(0)
    for temperature in (0.5, 1.0, 2.0):
        drawn = [choose(logits, Sampling(temperature=temperature), generator) for _ in range(4000)]
        share = torch.bincount(torch.tensor(drawn), minlength=3) / 4000
        torch.testing.assert_close(share, (logits / temperature).softmax(0), atol=0.03, rtol=0)


@given(
    text=st.text(alphabet="ab\n", max_size=30),
    stops=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=3), max_size=3),
)
def test_text_ends_before_the_first_stop_string(text, stops):
    text_out = "".join(_until(stops, iter(text)))
    ends = [text.index(stop) + len(stop) for stop in stops if stop in text]
    if not ends:
        assert text_out == text
    else:
        first = min(ends)  # the stop string that is complete first
        longest = max((stop for stop in stops if text[:first].endswith(stop)), key=len)
        starts = {first - len(stop) for stop in stops if text[:first].endswith(stop)}
        assert len(text_out) in starts and text.startswith(text_out)
        assert longest


def test_characters_come_as_soon_as_they_cannot_be_a_stop():
    given_ = iter("ab\n\nzzz")
    out = _until(["\n\n"], given_)
    assert next(out) == "a" and next(given_) == "b"


def test_stream_and_complete_agree():
    model = tiny_model("gpt")
    streamed = stream(model, "abc", Sampling(40, seed=3))
    head = "".join(itertools.islice(streamed, 5))
    whole = complete(model, "abc", 40, seed=3)
    assert whole.startswith(head) and len(whole) == 40
    stopped = complete(model, "abc", 40, seed=3, stop=whole[10])
    assert stopped == whole[: whole.index(whole[10])]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(temperature=-1), "temperature must be at least 0"),
        (dict(temperature=float("nan")), "temperature must be a finite number"),
        (dict(top_k=0), "top_k must be positive"),
        (dict(top_p=0.0), "top_p must be above 0 and at most 1"),
        (dict(top_p=1.5), "top_p must be above 0 and at most 1"),
        (dict(max_new=-1), "max_new must be 0 or more"),
        (dict(stop=["a", ""]), "stop strings must not be empty"),
    ],
)
def test_bad_settings_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        stream(tiny_model("gpt"), "abc", Sampling(**settings))


def test_bad_prompts_are_refused():
    model = tiny_model("gpt")
    with pytest.raises(ValueError, match="at least one character"):
        complete(model, "")
    with pytest.raises(ValueError, match="the text has characters that the vocabulary"):
        complete(model, "é")
    with pytest.raises(ValueError, match=r"shape \(T,\)"):
        generate(model, some_ids())


@each_kind
@pytest.mark.parametrize("context_length", [1, 2, 3, 5])
def test_any_context_can_be_outrun(name, kernel_size, context_length):
    model = tiny_model(name, kernel_size=kernel_size, context_length=context_length)
    for temperature in (0.0, 1.0):
        runs = [
            written(model, some_ids(1, 2)[0], 20, cache, temperature=temperature, seed=1)
            for cache in (True, False)
        ]
        assert runs[0] == runs[1] and len(runs[0]) == 20


def test_a_lone_branch_generates_from_its_own_cache():
    alone = tiny_model("p-gpt").only("second")
    runs = [written(alone, some_ids(1)[0], 30, c, seed=1) for c in (True, False)]
    assert runs[0] == runs[1]


def test_top_k_1_makes_every_draw_greedy():
    model = tiny_model("gpt")
    greedy = written(model, some_ids(1)[0], 30, temperature=0)
    assert written(model, some_ids(1)[0], 30, temperature=5.0, top_k=1, seed=3) == greedy


SHARES = torch.tensor([0.05, 0.5, 0.15, 0.3])


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        (dict(), [0, 1, 2, 3]),
        (dict(top_k=9), [0, 1, 2, 3]),
        (dict(top_k=3), [1, 2, 3]),
        (dict(top_k=1), [1]),
        (dict(top_p=1.0), [0, 1, 2, 3]),
        (dict(top_p=0.9), [1, 2, 3]),
        (dict(top_p=0.75), [1, 3]),
        (dict(top_p=0.45), [1]),
        (dict(top_k=2, top_p=0.7), [1, 3]),  # 0.5 / 0.8 is below 0.7, so the second stays
        (dict(top_k=2, top_p=0.6), [1]),  # 0.5 / 0.8 is above 0.6
    ],
)
def test_what_is_kept_is_drawn_in_proportion(settings, kept):
    generator = torch.Generator().manual_seed(0)
    drawn = [choose(SHARES.log(), Sampling(**settings), generator) for _ in range(3000)]
    share = torch.bincount(torch.tensor(drawn), minlength=4) / 3000
    wanted = torch.zeros(4)
    wanted[kept] = SHARES[kept] / SHARES[kept].sum()
    assert sorted(set(drawn)) == kept
    torch.testing.assert_close(share, wanted, atol=0.03, rtol=0)


def test_drawing_leaves_the_global_random_state_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    written(tiny_model("gpt"), some_ids(1)[0], 5)
    assert torch.equal(torch.random.get_rng_state(), before)


@given(
    text=st.text(alphabet="ab\n", max_size=40),
    stops=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_no_stop_string_is_ever_written(text, stops):
    text_out = "".join(_until(stops, iter(text)))
    assert not any(stop in text_out for stop in stops)


def test_a_stop_string_over_several_steps_ends_the_completion():
    model = tiny_model("gpt")
    whole = complete(model, "abc", 40, seed=3)
    stop = whole[17:21]
    assert complete(model, "abc", 40, seed=3, stop=[stop]) == whole[: whole.index(stop)]


def test_the_first_character_comes_before_the_rest_is_computed():
    model, calls = tiny_model("gpt"), []
    model.register_forward_hook(lambda *_: calls.append(1))
    streamed = stream(model, "abc", Sampling(1000, seed=0, stop="\n\n\n"))
    first = next(streamed)
    assert len(first) == 1 and len(calls) <= 3  # two newlines at most are held back


def test_a_model_without_a_vocabulary_or_with_one_of_another_size_is_refused_at_once():
    model = tiny_model("gpt")
    model.tokenizer = None
    with pytest.raises(ValueError, match="no vocabulary yet: train it, or give it one"):
        stream(model, "abc")
    for vocabulary in ("abc", "".join(map(chr, range(97, 140)))):
        model.tokenizer = CharTokenizer(vocabulary)
        with pytest.raises(ValueError, match=f"has {len(vocabulary)} characters.*vocab_size=23"):
            stream(model, "abc")


def test_the_smallest_temperature_is_greedy():
    logits = torch.randn(50, generator=torch.Generator().manual_seed(0))
    for temperature in (1e-46, 5e-324):
        assert choose(logits, Sampling(temperature=temperature)) == int(logits.argmax())
