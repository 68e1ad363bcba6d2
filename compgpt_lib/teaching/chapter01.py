"""The exercises of chapter 01: a tokenizer, and a model that only counts."""

from __future__ import annotations

import math
from typing import Any

from compgpt_lib.counting import CountTable
from compgpt_lib.teaching.exercise import Exercise, Slip, WrongPartError
from compgpt_lib.tokenizer import CharTokenizer


class MyTokenizer:
    def __init__(self, vocabulary: list[str], unknown: str) -> None:
        self.characters = sorted({*vocabulary, unknown})
        self.place = {character: index for index, character in enumerate(self.characters)}
        self.missing = self.place[unknown]

    def encode(self, text: str) -> list[int]:
        return [self.place.get(character, self.missing) for character in text]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.characters[index] for index in ids)


def my_keep_frequent(text: str, min_count: int) -> list[str]:
    frequent = {c for c in set(text) if text.count(c) >= min_count}
    return sorted(frequent)


def my_count_followers(text: str, order: int) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for place in range(1, len(text)):
        character = text[place]
        for length in range(min(order, place) + 1):
            followed = counts.setdefault(text[place - length : place], {})
            followed[character] = followed.get(character, 0) + 1
    return counts


def my_back_off(
    counts: dict[str, dict[str, int]], context: str, vocabulary: list[str]
) -> dict[str, float]:
    p = {c: 1 / len(vocabulary) for c in vocabulary}
    for length in range(len(context) + 1):
        followed = counts.get(context[len(context) - length :], {})
        n, r = sum(followed.values()), len(followed)
        if n > 0:
            p = {c: (followed.get(c, 0) + r * p[c]) / (n + r) for c in vocabulary}
    return p


def my_counting_loss(
    counts: dict[str, dict[str, int]], text: str, order: int, vocabulary: list[str]
) -> float:
    losses = []
    for place in range(1, len(text)):
        context = text[max(0, place - order) : place]
        p = back_off(counts, context, vocabulary)
        losses.append(-math.log(p[text[place]]))
    return sum(losses) / len(losses)


back_off = my_back_off  # as a chapter calls it from there on


def _tokenized(answer: Any, vocabulary: list[str], unknown: str, text: str, ids: list[int]) -> Any:
    """Return the ids of a text and the text of other ids; what is no tokenizer, as it is."""
    own = answer(vocabulary, unknown)
    for name in ("encode", "decode"):
        if not hasattr(own, name):
            if isinstance(answer, type):
                raise WrongPartError(f"Your class has no {name}.")
            return own
    return own.encode(text), own.decode(ids)


def _library_tokenized(vocabulary: list[str], unknown: str, text: str, ids: list[int]) -> Any:
    tokenizer = CharTokenizer("".join(vocabulary), unknown)
    return tokenizer.encode(text).tolist(), tokenizer.decode(ids)


def _characters(answer: Any, text: str, min_count: int) -> Any:
    """Return a set as a tuple that says so, which can be compared; all else as it is."""
    characters = answer(text, min_count)
    return ("a set", *sorted(characters)) if isinstance(characters, set) else characters


def _counted(answer: Any, text: str, order: int) -> Any:
    """Return a dict of dicts as pairs in order, which can be compared; all else as it is."""
    counts = answer(text, order)
    if not isinstance(counts, dict) or not all(isinstance(one, dict) for one in counts.values()):
        return counts
    return tuple(sorted((context, tuple(sorted(one.items()))) for context, one in counts.items()))


def _probabilities(answer: Any, counts: Any, context: str, vocabulary: list[str]) -> Any:
    p = answer(counts, context, vocabulary)
    return tuple((c, p.get(c, math.nan)) for c in vocabulary) if isinstance(p, dict) else p


def _library_loss(counts: Any, text: str, order: int, vocabulary: list[str]) -> float:
    """Return the loss of the library's table: of `_READ`, which all the cases have counted."""
    tokenizer = CharTokenizer("".join(vocabulary))
    read, asked = tokenizer.encode(_READ)[None], tokenizer.encode(text)[None]
    table = CountTable(len(vocabulary), order).fit(read[:, :-1], read[:, 1:])
    return table.loss(asked[:, :-1], asked[:, 1:])


_READ = "abracadabra, a cab, a bar"
_LETTERS = sorted({*_READ, "z"})
_FOUR = my_count_followers("aabab", 2)

EXERCISES: dict[str, Exercise] = {
    "tokenizer": Exercise(
        "A tokenizer: text to ids and back, with a sign for what the vocabulary lacks.",
        "easy",
        10,
        MyTokenizer,
        [
            (["b", "c", "a"], "?", "abcax", [3, 0, 1, 1]),
            (["m", "p", "i"], "\ufffd", "import", [2, 3, 0]),
            (["z", "?", "y"], "?", "yes?", [1, 2, 0, 0]),
        ],
        {
            "Your ids begin at 1: the first character has the id 0.": Slip(
                MyTokenizer, "enumerate(self.characters)", "enumerate(self.characters, 1)"
            ),
            "The characters are not sorted: the same vocabulary in another order must give the "
            "same ids.": Slip(
                MyTokenizer,
                "sorted({*vocabulary, unknown})",
                "list(dict.fromkeys([*vocabulary, unknown]))",
            ),
            "Your unknown sign always comes last. Sort it in among the others.": Slip(
                MyTokenizer,
                "sorted({*vocabulary, unknown})",
                "sorted({*vocabulary} - {unknown}) + [unknown]",
            ),
            "A character that the vocabulary lacks is left out, so the text gets shorter. Such a "
            "character must become the unknown sign.": Slip(
                MyTokenizer,
                "self.place.get(character, self.missing) for character in text",
                "self.place[character] for character in text if character in self.place",
            ),
            "A character that the vocabulary lacks gets the id 0, which may belong to another one: "
            "give it the id of the unknown sign.": Slip(
                MyTokenizer, "self.missing = self.place[unknown]", "self.missing = 0"
            ),
            "Those are the characters' numbers in Unicode (ord). An id is a place in the sorted "
            "vocabulary.": Slip(
                MyTokenizer, "self.place.get(character, self.missing)", "ord(character)"
            ),
            "decode gives a list of characters: join them to one text.": Slip(
                MyTokenizer,
                '"".join(self.characters[index] for index in ids)',
                "[self.characters[index] for index in ids]",
            ),
            "decode puts spaces between the characters: a space is a character, too.": Slip(
                MyTokenizer, '"".join', '" ".join'
            ),
        },
        importance=5,
        idea="Sort the characters once, with the unknown sign among them. A list gives the "
        "character of an id, a dict the id of a character.",
        steps="""
            in __init__: the sorted list of all characters, the unknown sign included
            a dict from each character to its place in that list
            encode: look up each character; where there is none, the place of the unknown sign
            decode: the characters at these places, joined
        """,
        run=_tokenized,
        truth=_library_tokenized,
    ),
    "keep_frequent": Exercise(
        "The vocabulary of a text without its rare characters.",
        "easy",
        5,
        my_keep_frequent,
        [("to be or not to be", n) for n in (1, 2, 3, 4)],
        {
            "A character that occurs exactly min_count times stays: >=, not >.": Slip(
                my_keep_frequent, ">= min_count", "> min_count"
            ),
            "You keep the rare ones: keep the frequent ones.": Slip(
                my_keep_frequent, ">= min_count", "< min_count"
            ),
            "Your list is sorted by frequency. A vocabulary is sorted by character, so that a "
            "text always has "
            "the same ids.": Slip(
                my_keep_frequent,
                "sorted(frequent)",
                "sorted(sorted(frequent), key=text.count, reverse=True)",
            ),
            "Your list is in the order of the text. A vocabulary is sorted.": Slip(
                my_keep_frequent, "sorted(frequent)", "sorted(frequent, key=text.index)"
            ),
            "A character that occurs exactly min_count times stays (>=, not >). And your list is "
            "in the order of the text: sort it.": Slip(
                my_keep_frequent,
                ">= min_count",
                "> min_count",
                "sorted(frequent)",
                "sorted(frequent, key=text.index)",
            ),
            "That is a set, which has no order: return sorted(...) of it.": Slip(
                my_keep_frequent, "sorted(frequent)", "frequent"
            ),
            "That is a set, which has no order: return sorted(...) of it. And a character that "
            "occurs exactly min_count times stays: >=, not >.": Slip(
                my_keep_frequent, ">= min_count", "> min_count", "sorted(frequent)", "frequent"
            ),
            "Each character must come once: yours come as often as they stand in the text.": Slip(
                my_keep_frequent,
                "{c for c in set(text) if",
                "[c for c in text if",
                "count}",
                "count]",
            ),
        },
        importance=3,
        idea="text.count(c) says how often a character occurs; set(text) has each one once.",
        steps="""
            go through the different characters of the text
            keep those that occur min_count times or more
            return them sorted
        """,
        run=_characters,
    ),
    "count_followers": Exercise(
        "What followed each context of up to `order` characters in a text, and how often.",
        "medium",
        15,
        my_count_followers,
        [("abaab", 1), ("abracadabra", 2), ("aab aab", 3), ("to be or not to be", 0), ("ab", 4)],
        {
            "Only contexts of `order` characters are counted. Count the shorter ones, too, down "
            "to none.": Slip(
                my_count_followers,
                "for length in range(min(order, place) + 1):",
                "for length in [min(order, place)]:",
            ),
            "The longest contexts are missing: range(n) ends at n - 1.": Slip(
                my_count_followers, "min(order, place) + 1", "min(order, place)"
            ),
            "The contexts of `order` characters are missing: range(order) ends at order - 1.": Slip(
                my_count_followers, "min(order, place) + 1", "min(order, place + 1)"
            ),
            "The contexts of `order` characters are missing: range(order) ends at order - 1. And "
            "near the beginning your slice starts below 0, which Python counts from the end of "
            "the text.": Slip(my_count_followers, "min(order, place) + 1", "order"),
            "Near the beginning, max(0, ...) counts the same short context several times: go on "
            "to the next place when the length is `place`.": Slip(
                my_count_followers,
                "min(order, place)",
                "order",
                "text[place - length : place]",
                "text[max(0, place - length) : place]",
            ),
            "The empty context is missing: it counts how often each character comes at all.": Slip(
                my_count_followers,
                "range(min(order, place) + 1)",
                "range(1, min(order, place) + 1)",
            ),
            "You count each character only once. Count how often it followed.": Slip(
                my_count_followers, "followed.get(character, 0) + 1", "1"
            ),
            "The first character of the text is counted, too. Nothing was read before it, so "
            "begin at place 1.": Slip(
                my_count_followers, "range(1, len(text))", "range(len(text))"
            ),
            "The last character of the text is not counted.": Slip(
                my_count_followers, "range(1, len(text))", "range(1, len(text) - 1)"
            ),
            "Near the beginning your slice starts below 0, which Python counts from the end of "
            "the text: a context has at most `place` characters.": Slip(
                my_count_followers, "min(order, place)", "order"
            ),
            "The context contains the character that follows it: end it before that one.": Slip(
                my_count_followers,
                "text[place - length : place]",
                "text[place - length + 1 : place + 1]",
            ),
        },
        importance=5,
        idea="Two loops: over the places of the text from 1 on, and over the lengths of the "
        "context, from 0 to `order`, but not more than stands before that place.",
        steps="""
            counts = an empty dict
            for each place from 1 to the end:
                for each length from 0 to order, at most place:
                    context = the `length` characters before that place
                    in counts[context], count the character at that place once more
        """,
        run=_counted,
    ),
    "back_off": Exercise(
        "The probability of each next character, by back-off to shorter contexts.",
        "medium",
        20,
        my_back_off,
        [
            (_FOUR, "ab", ["a", "b", "c"]),
            (_FOUR, "ca", ["a", "b", "c", "d"]),
            (_FOUR, "", ["a", "b"]),
            (my_count_followers("abracadabra", 3), "bra", ["a", "b", "c", "d", "r"]),
            (my_count_followers("abracadabra", 3), "dbr", ["a", "b", "c", "d", "r"]),
        ],
        {
            "What never followed gets 0, and the surprise -ln 0 is infinite: add r times the "
            "probability of the shorter context.": Slip(
                my_back_off, "(followed.get(c, 0) + r * p[c]) / (n + r)", "followed.get(c, 0) / n"
            ),
            "Your probabilities sum to more than 1: divide by n + r.": Slip(
                my_back_off, "/ (n + r)", "/ n"
            ),
            "r says how many different characters followed. You took 1.": Slip(
                my_back_off, "len(followed)\n", "1\n"
            ),
            "r says how many different characters followed. You took n, which is how many "
            "followed in all.": Slip(my_back_off, "len(followed)\n", "sum(followed.values())\n"),
            "You mix in 1 / V each time. Mix in the probability that the shorter context "
            "gave.": Slip(my_back_off, "r * p[c]", "r / len(vocabulary)"),
            "For 0 characters your slice is context[-0:], which is all of it: use "
            "context[len(context) - k:].": Slip(
                my_back_off, "context[len(context) - length :]", "context[-length:]"
            ),
            "What was never read is not in the dict of counts: counts.get(context, {}) gives an "
            "empty one.": Slip(
                my_back_off,
                "counts.get(context[len(context) - length :], {})",
                "counts[context[len(context) - length :]]",
            ),
            "What never followed is not in the dict: followed.get(c, 0) gives 0.": Slip(
                my_back_off, "followed.get(c, 0)", "followed[c]"
            ),
            "You begin with the longest context, so the shortest one decides in the end: begin "
            "with the empty one.": Slip(
                my_back_off,
                "range(len(context) + 1)",
                "reversed(range(len(context) + 1))",
            ),
            "Your shorter contexts are the beginnings of the context. Take its last "
            "characters.": Slip(
                my_back_off, "context[len(context) - length :]", "context[:length]"
            ),
            "The whole context is missing: range(n) ends at n - 1.": Slip(
                my_back_off, "range(len(context) + 1)", "range(len(context))"
            ),
            "The empty context is missing: it knows how often each character comes at all.": Slip(
                my_back_off, "range(len(context) + 1)", "range(1, len(context) + 1)"
            ),
        },
        importance=5,
        idea="Begin with 1 / V for each character. Then one step for each length of the context, "
        "from 0 up: each step takes the probabilities so far as those of the shorter context.",
        steps="""
            p = 1 / V for each character
            for each length from 0 to that of the context:
                followed = what followed the last `length` characters, and how often
                n = how many, r = how many different ones
                where n > 0: new p = (how often + r * p) / (n + r), for each character
        """,
        run=_probabilities,
    ),
    "counting_loss": Exercise(
        "The mean surprise of a text under a counting model, in nats per character.",
        "easy",
        10,
        my_counting_loss,
        [
            (my_count_followers(_READ, 2), "a bad cab", 2, _LETTERS),
            (my_count_followers(_READ, 3), "a zbra", 3, _LETTERS),
            (my_count_followers(_READ, 4), "abra", 4, _LETTERS),
        ],
        {
            "The sign is wrong: the logarithm of a probability is below 0, and the surprise is "
            "minus that.": Slip(my_counting_loss, "-math.log", "math.log"),
            "That is in bits (log2). Nats take the natural logarithm, math.log.": Slip(
                my_counting_loss, "math.log", "math.log2"
            ),
            "That is the sum. Take the mean, so that texts of different lengths can be "
            "compared.": Slip(my_counting_loss, " / len(losses)", ""),
            "You divide by the number of characters. There is one prediction fewer.": Slip(
                my_counting_loss, "len(losses)", "len(text)"
            ),
            "That is the mean probability. The loss is the mean of -ln p.": Slip(
                my_counting_loss, "-math.log(p[text[place]])", "p[text[place]]"
            ),
            "You average first and then take the logarithm. First take -ln p of each character, "
            "then the mean.": Slip(
                my_counting_loss,
                "-math.log(p[text[place]])",
                "p[text[place]]",
                "sum(losses) / len(losses)",
                "-math.log(sum(losses) / len(losses))",
            ),
            "Your context contains the character that is to be predicted: end it before that "
            "one.": Slip(
                my_counting_loss, "place - order) : place]", "place - order + 1) : place + 1]"
            ),
            "Near the beginning your slice starts below 0, which Python counts from the end of "
            "the text: begin it at max(0, ...).": Slip(
                my_counting_loss, "max(0, place - order)", "place - order"
            ),
            "You ask with one character of context, whatever `order` is.": Slip(
                my_counting_loss, "place - order", "place - 1"
            ),
        },
        importance=4,
        idea="The surprise of a character of probability p is -ln p. Ask back_off at each place "
        "from 1 on.",
        steps="""
            for each place of the text from 1 on:
                context = the last `order` characters before it
                p = back_off of that context
                remember -ln of the probability that the character at that place has
            return the mean of all of them
        """,
        truth=_library_loss,
    ),
}
