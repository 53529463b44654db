"""MixKD: mixtures of word vectors, each model's own, against a slow twin that builds them by hand."""

import pytest
import torch
import torch.nn.functional as F

from contrastill.encoder import Encoder
from contrastill.methods import MixKD
from contrastill.tasks import Classification, Regression, Tagging

PARTNER, SHARE = torch.tensor([2, 0, 1, 3, 5, 4]), torch.tensor([0.9, 0.3, 0.5, 0.2, 1.0, 0.0])


@pytest.fixture
def drawn(monkeypatch):
    """The same mixtures in each step."""
    monkeypatch.setattr(torch, "randperm", lambda rows: PARTNER[:rows])
    monkeypatch.setattr("contrastill.methods.mixkd.Beta.sample", lambda _, shape: SHARE[: shape[0]])


def by_hand(model, batch):
    """Logits of the mixtures of a BERT, row by row, without padding."""
    words, found = model.get_input_embeddings().weight, []
    for row, (other, share) in enumerate(zip(PARTNER.tolist(), SHARE.tolist(), strict=True)):
        length = int(batch["attention_mask"][[row, other]].sum(1).max())
        own, others = (words[batch["input_ids"][n, :length]] for n in (row, other))
        vectors = torch.stack([share * a + (1 - share) * b for a, b in zip(own, others, strict=True)])
        found.append(model(inputs_embeds=vectors.unsqueeze(0)).logits[0])
    return torch.stack(found)


def test_the_terms_are_those_of_mixtures_made_by_hand(drawn, tiny_model, tiny_batch):
    student, teacher = tiny_model("bert"), tiny_model("bert", layers=4, width=24, seed=1)
    batch = tiny_batch()
    method = MixKD(student, teacher, Classification(["a", "b", "c"]))
    result = method(**batch)
    ours, theirs = by_hand(student, batch), by_hand(teacher, batch)
    expected = 0.0
    for row in range(6):
        for label, share in ((batch["labels"][row], SHARE[row]), (batch["labels"][PARTNER[row]], 1 - SHARE[row])):
            expected -= share * ours[row].log_softmax(0)[label] / 6
    torch.testing.assert_close(result["mixed_hard"], expected.detach())
    soft = sum(F.kl_div(o.log_softmax(0), t.log_softmax(0), log_target=True, reduction="sum") / 6
               for o, t in zip(ours / 2, theirs / 2, strict=True))  # fmt: skip
    torch.testing.assert_close(result["mixed"], 4 * soft.detach())
    torch.testing.assert_close(result["hard"], F.cross_entropy(student(**inputs_of(batch)).logits, batch["labels"]))


def inputs_of(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet", "modernbert", "distilbert"])
def test_a_share_of_all_is_the_text_and_of_none_its_partner(family, tiny_model, tiny_batch):
    """Positions too: families that count them from the ids see those of the longer text."""
    batch = tiny_batch(pairs=family == "bert")
    batch["attention_mask"][:] = 1
    batch["input_ids"] = batch["input_ids"].where(batch["input_ids"] != 1, 5)  # all as long: the mask is either's
    reader = Encoder(tiny_model(family).eval())
    plain = reader(batch, {"logits"}).logits
    for share, expected in ((1.0, plain), (0.0, plain[PARTNER])):
        if share == 0.0 and "token_type_ids" in batch:
            continue  # the types are the text's own
        mixed = {**batch, "partner": PARTNER, "share": torch.full((6,), share)}
        torch.testing.assert_close(reader(mixed, {"logits"}).logits, expected)


@pytest.mark.parametrize("family", ["roberta", "mpnet"])
def test_tokens_beyond_the_shorter_text_stand_at_their_places(family, tiny_model, tiny_batch):
    reader, batch = Encoder(tiny_model(family).eval()), tiny_batch()
    ids, mask = batch["input_ids"], batch["attention_mask"]
    long, short = int(mask.sum(1).argmax()), int(mask.sum(1).argmin())
    two = {"input_ids": ids[[short, long]], "attention_mask": mask[[short, long]]}
    alone = reader({"input_ids": ids[[long]], "attention_mask": mask[[long]]}, {"logits"}).logits
    mixed = {**two, "partner": torch.tensor([1, 0]), "share": torch.tensor([0.0, 1.0])}
    found = reader(mixed, {"logits"}).logits
    torch.testing.assert_close(found, torch.cat([alone, alone]))


def test_a_mixture_has_a_label_where_both_texts_have_one(drawn, tiny_model, tiny_batch):
    batch = tiny_batch()
    batch["labels"][0] = -100  # rows 0 (itself) and 1 (its partner) have none
    task = Classification(["a", "b", "c"])
    method = MixKD(tiny_model("bert"), tiny_model("bert", seed=1), task)
    ours, labels = by_hand(method.student.model, batch), batch["labels"]
    errors = [
        SHARE[n] * F.cross_entropy(ours[n], labels[n]) + (1 - SHARE[n]) * F.cross_entropy(ours[n], labels[PARTNER[n]])
        for n in (2, 3, 4, 5)
    ]
    torch.testing.assert_close(method(**batch)["mixed_hard"], torch.stack(errors).sum().detach() / 6)


def test_scores_are_mixed_as_numbers(drawn, tiny_model, tiny_batch):
    batch = tiny_batch(classes=1)
    method = MixKD(tiny_model("bert", classes=1), tiny_model("bert", classes=1, seed=1), Regression())
    ours, y = by_hand(method.student.model, batch)[:, 0], batch["labels"]
    expected = (ours - (SHARE * y + (1 - SHARE) * y[PARTNER])).square().mean()
    torch.testing.assert_close(method(**batch)["mixed_hard"], expected.detach())
    batch["labels"][3] = torch.nan  # its own partner
    rest = torch.tensor([0, 1, 2, 4, 5])
    expected = (ours - (SHARE * y + (1 - SHARE) * y[PARTNER]))[rest].square().sum() / 6
    torch.testing.assert_close(method(**batch)["mixed_hard"], expected.detach())


def test_it_serves_answers_of_texts_alone():
    assert MixKD.serves(Classification)
    assert not MixKD.serves(Tagging)
