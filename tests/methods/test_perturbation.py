"""Gradient perturbation: two passes of one network, the first for the direction, the second for the update."""

import copy

import pytest
import torch

from contrastill.errors import UserError
from contrastill.methods import Stage, method_settings
from contrastill.methods.perturbed import NORMS, Perturbed


def all_terms(method):
    """The last stage: it weighs the most terms."""
    method.stage = method.stages[-1]
    return method


def gradients(model):
    return {name.removeprefix("method."): p.grad for name, p in model.named_parameters() if p.grad is not None}


def run(model, batch, seed=0):
    model.zero_grad()
    torch.manual_seed(seed)
    result = model(**batch)
    result["loss"].backward()
    return result, {name: grad.clone() for name, grad in gradients(model).items()}


def two_passes(method, batch, norm, epsilon, seed=0):
    """By hand: the step from the embeddings' gradient, then the gradients of the loss at the shifted embeddings."""
    shifts, seen = [], []  # of each time that the student reads in a pass

    def hook(_module, _inputs, output):
        if shifts:
            return output + shifts.pop(0)
        output.retain_grad()
        seen.append(output)
        return output

    handle = method.student.embeddings.register_forward_hook(hook)
    run(method, batch, seed)
    for gradient in [output.grad for output in seen]:
        if norm == "l2-per-token":
            rows = []
            for row in gradient:
                rows.append(torch.stack([token / (token**2).sum().sqrt() if token.any() else token for token in row]))
            gradient = torch.stack(rows)
        shifts.append(epsilon * gradient)
    result, grads = run(method, batch, seed)
    handle.remove()
    return result, grads


@pytest.mark.parametrize("norm", NORMS)
def test_with_a_vanishing_step_it_is_the_bare_method_dropout_and_draws_included(case, norm, tiny_method, tiny_batch):
    bare, batch = all_terms(tiny_method(*case, student={"dropout": 0.2})), tiny_batch()
    wrapped = Perturbed(copy.deepcopy(bare), norm, epsilon=1e-9)
    (result, grads), (expected, expected_grads) = run(wrapped, batch), run(bare, batch)
    torch.testing.assert_close(result, expected)
    assert set(grads) == set(expected_grads)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-3, atol=1e-5)
    assert not torch.isclose(run(bare, batch, seed=1)[0]["loss"], expected["loss"])  # dropout was on


@pytest.mark.parametrize("norm", NORMS)
def test_it_equals_two_passes_written_out_for_every_method(case, norm, tiny_method, tiny_batch):
    if "queue" in method_settings(case[0]):
        case = case[0], {**case[1], "queue": 0}  # by hand, the first pass would push; see the test of the queue below
    method, batch = all_terms(tiny_method(*case)), tiny_batch()
    if norm == "none":
        method.stage = Stage("louder", {term: 10 * weight for term, weight in method.stage.weights.items()})
    expected, expected_grads = two_passes(copy.deepcopy(method), batch, norm, 0.5)
    result, grads = run(Perturbed(method, norm, 0.5), batch)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_it_equals_two_passes_written_out_in_every_family_with_dropout_on(family, norm, tiny_method, tiny_batch):
    build = {"family": family, "student": {"dropout": 0.2}}
    method, batch = all_terms(tiny_method("lrc_bert", **build)).double(), tiny_batch()
    expected, expected_grads = two_passes(copy.deepcopy(method), batch, norm, 0.5)
    result, grads = run(Perturbed(copy.deepcopy(method), norm, 0.5), batch)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-6, atol=1e-9)
    bare, bare_grads = run(method, batch)
    assert not torch.isclose(bare["loss"], result["loss"], rtol=1e-6)
    assert any(not torch.allclose(grads[name], bare_grads[name]) for name in grads)


def test_the_step_goes_up_the_loss(tiny_method, tiny_batch):
    method, batch = all_terms(tiny_method("lrc_bert")), tiny_batch()
    bare = method(**batch)["loss"]
    for epsilon in (0.01, 0.1):
        assert Perturbed(method, "l2-per-token", epsilon)(**batch)["loss"] > bare


def test_the_two_norms_step_as_they_say(tiny_method):
    method = tiny_method("finetune")
    gradient = torch.tensor([[[3.0, 4.0], [0.0, 0.0]], [[0.0, -1e-6], [30.0, 40.0]]])
    torch.testing.assert_close(Perturbed(method, "none", 0.5).step(gradient), 0.5 * gradient)
    expected = torch.tensor([[[0.3, 0.4], [0.0, 0.0]], [[0.0, -0.5], [0.3, 0.4]]])  # padding has no gradient: no step
    torch.testing.assert_close(Perturbed(method, "l2-per-token", 0.5).step(gradient), expected)


def test_the_teacher_runs_once_a_step_and_the_student_twice(case, tiny_method, tiny_batch):
    method, calls = tiny_method(*case), []
    method.student.model.register_forward_hook(lambda *_: calls.append("student"))
    if method.teacher is not None:
        method.teacher.model.register_forward_hook(lambda *_: calls.append("teacher"))
    Perturbed(method)(**tiny_batch())
    passes = 4 if case[0] == "mixkd" else 2  # of the texts, and of their mixtures
    assert calls == (["teacher"] if method.teacher is not None else []) + ["student"] * passes


def test_the_queue_is_pushed_once_a_step_after_both_passes(tiny_method, tiny_batch):
    bare = tiny_method("lrc_bert", {"queue": 16})
    wrapped = Perturbed(copy.deepcopy(bare), epsilon=1e-9)
    for seed in (1, 2):
        torch.testing.assert_close(wrapped(**tiny_batch(seed=seed)), bare(**tiny_batch(seed=seed)))
        assert wrapped.method.queue.pushed == bare.queue.pushed == 6 * seed
    torch.testing.assert_close(wrapped.method.queue.state_dict(), bare.queue.state_dict())


def test_the_first_pass_leaves_no_gradient_and_no_hook_behind(tiny_method, tiny_batch):
    method = tiny_method("lrc_bert")
    Perturbed(method)(**tiny_batch())
    assert gradients(method) == {}
    assert not method.student.embeddings._forward_hooks


def test_gradients_of_earlier_steps_are_added_to_once(tiny_method, tiny_batch):
    """As under gradient accumulation."""
    wrapped = Perturbed(tiny_method("kd"))
    _, once = run(wrapped, tiny_batch())
    wrapped(**tiny_batch())["loss"].backward()
    torch.testing.assert_close(gradients(wrapped), {name: 2 * grad for name, grad in once.items()})


def test_an_error_in_a_pass_leaves_no_hook_behind(tiny_method, tiny_batch):
    method = tiny_method("kd")
    method.stage = Stage("mine", {"nothing": 1.0})
    with pytest.raises(UserError, match="nothing"):
        Perturbed(method)(**tiny_batch())
    assert not method.student.embeddings._forward_hooks


def test_the_random_numbers_of_later_steps_are_those_of_the_bare_run(tiny_method, tiny_batch):
    method, batch = tiny_method("kd", student={"dropout": 0.3}), tiny_batch()
    after = []
    for model in (method, Perturbed(method)):
        torch.manual_seed(0)
        model(**batch)
        after.append(torch.rand(4))
    assert torch.equal(*after)


def test_it_runs_under_bfloat16_autocast(family, tiny_method, tiny_batch):
    wrapped = Perturbed(tiny_method("lrc_bert", family=family))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = wrapped(**tiny_batch())["loss"]
    loss.backward()
    assert loss.isfinite()
    assert loss.dtype == torch.float32
    assert all(grad.isfinite().all() for grad in gradients(wrapped).values())


@pytest.mark.parametrize("norm", ["l2", "", "None"])
def test_an_unknown_norm_is_refused(norm, tiny_method):
    with pytest.raises(UserError, match=rf"'none', 'l2-per-token'\), got '{norm}'"):
        Perturbed(tiny_method("kd"), norm)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan")])
def test_an_epsilon_that_is_not_above_0_is_refused(epsilon, tiny_method):
    with pytest.raises(UserError, match=f"epsilon above 0, got {epsilon}"):
        Perturbed(tiny_method("kd"), epsilon=epsilon)
