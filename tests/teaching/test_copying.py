import torch

from compgpt_lib.layers import CausalAttention, Embedding
from compgpt_lib.teaching import copying


def test_what_can_be_known_stood_before():
    ids, known = copying.repeated_strings(20, torch.Generator().manual_seed(0))
    for row, can in zip(ids.tolist(), known.tolist(), strict=True):
        for t in range(1, copying.TIME):
            earlier = [row[s + 1] for s in range(t - 1) if row[s] == row[t - 1]]
            assert can[t] == bool(earlier) and set(earlier) <= {row[t]}


def test_two_layers_of_attention_copy_and_one_does_not():
    shares = {}
    for n_layers, width in ((1, 48), (2, 32)):
        torch.manual_seed(0)
        model = copying.attention_only(Embedding, CausalAttention, n_layers, width)
        shares[n_layers] = copying.trained_share(model, 150, 0)
    assert shares[2] > 0.95 > 0.6 > shares[1]
