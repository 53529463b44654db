"""Methods whose teacher gives its likeliest words alone, beside the same methods with the whole distribution."""

import pytest
import torch
from batches import batch_of
from tiny_language import llama

from contrastill.language import answer_tokens
from contrastill.losses import SparseLogits, top_k
from contrastill.methods import METHODS
from contrastill.tasks import Language
from contrastill.teachers import FrozenLM

ROWS = [([1, 10, 2, 11], [3, 12]), ([11], [5, 6, 7, 12]), ([9, 9, 10, 0, 1, 11], [12])]
TASK = Language(ends=(12,), pad=12, longest_prompt=8, new_tokens=5, seed=3)
GIVEN = {"gkd": {"beta": 0.3}, "atkd": {"hard": 0.5}, "distillm": {"source": "given"}}


class Likeliest(FrozenLM):
    """The k likeliest words, always with the text's own, of the first `common` ones."""

    def __init__(self, model, k, common=13):
        super().__init__(model)
        self.k, self.common = k, common

    @property
    def words(self):
        return self.common

    def tokens(self, batch):
        part, target = super().tokens(batch), answer_tokens(batch)
        return lambda some: top_k(part(some)[:, : self.common], min(self.k, self.common), target[some])


def made(name, k=None, vocabularies=(13, 13), **settings):
    ours, theirs = vocabularies
    teacher = llama(24, 2, 2, spread=0.5, vocabulary=theirs)
    given = FrozenLM(teacher) if k is None else Likeliest(teacher, k, min(vocabularies))
    method = METHODS[name](llama(16, 1, 1, spread=0.5, vocabulary=ours), given, TASK, **GIVEN[name] | settings)
    method.stage = method.stages[-1]
    return method


def learnt(method):
    found = method(**batch_of(ROWS))
    found["loss"].backward()
    return {name: float(value.detach()) for name, value in found.items()}, torch.cat(
        [p.grad.flatten() for p in method.student.parameters()]
    )


@pytest.mark.parametrize("vocabularies", [(13, 13), (16, 13), (13, 16)])
@pytest.mark.parametrize("name", GIVEN)
def test_all_words_are_the_whole_distribution(name, vocabularies):
    terms, gradient = learnt(made(name, 99, vocabularies))
    expected, wanted = learnt(made(name, None, vocabularies))
    assert terms == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_a_term_of_few_words_is_below_that_of_more():
    values = [learnt(made("gkd", k, beta=0.0))[0]["jsd"] for k in (1, 2, 4, 8, 13)]
    assert values == sorted(values)
    assert values[0] < 0.9 * values[-1]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_target_has_its_own_probability_whatever_the_number_of_words(k):
    few, whole = (made("atkd", each) for each in (k, None))
    batch = batch_of(ROWS)
    target = answer_tokens(batch)
    named = few.teacher.tokens(batch)(slice(None)).ids
    assert (named == target.unsqueeze(1)).sum(1).tolist() == [1] * len(target)
    parts = [each.by_token(each.student.states(batch), each.teacher.tokens(batch), target) for each in (few, whole)]
    for name in ("of_target", "unsure", "hard"):
        torch.testing.assert_close(parts[0][name], parts[1][name])
    assert (parts[0]["of_others"] <= parts[1]["of_others"] + 1e-6).all()


@pytest.mark.parametrize("name", GIVEN)
def test_logits_in_slices_change_nothing_for_a_sparse_teacher(name, monkeypatch):
    whole, gradient = learnt(made(name, 3))
    monkeypatch.setattr("contrastill.language.LOGITS", 26)  # two tokens at a time
    sliced, again = learnt(made(name, 3))
    assert sliced == pytest.approx(whole, rel=1e-5)
    torch.testing.assert_close(again, gradient, rtol=1e-4, atol=1e-6)


def test_the_label_term_is_of_all_words_of_the_student():
    method = made("gkd", 2, (16, 13))
    batch = batch_of(ROWS)
    method.stage = type(method.stage)("labels", {"hard": 1.0})
    expected = torch.nn.functional.cross_entropy(method.student(batch), answer_tokens(batch))
    assert float(method(**batch)["hard"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    method.stage = type(method.stage)("distil", {"jsd": 1.0})
    assert "hard" not in method(**batch)


@pytest.mark.parametrize(
    ("name", "settings", "writes"),
    [
        ("sft", {}, False),
        ("gkd", {}, False),
        ("gkd", {"source": "student"}, True),
        ("gkd", {"source": "teacher"}, True),
        ("skd", {}, True),
        ("atkd", {}, False),
        ("distillm", {}, True),
        ("distillm", {"source": "student"}, True),
        ("distillm", {"source": "given"}, False),
    ],
)
def test_a_method_says_whether_it_writes(name, settings, writes):
    teacher = llama(seed=2) if METHODS[name].uses_teacher else None
    method = METHODS[name](llama(), teacher, TASK, **settings)
    assert method.writes == writes
    if not writes:
        for step in (0, 50, 99):
            method.set_stage(step, 100)
            assert method.text(batch_of(ROWS))["answer"].equal(batch_of(ROWS)["answer"])


def test_one_token_and_half_precision_are_finite():
    method = made("atkd", 2)
    row = batch_of([([1], [12])])
    teacher = method.teacher.tokens(row)(slice(None))
    half = SparseLogits(teacher.ids.int(), teacher.log_probs.half(), teacher.tail.half())
    student = method.student(row).bfloat16()
    found = method.compared(student, half, answer_tokens(row))
    assert all(value.isfinite().all() and value.shape == (1,) for value in found.values())
