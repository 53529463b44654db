"""The record of a tagger's entities: figures by type, mistakes, and the texts that tell most."""

import numpy as np

from contrastill.report.evidence import BOUNDS, NOTHING, mistakes, of_spans
from contrastill.spans import Scheme, Span, Tagged

TYPES = ("place", "road")
SCHEME = Scheme.bio(TYPES)


def answer(text, tags, sure):
    words = text.split()
    starts = np.cumsum([0, *(len(word) + 1 for word in words[:-1])])
    values = np.full((len(words), 5), (1 - sure) / 4)
    values[np.arange(len(words)), [SCHEME.tags.index(tag) for tag in tags]] = sure
    return Tagged(text, starts, starts + [len(word) for word in words], values)


TEXTS = ["jam on A7", "near Bad Soltau", "all is well"]
TRUTH = [np.array([[7, 9, 1]]), np.array([[5, 15, 0]]), np.zeros((0, 3), int)]
OURS = [
    answer(TEXTS[0], ["O", "O", "B-place"], 0.9),
    answer(TEXTS[1], ["O", "B-place", "O"], 0.9),
    answer(TEXTS[2], ["O", "O", "O"], 0.9),
]
THEIRS = [
    answer(TEXTS[0], ["O", "O", "B-road"], 0.9),
    answer(TEXTS[1], ["O", "B-place", "I-place"], 0.8),
    answer(TEXTS[2], ["O", "O", "O"], 0.9),
]


def made(theirs=True):
    ours, other = ([one.spans(SCHEME) for one in each] for each in (OURS, THEIRS))
    return of_spans(
        TRUTH, OURS, THEIRS if theirs else None, ours, other if theirs else None, TYPES,
        lambda rows: [[TEXTS[n]] for n in rows],
    )  # fmt: skip


def test_each_type_has_precision_recall_and_f1_of_both():
    place, road = made()["classes"]
    assert (place["name"], place["rows"]) == ("place", 1)
    assert place["ours"] == {"recall": 0.0, "precision": 0.0, "f1": 0.0}
    assert place["theirs"] == {"recall": 1.0, "precision": 1.0, "f1": 1.0}
    assert road["ours"] == {"recall": 0.0, "precision": None, "f1": 0.0}


def test_mistakes_are_another_type_other_bounds_or_nothing():
    found = {(one["label"], one["answer"]): (one["ours"], one["theirs"], one["rows"]) for one in made()["confusions"]}
    assert found == {("road", "place"): (1, 0, 1), ("place", BOUNDS): (1, 0, 1)}
    assert list(mistakes({(0, 4, "road")}, set())) == [("road", NOTHING)]
    assert list(mistakes(set(), {(0, 4, "road")})) == [(NOTHING, "road")]
    assert list(mistakes({(0, 4, "road")}, {(0, 4, "road")})) == []
    both = {(0, 2, "road"), (2, 9, "place")}
    assert list(mistakes({(1, 9, "road")}, both)) == [("road", "place")]  # by what overlaps most


def test_texts_on_which_student_and_teacher_differ_come_first_with_their_entities_in_words():
    found = made()
    assert found["equal_answers"] == 0.33333
    assert [one["texts"] for one in found["examples"]] == [["near Bad Soltau"], ["jam on A7"], ["all is well"]]
    first = found["examples"][1]
    assert (first["label"], first["said"]) == ("A7 (road)", {"ours": "A7 (place)", "theirs": "A7 (road)"})
    assert first["right"] == {"ours": False, "theirs": True}
    assert found["examples"][-1]["label"] == "no entity"


def test_without_a_teacher_the_most_mistaken_texts_come_first():
    found = made(theirs=False)
    assert found["equal_answers"] is None
    assert found["examples"][-1]["texts"] == ["all is well"]
    assert found["histogram"]["axis"] == "confidence"
    assert all(one["theirs"] is None for one in found["classes"])


def test_words_of_two_tokenizers_are_not_compared():
    other = [answer("jamon A7", ["O", "B-road"], 0.9), *THEIRS[1:]]
    spans = [[one.spans(SCHEME) for one in each] for each in (OURS, other)]
    found = of_spans(TRUTH, OURS, other, *spans, TYPES, lambda rows: [[TEXTS[n]] for n in rows])
    assert sum(found["histogram"]["counts"]) == 6
    assert isinstance(spans[0][0][0], Span)
