"""The methods for sentence embeddings: what they compare, what they remember, and where they start."""

import copy
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
import torch.nn.functional as F

from contrastill import losses
from contrastill.encoder import Encoder
from contrastill.errors import UserError
from contrastill.methods import METHODS, method_settings
from contrastill.tasks import BareEncoder, Classification, Embedding
from contrastill.teachers import FrozenEncoder

NAMES = [name for name, cls in METHODS.items() if cls.serves(Embedding)]
QUEUED = ["disco", "congen", "rrd"]
T = 24  # the teacher's width


@pytest.fixture(autouse=True)
def fixed_projections():
    torch.manual_seed(0)


def rows_of(batch, rows):
    return {name: value[rows] for name, value in batch.items()}


def seen_by_the_term(method, batch, monkeypatch):
    """What `contrast` is given in one step: anchors, candidates, target, temperature, allowed."""
    seen, original = [], losses.contrast
    with monkeypatch.context() as patch:
        patch.setattr(losses, "contrast", lambda *args: seen.append([*args, None][:5]) or original(*args))
        method.losses(method.student(batch, method.needs), method.run_teacher(batch), batch)
    (only,) = seen
    return SimpleNamespace(
        **dict(zip(("anchors", "candidates", "target", "temperature", "allowed"), only, strict=True))
    )


def vectors_of(method, batch):
    return F.normalize(method.teacher(batch, {"pooled"}).pooled, dim=-1)


def test_the_registry_has_five_of_them():
    assert NAMES == ["disco", "mse_kd", "congen", "rrd", "leaf"]
    assert [name for name in NAMES if METHODS[name].across_batch] == QUEUED


# ---- candidates ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUEUED)
def test_candidates_are_the_teachers_unit_vectors_of_the_batch_then_of_the_queue(
    name, tiny_method, tiny_batch, monkeypatch
):
    method, past, batch = tiny_method(name, {"queue": 8}), tiny_batch(rows=3, seed=1), tiny_batch(rows=4, seed=2)
    alone = seen_by_the_term(method, batch, monkeypatch)
    torch.testing.assert_close(alone.candidates, vectors_of(method, batch))
    method(**past)
    both = seen_by_the_term(method, batch, monkeypatch)
    torch.testing.assert_close(both.candidates, torch.cat([vectors_of(method, batch), vectors_of(method, past)]))
    torch.testing.assert_close(both.candidates.norm(dim=1), torch.ones(7))
    torch.testing.assert_close(both.anchors.norm(dim=1), torch.ones(4))
    assert not both.candidates.requires_grad
    assert both.anchors.requires_grad


def test_discos_target_is_ones_own_place_and_copies_of_a_text_are_no_negatives(tiny_method, tiny_batch, monkeypatch):
    method = tiny_method("disco", {"queue": 8})
    past, batch = tiny_batch(rows=3, seed=1), tiny_batch(rows=3, seed=2)
    past["text_key"], batch["text_key"] = torch.tensor([5, 6, 7]), torch.tensor([1, 6, 1])
    method(**past)
    seen = seen_by_the_term(method, batch, monkeypatch)
    assert seen.target.tolist() == [0, 1, 2]
    assert seen.allowed.tolist() == [
        [True, True, False, True, True, True],  # the third text is the first
        [True, True, True, True, False, True],  # the second is in the queue
        [False, True, True, True, True, True],
    ]


def test_congens_target_is_the_teachers_softmax_over_all_candidates_oneself_included(
    tiny_method, tiny_batch, monkeypatch
):
    method = tiny_method("congen", {"queue": 8, "temperature": 0.3, "teacher_temperature": 0.7})
    past, batch = tiny_batch(rows=3, seed=1), tiny_batch(rows=4, seed=2)
    method(**past)
    seen = seen_by_the_term(method, batch, monkeypatch)
    t = vectors_of(method, batch)
    torch.testing.assert_close(seen.target, (t @ torch.cat([t, vectors_of(method, past)]).T / 0.7).softmax(1))
    assert (seen.temperature, seen.allowed) == (0.3, None)


def test_rrds_candidates_are_other_texts_alone(tiny_method, tiny_batch, monkeypatch):
    method = tiny_method("rrd", {"queue": 8, "temperature": 0.3, "teacher_temperature": 0.7})
    past, batch = tiny_batch(rows=2, seed=1), tiny_batch(rows=3, seed=2)
    past["text_key"], batch["text_key"] = torch.tensor([5, 6]), torch.tensor([1, 6, 1])
    method(**past)
    seen = seen_by_the_term(method, batch, monkeypatch)
    expected = [[False, True, False, True, True], [True, False, True, True, False], [False, True, False, True, True]]
    assert seen.allowed.tolist() == expected
    assert (seen.target > 0).tolist() == expected
    torch.testing.assert_close(seen.target.sum(1), torch.ones(3))
    t = vectors_of(method, batch)
    scores = (t @ torch.cat([t, vectors_of(method, past)]).T / 0.7).exp() * torch.tensor(expected)
    torch.testing.assert_close(seen.target, scores / scores.sum(1, keepdim=True))


@pytest.mark.parametrize("name", QUEUED)
def test_a_past_text_counts_exactly_as_one_of_the_same_batch(name, tiny_method, tiny_batch):
    """The first two texts, the third in the queue == two of the three anchors of a batch of three."""
    whole = tiny_batch(rows=3)
    method, parts = tiny_method(name, {"queue": 2}), []
    for now, past in (([0, 1], [2]), ([1, 2], [0]), ([0, 2], [1])):
        fresh, batch = copy.deepcopy(method), rows_of(whole, now)
        fresh(**rows_of(whole, past))
        with torch.no_grad():
            parts.append(fresh(**batch)["loss"])
    with torch.no_grad():
        torch.testing.assert_close(torch.stack(parts).mean(), method(**whole)["loss"])


# ---- the queue -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUEUED)
def test_a_training_step_pushes_its_texts_once_and_eval_none(name, tiny_method, tiny_batch):
    method, batch = tiny_method(name, {"queue": 16}), tiny_batch()
    method(**batch)
    assert method.queue.pushed == 6
    torch.testing.assert_close(method.queue.vectors[:6, 0], vectors_of(method, batch))
    method.eval()
    method(**batch)
    assert method.queue.pushed == 6
    method.train()
    method.losses(method.student(batch, method.needs), method.run_teacher(batch), batch)
    assert method.queue.pushed == 6


@pytest.mark.parametrize("name", QUEUED)
def test_beyond_its_size_the_queue_forgets_the_oldest_first(name, tiny_method, tiny_batch):
    method = tiny_method(name, {"queue": 8})
    for seed in range(4):
        method(**tiny_batch(rows=3, seed=seed))
    kept = torch.cat([tiny_batch(rows=3, seed=seed)["text_key"] for seed in range(4)])[-8:]
    assert sorted(method.queue.keys.tolist()) == kept.tolist()


def test_without_a_queue_nothing_is_kept(tiny_method, tiny_batch, monkeypatch):
    for name in NAMES:
        method = tiny_method(name, {"queue": 0} if name in QUEUED else {})
        method(**tiny_batch())
        assert method.queue.pushed == 0
        assert method.queue.vectors.numel() == 0
    method = tiny_method("disco", {"queue": 0})
    method(**tiny_batch(seed=1))
    assert len(seen_by_the_term(method, tiny_batch(), monkeypatch).candidates) == 6


# ---- what is trained, and where it starts --------------------------------------------------------------------------


def test_discos_temperature_stops_falling_where_it_is_told_to_and_can_rise_again(tiny_method, tiny_batch, monkeypatch):
    method = tiny_method("disco", {"temperature": 0.3, "least_temperature": 0.25})
    with torch.no_grad():
        method.log_scale.fill_(5.0)  # as an optimiser might
    assert seen_by_the_term(method, tiny_batch(), monkeypatch).temperature.item() == pytest.approx(0.25, rel=1e-5)
    method(**tiny_batch())["loss"].backward()
    assert method.log_scale.grad.abs() > 0
    with pytest.raises(UserError, match=r"expected a least_temperature of at most 0\.3, got 0\.4"):
        tiny_method("disco", {"temperature": 0.3, "least_temperature": 0.4})


@pytest.mark.parametrize("given", [{}, {"temperature": 0.4}], ids=["default", "set"])
def test_discos_temperature_starts_as_set_and_is_learnt(given, tiny_method, tiny_batch, monkeypatch):
    method = tiny_method("disco", given)
    temperature = (method_settings("disco") | given)["temperature"]
    before = seen_by_the_term(method, tiny_batch(), monkeypatch)
    assert before.temperature.item() == pytest.approx(temperature, rel=1e-5)
    method(**tiny_batch())["loss"].backward()
    before, gradient = method.log_scale.item(), method.log_scale.grad.item()
    assert gradient != 0
    torch.optim.SGD([method.log_scale], lr=0.1).step()
    assert method.log_scale.item() == pytest.approx(before - 0.1 * gradient, rel=1e-4)
    now = seen_by_the_term(method, tiny_batch(), monkeypatch).temperature.item()
    assert now == pytest.approx(math.exp(-method.log_scale.item()), rel=1e-5)


@pytest.mark.parametrize("name", ["congen", "rrd"])
def test_the_other_temperatures_are_fixed(name, tiny_method):
    method = tiny_method(name)
    assert {n for n, _ in method.named_parameters() if not n.startswith("student.")} == {"project.weight"}


@pytest.mark.parametrize("name", NAMES)
def test_the_projection_has_no_bias_and_starts_at_the_ridge_regression(name, tiny_method, tiny_batch):
    """Of what the method compares: the teacher's unit vectors, or for MSE-KD its vectors as they are."""
    method = tiny_method(name, student={"dropout": 0.3})
    assert method.project.weight.shape == (T, 16)
    assert method.project.bias is None
    batches = [tiny_batch(seed=seed, rows=12) for seed in range(4)]
    method.fit_bridges(iter(batches))
    x, y = [], []
    student = method.student.eval()
    with torch.no_grad():
        for batch in batches:
            for row in range(12):
                real = batch["attention_mask"][row].bool()
                inputs = {"input_ids": batch["input_ids"][row : row + 1, real]}
                x.append(student.model(**inputs).last_hidden_state[0].mean(0).tolist())
                vector = method.teacher.model(**inputs).last_hidden_state[0].mean(0)
                y.append((vector if name == "mse_kd" else vector / vector.norm()).tolist())
    x, y = np.array(x), np.array(y)
    gram = np.pad(x.T @ x, ((0, 1), (0, 1)))  # the place of a bias that is none
    solved = np.linalg.solve(gram + 1e-3 * np.trace(gram) / 17 * np.eye(17), np.pad(x.T @ y, ((0, 1), (0, 0))))
    expected = torch.tensor(solved[:-1].T, dtype=torch.float32)
    torch.testing.assert_close(method.project.weight.data, expected, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_start_lowers_the_methods_own_term(name, tiny_method, tiny_batch):
    method, batch = tiny_method(name).eval(), tiny_batch(seed=5)
    before = method(**batch)["loss"]
    method.fit_bridges([tiny_batch(seed=seed, rows=16) for seed in range(4)])
    assert method(**batch)["loss"] < before


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_student_and_projection_and_not_the_teachers_vectors(name, tiny_method, tiny_batch):
    method, batch = tiny_method(name), tiny_batch()
    answer = method.run_teacher(batch)
    assert not answer.pooled.requires_grad
    own, pooled = method.student(batch, method.needs), answer.pooled.clone().requires_grad_()
    terms = method.losses(own, replace(answer, pooled=pooled), batch)
    method.weighted_sum(terms)["loss"].backward()
    assert method.project.weight.grad.abs().sum() > 0
    assert all(p.grad.abs().sum() > 0 for n, p in method.student.named_parameters() if n.endswith("query.weight"))
    assert all(p.grad is None for p in method.teacher.model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_students_length_matters_to_mse_kd_alone(name, tiny_method, tiny_batch):
    method, batch = tiny_method(name).eval(), tiny_batch()
    with torch.no_grad():
        before = method(**batch)["loss"]
        method.project.weight *= 3
        after = method(**batch)["loss"]
    assert torch.isclose(before, after) == (name != "mse_kd")


def test_mse_kd_is_the_squared_distance_of_vectors_as_they_are(tiny_method, tiny_batch):
    method, batch = tiny_method("mse_kd").eval(), tiny_batch()
    with torch.no_grad():
        ours = method.project(method.student(batch, {"pooled"}).pooled).tolist()
        theirs = method.teacher(batch, {"pooled"}).pooled.tolist()
        got = method(**batch)["mse"].item()
    squares = [sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) for s, t in zip(ours, theirs, strict=True)]
    assert got == pytest.approx(sum(squares) / 6, rel=1e-5)


def test_leaf_is_the_squared_distance_of_unit_vectors(tiny_method, tiny_batch):
    method, batch = tiny_method("leaf").eval(), tiny_batch()
    with torch.no_grad():
        s, t = method.vectors(method.student(batch, {"pooled"}), method.teacher(batch, {"pooled"}))
        assert method(**batch)["distance"].item() == pytest.approx(float((2 - 2 * (s * t).sum(1)).mean()), rel=1e-5)


# ---- pooling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("frozen", [False, True])
def test_pooled_is_the_mean_of_the_real_tokens_or_the_first_of_them(side, frozen, tiny_model, tiny_batch):
    model, batch = tiny_model().base_model.eval(), tiny_batch()
    if side == "left":
        lengths = batch["attention_mask"].sum(1).tolist()
        for name in ("input_ids", "attention_mask"):
            rows = zip(batch[name], lengths, strict=True)
            batch[name] = torch.stack([torch.roll(row, len(row) - length) for row, length in rows])
    encoder = FrozenEncoder(model) if frozen else Encoder(model)
    inner = encoder.encoder if frozen else encoder
    assert inner.pooling == "mean"
    with torch.no_grad():
        last = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        for pooling in ("mean", "cls"):
            inner.pooling = pooling
            expected = [
                [sum(column) / len(column) for column in zip(*real, strict=True)] if pooling == "mean" else real[0]
                for real in (row[mask.bool()].tolist() for row, mask in zip(last, batch["attention_mask"], strict=True))
            ]
            torch.testing.assert_close(encoder(batch, {"pooled"}).pooled, torch.tensor(expected))
    assert encoder(batch, {"hidden"}).pooled is None


# ---- two processes -------------------------------------------------------------------------------------------------


def one_of_two(rank, name, method, halves, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    found = steps_of(method, [half[rank] for half in halves])
    torch.save(found, f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()


def steps_of(method, batches):
    """The losses and gradients of the steps, and what the queue holds after them."""
    found = []
    for batch in batches:
        method.zero_grad()
        loss = method(**batch)["loss"]
        loss.backward()
        gradients = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
        found.append((loss.detach(), gradients))
    return found, method.queue.keys.clone(), method.queue.vectors.clone()


@pytest.mark.parametrize("name", ["disco", "rrd"])
def test_the_mean_over_two_processes_is_the_whole_batch_on_one(name, tiny_method, tiny_batch, tmp_path):
    method = tiny_method(name, {"queue": 10}).eval()  # without dropout; it pushes in train mode
    method.training = True
    batches = [tiny_batch(rows=6, seed=seed) for seed in range(3)]
    batches[0]["text_key"][4] = batches[0]["text_key"][1]  # a copy of a text on the other process
    whole = steps_of(copy.deepcopy(method), batches)
    halves = [[rows_of(batch, slice(0, 3)), rows_of(batch, slice(3, 6))] for batch in batches]
    processes.start_processes(one_of_two, (name, method, halves, str(tmp_path)), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in (0, 1))
    for one, two, both in zip(first[0], second[0], whole[0], strict=True):
        torch.testing.assert_close((one[0] + two[0]) / 2, both[0])
        for parameter, gradient in both[1].items():
            mean = (one[1][parameter] + two[1][parameter]) / 2
            torch.testing.assert_close(mean, gradient, rtol=1e-3, atol=1e-5)
    for found in (first, second):
        torch.testing.assert_close(found[1:], whole[1:])


# ---- what cannot be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        *((name, {"queue": -1}, "'queue' of .*: expected a whole number from 0 to .*, got -1") for name in QUEUED),
        *(
            ("disco", {name: value}, f"{name!r} of 'disco': expected a number above 0, .*, got {value}")
            for name in ("temperature", "least_temperature")
            for value in (0.0, -1.0, math.nan)
        ),
        ("congen", {"temperature": 0.0}, "'temperature' of 'congen': expected a number above 0, .*, got 0.0"),
        (
            "rrd",
            {"teacher_temperature": -2.0},
            "'teacher_temperature' of 'rrd': expected a number above 0, .* got -2.0",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(name, settings, said, tiny_method):
    with pytest.raises(UserError, match=said):
        tiny_method(name, settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_sentence_embedding_method_serves_no_task_without_vectors(name, tiny_method, tiny_model):
    for task in (Classification("abc"), BareEncoder()):
        assert not METHODS[name].serves(task)
        with pytest.raises(UserError, match=f"'{name}' needs pooled, which the task '{task.name}' does not give"):
            METHODS[name](tiny_model(), tiny_model(), task)
    assert tiny_method(name).wanted.pooled
    assert not tiny_method(name).wanted.logits


@pytest.mark.parametrize("name", QUEUED)
def test_a_teacher_of_another_width_than_the_projection_is_refused(name, tiny_method, tiny_batch):
    method, batch = tiny_method(name), tiny_batch()
    wide = replace(method.run_teacher(batch), pooled=torch.ones(6, 2 * T))
    with pytest.raises(UserError, match=r"expected teacher vectors of 24 numbers, .* got 48"):
        method.losses(method.student(batch, method.needs), wide, batch)
