import random

import pytest
import torch
from rapidfuzz import fuzz

from compgpt_lib.config import ModelConfig
from compgpt_lib.generation import Sampling, generate
from compgpt_lib.layers import CausalAttention
from compgpt_lib.models import GPT, build
from compgpt_lib.teaching import chapter02, chapter03, chapter04, mine

CONFIG = ModelConfig(
    vocab_size=13, context_length=12, d_model=16, n_heads=4, n_layers=2, dropout=0.0
)
IDS = torch.tensor([3, 1, 4, 1])


def likeliest(logits):
    return int(logits.argmax())


@torch.no_grad()
@pytest.mark.parametrize("own", [False, True])
def test_the_loops_generate_what_the_librarys_does(own):
    kind = mine._adopted(chapter03.MyGPT, GPT) if own else GPT
    model = build(kind, CONFIG, seed=1).eval()
    theirs = [index for index, _ in generate(model, IDS, Sampling(8, temperature=0), cache=False)]
    assert chapter04.my_generate(model, IDS, 8, likeliest)[4:].tolist() == theirs
    cache, written = chapter04.empty_cache(model), []
    for index in [*IDS.tolist(), *theirs]:
        logits = chapter04.my_next_logits(model, index, cache)
        written.append(likeliest(logits))
    assert written[3:-1] == theirs
    torch.testing.assert_close(logits, model(torch.tensor([[*IDS.tolist(), *theirs]]))[0, -1])
    assert [part.shape for part in cache] == [(2, 4, 12, 4)] * 2


def test_the_cache_works_on_attention_of_the_learners_own():
    own = mine._adopted(chapter02.MyAttention, CausalAttention)
    model = build("gpt", CONFIG, seed=2).eval()
    for block in model.blocks:
        attention = own(16, 4)
        attention.load_state_dict(block.attention.state_dict())
        block.attention = attention.eval()
    with torch.no_grad():
        cache = chapter04.empty_cache(model)
        rows = [chapter04.my_next_logits(model, index, cache) for index in IDS.tolist()]
        torch.testing.assert_close(torch.stack(rows), model(IDS[None])[0])


def test_edit_similarity_is_rapidfuzzs_ratio():
    chance = random.Random(0)
    for _ in range(200):
        a, b = ("".join(chance.choices("ab_(", k=chance.randint(1, 12))) for _ in range(2))
        assert chapter04.my_edit_similarity(a, b) == pytest.approx(fuzz.ratio(a, b))


def test_characters_are_drawn_as_often_as_their_probabilities_say():
    p = torch.tensor([0.1, 0.0, 0.25, 0.65])
    drawn = [chapter04.my_draw(p, (n + 0.5) / 1000) for n in range(1000)]
    assert [drawn.count(index) for index in range(4)] == [100, 0, 250, 650]
