"""Projections started at ridge regression, against a plain least-squares over rows gathered in loops."""

import copy

import numpy as np
import pytest
import torch

# Method -> its projections: (where, the pairs of student and teacher layers it is fitted on).
FITTED = {
    "lrc_bert": {"project.0": [(1, 2)], "project.1": [(2, 4)]},
    "pkd": {"project.0": [(1, 2)]},
    "tinybert": {"project_embedding": [(0, 0)], "project_hidden": [(1, 2), (2, 4)]},
}


def by_hand(method, batches, pairs, ridge=1e-3, only_first=False):
    """(D_T, D_S) weight and (D_T,) bias: `(X'X + r I)^-1 X'Y`, X what is compared and a one, Y their teacher's."""
    x, y = [], []
    for batch in batches:
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
        with torch.no_grad():
            student, teacher = (
                model.eval()(**inputs, output_hidden_states=True).hidden_states
                for model in (method.student.model, method.teacher.model)
            )
        for i, j in pairs:
            for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
                length = 1 if only_first else length
                x += [[*token.tolist(), 1.0] for token in student[i][row][:length]]
                y += teacher[j][row][:length].tolist()
    x, y = np.array(x), np.array(y)
    gram = x.T @ x
    solved = np.linalg.solve(gram + ridge * np.trace(gram) / len(gram) * np.eye(len(gram)), x.T @ y)
    return torch.tensor(solved[:-1].T, dtype=torch.float32), torch.tensor(solved[-1], dtype=torch.float32)


@pytest.mark.parametrize("name", FITTED)
def test_each_projection_starts_at_the_ridge_regression_of_its_layers(name, tiny_method, tiny_batch):
    method = tiny_method(name, student={"dropout": 0.3})
    batches = [tiny_batch(seed=seed, rows=8) for seed in range(3)]
    twin = copy.deepcopy(method)
    method.fit_bridges(iter(batches))
    assert {n for n, m in method.named_modules() if isinstance(m, torch.nn.Linear) and n.startswith("project")} == set(
        FITTED[name]
    )
    for where, pairs in FITTED[name].items():
        weight, bias = by_hand(twin, batches, pairs, only_first=name == "pkd")
        torch.testing.assert_close(method.get_submodule(where).weight.data, weight, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(method.get_submodule(where).bias.data, bias, rtol=1e-3, atol=1e-3)


def test_a_teacher_that_is_the_student_itself_is_found_again_on_other_texts(tiny_method, tiny_batch):
    shape = {"layers": 2, "width": 16, "seed": 0}
    method = tiny_method("lrc_bert", student=shape, teacher=shape)
    method.fit_bridges([tiny_batch(seed=seed, rows=16) for seed in range(4)], ridge=1e-8)
    batch = tiny_batch(seed=9)
    student, teacher = method.student(batch, {"hidden"}), method.teacher(batch, {"hidden"})
    for project, i in zip(method.project, (1, 2), strict=True):
        torch.testing.assert_close(project(student.hidden[i]), teacher.hidden[i], rtol=0, atol=1e-2)


@pytest.mark.parametrize(("name", "term"), [("lrc_bert", "cos_nce"), ("pkd", "patient"), ("tinybert", "hidden")])
def test_the_start_lowers_the_methods_own_term(name, term, tiny_method, tiny_batch):
    method, batch = tiny_method(name), tiny_batch(seed=5)
    before = method(**batch)[term]
    method.fit_bridges([tiny_batch(seed=seed, rows=16) for seed in range(4)])
    assert method(**batch)[term] < 0.9 * before


def test_padding_and_the_split_into_batches_do_not_matter(tiny_method, tiny_batch):
    parts = [{k: v[rows] for k, v in tiny_batch(rows=8).items()} for rows in (slice(0, 3), slice(3, 8))]
    whole = {k: torch.cat([part[k] for part in parts]) for k in parts[0]}
    whole["input_ids"] = torch.nn.functional.pad(whole["input_ids"], (0, 6), value=1)
    whole["attention_mask"] = torch.nn.functional.pad(whole["attention_mask"], (0, 6))
    method = tiny_method("tinybert")
    other = copy.deepcopy(method)
    method.fit_bridges([whole])
    other.fit_bridges(parts)
    torch.testing.assert_close(method.state_dict(), other.state_dict(), rtol=1e-3, atol=1e-3)


def test_fitting_leaves_the_student_as_it_was_in_train_mode_and_without_gradients(case, tiny_method, tiny_batch):
    method = tiny_method(*case)
    before = copy.deepcopy(method.student.state_dict())
    method.fit_bridges([tiny_batch()])
    torch.testing.assert_close(method.student.state_dict(), before, rtol=0, atol=0)
    assert all(module.training for module in method.student.modules())
    assert all(p.requires_grad and p.grad is None for p in method.parameters())
    assert method(**tiny_batch())["loss"].isfinite()


def test_methods_without_projections_read_no_batch(tiny_method):
    def never():
        raise AssertionError("a batch was asked for")
        yield

    for method in (
        tiny_method("kd"),
        tiny_method("finetune"),
        tiny_method("pkd", student={"width": 24}),
    ):
        assert method.bridges == []
        method.fit_bridges(never())


def test_a_copied_method_fits_its_own_projections(tiny_method, tiny_batch):
    method = tiny_method("lrc_bert")
    twin = copy.deepcopy(method)
    twin.fit_bridges([tiny_batch(rows=16)])
    assert [linear for linear, _ in twin.bridges] == list(twin.project)
    assert not torch.allclose(twin.project[0].weight, method.project[0].weight)
