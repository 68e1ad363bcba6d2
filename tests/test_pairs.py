import numpy as np
import pytest
import torch
from conftest import LIBRARY
from hypothesis import given, settings
from hypothesis import strategies as st

from compgpt_lib import corpora
from compgpt_lib.config import ModelConfig
from compgpt_lib.generation import complete
from compgpt_lib.models import build
from compgpt_lib.pairs import PairTokenizer
from compgpt_lib.tokenizer import CharTokenizer
from compgpt_lib.weights import load, save

TEXT = "".join(path.read_text() for path in sorted(LIBRARY.glob("*.py"))[:8])
ALPHABET = "".join(sorted(set(TEXT)))


@pytest.fixture(scope="module")
def pairs():
    return PairTokenizer.learn(TEXT.splitlines(keepends=True), ALPHABET, 300)


def test_a_text_comes_back(pairs):
    ids = pairs.encode(TEXT)
    assert ids.dtype == torch.long and pairs.decode(ids) == TEXT
    assert len(pairs) == 300 and len(ids) < 0.6 * len(TEXT)
    assert pairs.encode_array(TEXT).dtype == np.uint16


@settings(max_examples=50, deadline=None)
@given(text=st.text(st.sampled_from(ALPHABET)))
def test_any_text_of_the_alphabet_comes_back(pairs, text):
    assert pairs.decode(pairs.encode(text)) == text


def test_a_strange_character_is_the_unknown_one(pairs):
    assert pairs.decode(pairs.encode("x = 語")) == f"x = {pairs.unknown}"


def test_tokens_never_join_a_word_with_a_sign(pairs):
    longer = [token for token in pairs.tokens if len(token) > 1]
    kinds = [
        {
            "word" if c.isalpha() else "blank" if c.isspace() else "sign"
            for c in token.strip(" ") or token
        }
        for token in longer
    ]
    assert len(longer) > 100 and all(len(kind) == 1 for kind in kinds)


def test_it_is_kept_as_json(pairs, tmp_path):
    pairs.save(tmp_path / "t.json")
    again = PairTokenizer.load(tmp_path / "t.json")
    assert again == pairs and type(again) is PairTokenizer
    assert again.fingerprint == pairs.fingerprint
    characters = CharTokenizer(ALPHABET)
    characters.save(tmp_path / "c.json")
    assert PairTokenizer.load(tmp_path / "c.json") == characters != pairs


@pytest.mark.parametrize(
    "text", ["", "{}", '{"format": "compgpt-pairs-1", "tokenizer": {}}', "[1]"]
)
def test_what_is_no_vocabulary_is_refused(text):
    with pytest.raises(ValueError, match="not the text of a vocabulary written by compgpt"):
        PairTokenizer.from_json(text)


def test_bad_sizes_and_ids_are_named(pairs):
    with pytest.raises(ValueError, match=r"vocab_size must be above the \d+ characters .* got 20"):
        PairTokenizer.learn([TEXT], ALPHABET, 20)
    with pytest.raises(ValueError, match="ids must lie in 0 to 299, got 0 to 300"):
        pairs.decode([0, 300])
    with pytest.raises(TypeError, match="ids must be whole numbers"):
        pairs.decode([0.5])


def test_a_corpus_in_pairs_is_the_same_text(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPGPT_HOME", str(tmp_path))
    corpus = corpora.from_files(LIBRARY)
    paired = corpora.in_pairs(corpus, 300)
    assert paired.text("valid") == corpus.text("valid")
    assert paired.manifest["characters"]["train"] == len(corpus.train) > len(paired.train)
    assert (corpora.in_pairs(corpus, 300).train == paired.train).all()
    assert len(corpora.in_pairs(corpus, 400).tokenizer) == 400


def test_a_model_of_pairs_writes_and_is_kept(pairs, tmp_path):
    model = build("gpt", ModelConfig.preset("smoke", vocab_size=300), 0, pairs)
    text = complete(model, "import ", max_new=5, temperature=0)
    assert len(text) > 5  # tokens of more than one character
    save(model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.tokenizer == pairs
    assert complete(again, "import ", max_new=5, temperature=0) == text
