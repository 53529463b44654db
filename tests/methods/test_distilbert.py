"""DistilBERT: its three terms against the whole models' logits, and which words are masked."""

import math

import pytest
import torch

from contrastill.errors import UserError
from contrastill.methods import DistilBERT
from contrastill.tasks import BareEncoder, Classification, Embedding, Tagging
from contrastill.teachers import FrozenEncoder, WordsHead

MASK, WORDS = 4, range(5, 50)


@pytest.fixture
def made(tiny_model):
    """The method, and the whole language models of its student and teacher."""

    def build(family="bert", width=24, **settings):
        pupil = tiny_model(family, layers=2, width=width, words=True)
        master = tiny_model(family, layers=4, width=24, words=True, seed=1)
        task = BareEncoder(WordsHead(master), MASK, WORDS)
        return DistilBERT(pupil.base_model, master.base_model, task, **settings), pupil, master

    return build


def logits_of(model, batch, hidden=None):
    """(B, L, words) of a whole language model, or of hidden states put in place of its last layer's."""
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    if hidden is None:
        return model(**inputs).logits
    handle = model.base_model.register_forward_hook(lambda *args: type(args[-1])(last_hidden_state=hidden))
    try:
        return model(**inputs).logits
    finally:
        handle.remove()


def slow_terms(method, master, read, temperature):
    """The terms, token by token, of logits over the whole vocabulary at every token."""
    inputs = {name: read[name] for name in ("input_ids", "attention_mask")}
    ours = method.project(method.student.model(**inputs).last_hidden_state)
    theirs = master.base_model(**inputs).last_hidden_state
    guessed, right = logits_of(master, read, ours), logits_of(master, read)
    words, mlm, cosines = [], [], []
    for row in range(len(ours)):
        angles = []
        for place in range(ours.shape[1]):
            if not read["attention_mask"][row, place]:
                continue
            s, t = ours[row, place], theirs[row, place]
            angles.append(1 - (s @ t / s.norm() / t.norm()).item())
            if read["masked"][row, place]:
                p, q = (x[row, place].div(temperature).softmax(0) for x in (right, guessed))
                words.append(temperature**2 * (p * (p.log() - q.log())).sum().item())
                mlm.append(-math.log(guessed[row, place].softmax(0)[read["original"][row, place]].item()))
        cosines.append(sum(angles) / len(angles))
    return {name: sum(seen) / len(seen) for name, seen in (("words", words), ("mlm", mlm), ("cosine", cosines))}


@pytest.mark.parametrize("width", [24, 16], ids=["same-width", "projected"])
@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet", "modernbert"])
def test_the_terms_are_those_of_the_whole_models(family, width, made, tiny_batch):
    method, _, master = made(family, width, temperature=3.0, masked=0.4)
    method.eval()
    read = method.prepare(tiny_batch())
    found = method(**tiny_batch())
    expected = slow_terms(method, master, read, temperature=3.0)
    assert {name: found[name].item() for name in expected} == pytest.approx(expected, rel=1e-4, abs=1e-6)
    loss = 5 * expected["words"] + 2 * expected["mlm"] + expected["cosine"]
    assert found["loss"].item() == pytest.approx(loss, rel=1e-4)


def test_nothing_is_computed_for_tokens_that_are_not_masked(made, tiny_batch, monkeypatch):
    method, _, _ = made()
    seen = []
    head = method.head
    monkeypatch.setattr(method, "head", lambda hidden: seen.append(tuple(hidden.shape)) or head(hidden))
    method(**tiny_batch())
    words = int((tiny_batch()["input_ids"] > MASK).sum())
    assert seen == [(math.ceil(0.15 * words), 24)] * 2


def test_a_student_that_is_its_teacher_has_no_distance_from_it(made, tiny_batch):
    method, _, master = made()
    same = DistilBERT(master.base_model, FrozenEncoder(master.base_model), method_task(method))
    terms = same(**tiny_batch())
    assert terms["words"].item() == pytest.approx(0, abs=1e-5)
    assert terms["cosine"].item() == pytest.approx(0, abs=1e-5)
    assert terms["mlm"] > 0.1


def method_task(method):
    return BareEncoder(method.head, MASK, WORDS)


# ---- which words are masked


def test_a_share_of_the_words_is_masked_8_of_10_by_the_mask_and_1_by_another_word(made, tiny_batch):
    method, _, _ = made(masked=0.3)
    batch = tiny_batch(rows=3000)
    batch["input_ids"][:, 0] = 2  # a special token
    read = method.prepare(batch)
    ids, shown, masked = batch["input_ids"], read["input_ids"], read["masked"]
    words = (ids > MASK) & batch["attention_mask"].bool()
    assert not (masked & ~words).any()
    assert int(masked.sum()) == math.ceil(0.3 * int(words.sum()))
    assert shown[~masked].equal(ids[~masked])
    assert read["original"].equal(ids)
    as_mask = (shown[masked] == MASK).float().mean().item()
    kept = (shown[masked] == ids[masked]).float().mean().item()
    assert as_mask == pytest.approx(0.8, abs=0.02)
    assert kept == pytest.approx(0.1 + 0.1 / len(WORDS), abs=0.02)
    others = shown[masked & (shown != MASK) & (shown != ids)]
    assert set(others.tolist()) == set(WORDS)


def test_masks_follow_the_seed_in_training_and_stay_the_same_in_evaluation(made, tiny_batch):
    method, _, _ = made()
    batch = tiny_batch(rows=40)

    def drawn(seed):
        torch.manual_seed(seed)
        return method.prepare(batch)["masked"]

    assert drawn(1).equal(drawn(1))
    assert not drawn(1).equal(drawn(2))
    method.eval()
    assert drawn(1).equal(drawn(2))
    state = torch.get_rng_state()
    method.prepare(batch)
    assert torch.get_rng_state().equal(state), "an evaluation changes no number that training draws"


def test_texts_without_a_word_have_no_loss_of_words(made, tiny_batch):
    method, _, _ = made()
    batch = tiny_batch()
    batch["input_ids"][:] = 2
    result = method(**batch)
    assert result["words"] == result["mlm"] == 0
    result["loss"].backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


# ---- what is trained, and what is asked for


def test_the_head_is_neither_trained_nor_saved_and_the_language_model_is_left_whole(made, tiny_batch):
    method, _, master = made(width=16)
    before = {name: value.clone() for name, value in master.state_dict().items()}
    assert not [name for name in method.state_dict() if "head" in name or "vocabulary" in name]
    ours = {id(p) for p in method.parameters()}
    assert not ours & {id(p) for p in master.parameters()}
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    method(**tiny_batch())["loss"].backward()
    optimizer.step()
    assert type(master.base_model).__name__ == "BertModel"
    assert all(value.equal(before[name]) for name, value in master.state_dict().items())
    assert {name.split(".")[0] for name, _ in method.named_parameters()} == {"student", "project"}


def test_it_serves_encoders_alone_and_needs_a_head(tiny_model):
    assert DistilBERT.serves(BareEncoder)
    assert not any(DistilBERT.serves(task) for task in (Classification, Tagging, Embedding))
    with pytest.raises(UserError, match="'distilbert' expected a task with the teacher's masked-LM head, got none"):
        DistilBERT(tiny_model().base_model, tiny_model().base_model, BareEncoder())
