import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compgpt_lib.tokenizer import UNKNOWN, CharTokenizer

texts = st.text(min_size=1, alphabet=st.characters())  # lone surrogates included


@given(texts)
def test_round_trip_is_exact(text):
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.tokens == sorted(set(text))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert CharTokenizer.from_json(tokenizer.to_json()) == tokenizer


@given(texts, texts, st.integers(2, 4))
def test_pruning_keeps_frequent_characters_and_marks_the_rest(text, other, min_count):
    frequent = {character for character in text if text.count(character) >= min_count}
    if not frequent:
        with pytest.raises(ValueError, match=f"min_count={min_count}"):
            CharTokenizer.from_text(text, min_count)
        return
    tokenizer = CharTokenizer.from_text(text, min_count)
    known = frequent | {UNKNOWN}
    assert set(tokenizer.tokens) == known
    wanted = "".join(character if character in known else UNKNOWN for character in other)
    assert tokenizer.decode(tokenizer.encode(other)) == wanted


def test_ids_are_places_in_the_sorted_vocabulary():
    tokenizer = CharTokenizer("cab")
    assert tokenizer.encode("abcab").tolist() == [0, 1, 2, 0, 1]
    assert tokenizer.encode("").tolist() == []
    assert tokenizer.encode("abc").dtype == torch.long
    assert tokenizer.encode_array("abc").dtype == np.uint16


def test_more_than_65536_characters_need_wider_ids():
    vocabulary = "".join(chr(point) for point in range(0x10000, 0x10000 + 70_000))
    tokenizer = CharTokenizer(vocabulary)
    assert tokenizer.encode(vocabulary[-1]).tolist() == [69_999]
    assert tokenizer.dtype == np.uint32


def test_strangers_are_shown():
    with pytest.raises(
        ValueError, match=r"the text has characters that the vocabulary of 3 lacks: '\\n', 'é'"
    ):
        CharTokenizer("abc").encode("a\né\n")


@pytest.mark.parametrize("ids", [[0, 3], [-1], np.array([9]), torch.tensor([3])])
def test_ids_outside_are_refused(ids):
    with pytest.raises(ValueError, match="ids must lie in 0 to 2"):
        CharTokenizer("abc").decode(ids)


def test_decode_takes_lists_arrays_and_tensors():
    tokenizer = CharTokenizer("abc")
    for ids in ([2, 0], np.array([2, 0]), torch.tensor([[2, 0]])):
        assert tokenizer.decode(ids) == "ca"
    with pytest.raises(TypeError, match="whole numbers"):
        tokenizer.decode([0.5])


@pytest.mark.parametrize(
    "make",
    [
        lambda: CharTokenizer(""),
        lambda: CharTokenizer("aa"),
        lambda: CharTokenizer("a", unknown="ab"),
        lambda: CharTokenizer.from_text(""),
        lambda: CharTokenizer.from_text("a", min_count=0),
    ],
)
def test_impossible_vocabularies_are_refused(make):
    with pytest.raises(ValueError):
        make()


def test_files(tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer = CharTokenizer.from_text("aab\ud800<é", min_count=1)
    tokenizer.save(path)
    assert CharTokenizer.load(path) == tokenizer
    assert CharTokenizer.load(path).fingerprint == tokenizer.fingerprint
    assert tokenizer.fingerprint != CharTokenizer("ab").fingerprint
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_lone_surrogates_stay_apart_in_json():
    tokenizer = CharTokenizer("\ud83d\ude00a")
    assert CharTokenizer.from_json(tokenizer.to_json()).tokens == ["a", "\ud83d", "\ude00"]


def test_files_can_be_read_by_whoever_may_read_the_folder(tmp_path):
    CharTokenizer("ab").save(tmp_path / "tokenizer.json")
    (tmp_path / "plain").touch()
    modes = {file.stat().st_mode for file in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"format": "other"}', '{"format": "compgpt-characters-1"}', "\0" * 50],
)
def test_damaged_files_are_named(tmp_path, damage):
    path = tmp_path / "tokenizer.json"
    path.write_text(damage)
    with pytest.raises(ValueError, match=r"tokenizer\.json.*delete the file"):
        CharTokenizer.load(path)


def test_json_is_plain():
    assert json.loads(CharTokenizer("ba").to_json())["vocabulary"] == "ab"
