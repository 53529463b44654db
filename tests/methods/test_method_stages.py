"""Stages: which step is in which, their shares, and the weighted sum."""

import pytest
import torch

from contrastill.errors import UserError
from contrastill.methods import Stage


def stages_of(method, total):
    return [method.set_stage(step, total).name for step in range(total)]


def test_lrc_bert_spends_half_of_its_steps_on_representations(tiny_method):
    method = tiny_method("lrc_bert")
    assert [(s.share, dict(s.weights), s.fresh) for s in method.stages] == [
        (0.5, {"cos_nce": 1.0}, False),
        (0.5, {"cos_nce": 1.0, "soft": 1.0, "hard": 3.0}, False),
    ]
    assert method.milestones(10) == [5, 10]
    assert stages_of(method, 10) == ["representation"] * 5 + ["joint"] * 5


def test_lrc_berts_published_split_spends_the_first_8_of_10_steps_on_representations(tiny_method):
    method = tiny_method("lrc_bert")
    method.with_shares({"representation": 0.8, "joint": 0.2})
    assert method.milestones(10) == [8, 10]
    assert stages_of(method, 10) == ["representation"] * 8 + ["joint"] * 2


def test_tinybert_trains_20_and_3_of_23_epochs_the_second_afresh(tiny_method):
    method = tiny_method("tinybert")
    assert method.milestones(23) == [20, 23]
    assert [stage.fresh for stage in method.stages] == [False, True]
    assert stages_of(method, 23) == ["intermediate"] * 20 + ["prediction"] * 3


def test_the_stage_is_a_function_of_the_step_alone(tiny_method):
    method = tiny_method("lrc_bert")
    for step, name in [(9, "joint"), (0, "representation"), (5, "joint"), (4, "representation"), (10, "joint")]:
        assert method.set_stage(step, 10) is method.stage
        assert method.stage.name == name


@pytest.mark.parametrize("total", [1, 2, 3, 7, 10, 101, 12_345])
def test_milestones_rise_and_end_at_the_last_step(total, tiny_method):
    for name in ("lrc_bert", "tinybert", "kd"):
        ends = tiny_method(name).milestones(total)
        assert ends == sorted(ends)
        assert ends[-1] == total
        assert ends[0] >= 0


def test_a_method_begins_in_its_first_stage(case, tiny_method):
    method = tiny_method(*case)
    assert method.stage is method.stages[0]


def test_new_shares_move_the_milestones_and_nothing_else(tiny_method):
    method = tiny_method("lrc_bert")
    before = method.stages
    method.with_shares({"joint": 0.7, "representation": 0.3})
    assert method.milestones(10) == [3, 10]
    assert [(s.name, s.weights, s.fresh) for s in method.stages] == [(s.name, s.weights, s.fresh) for s in before]
    assert tiny_method("lrc_bert").stages == before, "other methods keep theirs"
    method.with_shares({"representation": 0, "joint": 1})
    assert stages_of(method, 4) == ["joint"] * 4


@pytest.mark.parametrize(
    "shares",
    [
        {},
        {"joint": 1.0},
        {"representation": 0.5, "joint": 0.4},
        {"representation": 1.5, "joint": -0.5},
        {"representation": 0.5, "joint": 0.3, "more": 0.2},
        {"representation": 0.5, "jiont": 0.5},
        {"representation": float("nan"), "joint": 0.5},
    ],
)
def test_shares_that_are_no_split_of_the_stages_are_refused(shares, tiny_method):
    method = tiny_method("lrc_bert")
    with pytest.raises(UserError, match=r"\['representation', 'joint'\] of 'lrc_bert'"):
        method.with_shares(shares)
    assert method.milestones(10) == [5, 10]


def test_weigh_sums_what_the_stage_weighs_and_keeps_the_rest_for_the_log(tiny_method):
    method = tiny_method("finetune")
    method.stage = Stage("mine", {"a": 2.0, "b": 0.5})
    terms = {"a": torch.tensor(3.0, requires_grad=True), "b": torch.tensor(4.0), "c": torch.tensor(100.0)}
    result = method.weighted_sum(terms)
    assert {name: value.item() for name, value in result.items()} == {"loss": 8.0, "a": 3.0, "b": 4.0, "c": 100.0}


def test_a_term_of_weight_0_cannot_spoil_the_loss(tiny_method):
    method = tiny_method("finetune")
    method.stage = Stage("mine", {"a": 1.0, "b": 0.0})
    a, b = torch.tensor(3.0, requires_grad=True), torch.tensor(torch.inf, requires_grad=True)
    loss = method.weighted_sum({"a": a, "b": b * 0})["loss"]
    loss.backward()
    assert loss == 3
    assert b.grad is None


def test_kds_alpha_and_pkds_beta_are_the_weights(tiny_method):
    assert tiny_method("kd", {"alpha": 0.9}).stage.weights == {"kd": 0.9, "hard": pytest.approx(0.1)}
    assert tiny_method("pkd", {"alpha": 0.2, "beta": 10.0}).stage.weights == {
        "kd": 0.2,
        "hard": 0.8,
        "patient": 10.0,
    }
