"""Pea-KD: layers that share their weights against two passes by hand, and the teacher's mistakes against loops."""

import copy
import math

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from contrastill.errors import UserError
from contrastill.methods import PKD, PeaKD
from contrastill.methods.pea_kd import untie
from contrastill.tasks import Classification, MultiLabel, Regression, Tagging

TASK = Classification(["a", "b", "c"])
SEPARATE = ["bert", "roberta", "distilbert", "mpnet"]


@pytest.fixture
def made(tiny_model):
    """A method whose student has so many layers, of which the upper half shares the weights of the lower."""

    def build(layers=4, family="bert", **settings):
        student = tiny_model(family, layers=layers)
        return PeaKD(student, tiny_model(family, layers=4, width=24, seed=1), TASK, **settings)

    return build


def inputs_of(batch):
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


# ---- layers that share their weights


def test_the_upper_half_is_a_second_pass_with_queries_and_keys_swapped(made, tiny_model, tiny_batch):
    batch = inputs_of(tiny_batch())
    own = tiny_model("bert", layers=4).bert
    mask = (1 - batch["attention_mask"][:, None, None, :].float()) * torch.finfo(torch.float32).min
    hidden = [own.embeddings(batch["input_ids"])]
    for turn in range(2):
        for layer in own.encoder.layer[:2]:
            if turn:
                attention = layer.attention.self
                attention.query, attention.key = attention.key, attention.query
            output = layer(hidden[-1], mask)
            hidden.append(output[0] if isinstance(output, tuple) else output)
    student = made(layers=4).student.model
    found = student(**batch, output_hidden_states=True).hidden_states
    real = batch["attention_mask"].bool()
    for ours, expected in zip(found, hidden, strict=True):
        torch.testing.assert_close(ours[real], expected[real])


@pytest.mark.parametrize("family", SEPARATE)
def test_shared_weights_are_one_parameter_and_get_the_gradient_of_both_uses(family, made, tiny_batch):
    tied = made(2, family).student.model
    apart = copy.deepcopy(tied)
    names = dict(tied.named_parameters(remove_duplicate=False))
    assert len({id(parameter) for parameter in names.values()}) == len(names) - len(names_of_layer(tied, 1))
    untie(apart)
    for model in (tied, apart):
        model(**inputs_of(tiny_batch())).logits.square().sum().backward()
    separate, layer = dict(apart.named_parameters()), names_of_layer(tied, 0)
    assert len(separate) == len(names)
    for name in layer:
        above = swapped(name.replace("layer.0.", "layer.1."))
        torch.testing.assert_close(names[name].grad, separate[name].grad + separate[above].grad)
        assert separate[above].grad is not separate[name].grad


def names_of_layer(model, number):
    return [n for n, _ in model.named_parameters(remove_duplicate=False) if f"layer.{number}." in n]


def swapped(name):
    """The name of a parameter of the second pass whose weights are those of this one of the first."""
    *path, module, kind = name.split(".")
    of = {"query": "key", "key": "query", "q": "k", "k": "q", "q_lin": "k_lin", "k_lin": "q_lin"}
    return ".".join([*path, of.get(module, module), kind])


@pytest.mark.parametrize("family", SEPARATE)
def test_the_finished_student_is_saved_as_a_plain_model_with_the_same_answers(family, made, tiny_batch, tmp_path):
    method, batch = made(4, family), inputs_of(tiny_batch())
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    assert len({id(p) for group in optimizer.param_groups for p in group["params"]}) == len(list(method.parameters()))
    for _ in range(3):
        optimizer.zero_grad()
        method(**tiny_batch())["loss"].backward()
        optimizer.step()
    student = method.student.model.eval()
    trained = student(**batch).logits
    method.finish()
    assert student(**batch).logits.equal(trained)
    student.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.num_hidden_layers == 4
    torch.testing.assert_close(loaded(**batch).logits, trained, rtol=0, atol=1e-6)
    assert len({p.data_ptr() for p in loaded.parameters()}) == len(list(student.parameters()))
    first, second = (names_of_layer(loaded, number) for number in (0, 2))
    assert len(first) == len(second) > 10
    weights = loaded.state_dict()
    assert all(weights[name].equal(weights[swapped(name.replace("layer.0.", "layer.2."))]) for name in first)


def test_a_checkpoint_holds_shared_weights_once_and_gives_them_to_both_layers(made, tiny_batch):
    method, other = made(2), made(2)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1)
    state = method.state_dict()
    assert not [name for name in state if "layer.1." in name]
    other.load_state_dict(state)  # no name is missing
    batch = inputs_of(tiny_batch())
    assert other.student.model(**batch).logits.equal(method.student.model(**batch).logits)


def test_without_sharing_any_student_will_do(made, tiny_batch):
    method = made(3, "modernbert", share=False)
    before = {name: p.data_ptr() for name, p in method.student.model.named_parameters()}
    assert len(set(before.values())) == len(before)
    method(**tiny_batch())["loss"].backward()
    method.finish()
    assert {name: p.data_ptr() for name, p in method.student.model.named_parameters()} == before
    assert not method.decided


def test_how_many_numbers_are_different_is_told(made):
    method = made(4)
    different = sum(p.numel() for p in method.student.model.parameters())
    method.finish()
    stored = sum(p.numel() for p in method.student.model.parameters())
    assert different < stored
    told = method.decided["layers"]
    assert told.startswith("the upper 2 of 4 have the weights of the lower 2")
    assert told.endswith(f"of {stored:,} numbers that are saved {different:,} are different")


@pytest.mark.parametrize(
    ("layers", "family", "said"),
    [
        (3, "bert", r"expected an even number of layers, got 3; choose --student 4L, or --set share=false"),
        (2, "modernbert", r"swaps queries and keys: .*got 'modernbert', which has them in one.*--set share=false"),
        (2, "albert", r"weights of its own for each layer, got 'albert'.*without \+shared, or --set share=false"),
    ],
)
def test_students_whose_halves_cannot_share_are_refused(layers, family, said, made):
    with pytest.raises(UserError, match=said):
        made(layers, family)


# ---- the teacher's mistakes


def test_ptp_is_the_cross_entropy_of_four_classes_of_the_teachers_answers(made, tiny_batch):
    method = made(2, confident_right=0.5, confident_wrong=0.45)
    batch = tiny_batch(rows=24)
    batch["labels"][[3, 7]] = -100
    teacher = method.teacher.model(**inputs_of(batch)).logits.softmax(1)
    cls = method.student.model(**inputs_of(batch), output_hidden_states=True).hidden_states[-1][:, 0]
    scores = method.verdict(cls)
    losses, seen = [], set()
    for row, label in enumerate(batch["labels"].tolist()):
        if label == -100:
            continue
        surest = max(range(3), key=lambda one, row=row: teacher[row][one].item())
        confidence = teacher[row][surest].item()
        verdict = (0 if confidence > 0.5 else 1) if surest == label else 2 if confidence > 0.45 else 3
        seen.add(verdict)
        losses.append(-math.log(scores[row].softmax(0)[verdict].item()))
    assert seen == {0, 1, 2, 3}, "each of the four is tried"
    assert method(**batch)["ptp"].item() == pytest.approx(sum(losses) / 24, rel=1e-5)


def test_the_first_stage_is_ptp_alone_and_the_second_begins_afresh(made):
    first, second = made(alpha=0.2, beta=10.0).stages
    assert (first.name, first.weights, first.share, first.fresh) == ("predictions", {"ptp": 1.0}, 0.3, False)
    assert (second.name, second.share, second.fresh) == ("distil", 0.7, True)
    assert second.weights == {"kd": 0.2, "hard": 0.8, "patient": 10.0}


def test_the_second_stages_terms_are_those_of_pkd_over_all_layers(made, tiny_model, tiny_batch):
    method, batch = made(4, temperature=3.0), tiny_batch()
    torch.manual_seed(0)
    pkd = PKD(method.student.model, tiny_model("bert", layers=4, width=24, seed=1), TASK, temperature=3.0)
    pkd.project.load_state_dict(method.project.state_dict())
    assert method.pairs == pkd.pairs == [(1, 1), (2, 2), (3, 3)]
    ours, theirs = method(**batch), pkd(**batch)
    for term in ("kd", "hard", "patient"):
        assert ours[term].equal(theirs[term])


def test_it_serves_one_class_a_text_alone(tiny_model):
    assert PeaKD.serves(Classification)
    assert not any(PeaKD.serves(task) for task in (Regression, MultiLabel, Tagging))
    with pytest.raises(UserError, match="'pea_kd' does not serve the task 'regression'"):
        PeaKD(tiny_model(classes=1), tiny_model(classes=1), Regression())
