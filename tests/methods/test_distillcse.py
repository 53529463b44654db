"""DistillCSE: the shuffled anchor against loops; alike in chunks, in another order, and on two processes."""

import copy
import math
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
import torch.nn.functional as F
from grouped import gradients, sentence_model
from torch import Tensor

from contrastill.encoder import Embedder, Encoding
from contrastill.errors import UserError
from contrastill.methods import Chunked, DistillCSE, Perturbed, SimCSE
from contrastill.tasks import Pairs
from contrastill.teachers import SideBySide


class Vectors:
    """A teacher with a vector (D,) for each text key."""

    def __init__(self, width: int = 7, seed: int = 0) -> None:
        self.width, self.seed = width, seed

    def __call__(self, batch: dict[str, Tensor], needs: Any = ()) -> Encoding:
        keys = [1000 * self.seed + int(key) % 997 for key in batch["text_key"]]
        rows = [torch.randn(self.width, generator=torch.Generator().manual_seed(key)) for key in keys]
        return Encoding(batch["attention_mask"].bool(), pooled=torch.stack(rows))


@pytest.fixture
def model(tiny_model: Any) -> Any:
    return sentence_model(tiny_model(width=16).base_model)


def distillcse(model: Any, teacher: Any, columns: int = 2, **settings: Any) -> DistillCSE:
    return DistillCSE(Embedder(model, model[0].auto_model), teacher, Pairs(columns), **settings).train()


def softmax(scores: list[float]) -> list[float]:
    whole = sum(math.exp(score) for score in scores)
    return [math.exp(score) / whole for score in scores]


def slow_anchor(
    student: Tensor, cosines: Tensor, keys: list[int], draw: Tensor, ours: float, theirs: float, group: float
) -> float:
    """One text at a time: its others sorted and cut into groups; in a group the probabilities go to the texts in the
    order of their draws. cosines: of the teacher, (N, N)."""
    total = 0.0
    for i, key in enumerate(keys):
        others = sorted((j for j, other in enumerate(keys) if other != key), key=lambda j: -float(cosines[i, j]))
        wanted = softmax([float(cosines[i, j]) / theirs for j in others])
        flat, before, groups = softmax([float(cosines[i, j]) for j in others]), 0.0, {}
        for j, share in zip(others, flat, strict=True):
            groups.setdefault(math.floor(before / group), []).append(j)
            before += share
        mixed = [j for each in groups.values() for j in sorted(each, key=lambda j: float(draw[i, j]))]
        found = dict(zip(others, softmax([float(student[i] @ student[j]) / ours for j in others]), strict=True))
        total -= sum(share * math.log(found[j]) for share, j in zip(wanted, mixed, strict=True))
    return total / len(keys)


def firsts(batch: dict[str, Tensor]) -> list[int]:
    """The keys of the rows' first texts."""
    return batch["text_key"].chunk(2)[0].tolist()


def similarities(teacher: Any, batch: dict[str, Tensor]) -> Tensor:
    """Of the rows' first texts."""
    vectors = F.normalize(teacher(batch).pooled.double().chunk(2)[0], dim=-1)
    return vectors @ vectors.T


def run(method: Any, batch: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    result: dict[str, Tensor] = method(**batch)
    return result


def drawn_in(method: DistillCSE, batch: dict[str, Tensor], monkeypatch: Any, seed: int = 0) -> tuple[Any, Tensor]:
    """The result of a step, and the random numbers that were drawn in it."""
    seen, draw = [], DistillCSE.draw
    with monkeypatch.context() as patch:
        patch.setattr(DistillCSE, "draw", lambda *args: seen.append(draw(*args)) or seen[-1])
        result = run(method, batch, seed)
    (only,) = seen
    return result, only


@pytest.mark.parametrize("group", [0.1, 0.3, 1.0])
def test_the_anchor_is_the_cross_entropy_to_shuffled_probabilities(
    model: Any, tiny_batch: Any, group: float, monkeypatch: Any
) -> None:
    method = distillcse(model, Vectors(), anchor_temperature=0.2, teacher_temperature=0.1, group=group, scale=7.0)
    batch = tiny_batch(rows=24)
    batch["text_key"][6] = batch["text_key"][1]  # a text that stands twice is no candidate for itself
    student = F.normalize(method.student(batch, {"pooled"}).pooled.detach().double(), dim=-1)
    result, draw = drawn_in(method, batch, monkeypatch)
    expected = slow_anchor(student, similarities(Vectors(), batch), firsts(batch), draw, 0.2, 0.1, group)
    assert float(result["anchor"]) == pytest.approx(expected, rel=1e-5)
    plain = SimCSE(method.student, None, Pairs(), scale=7.0).train()
    torch.testing.assert_close(result["contrast"], plain(**batch)["contrast"])
    torch.testing.assert_close(result["loss"], result["contrast"] + result["anchor"])


def test_without_groups_and_at_one_temperature_it_is_the_anchor_of_simcse_of_first_texts(
    model: Any, tiny_batch: Any
) -> None:
    batch, settings = tiny_batch(rows=12), {"anchor_temperature": 0.1, "anchor_weight": 3.0}
    alone = {name: value[:6] for name, value in batch.items()}
    ours = distillcse(model, Vectors(), group=0.0, teacher_temperature=0.1, **settings)
    theirs = SimCSE(ours.student, Vectors(), Pairs(), **settings).train()
    torch.testing.assert_close(run(ours, batch)["anchor"], run(theirs, alone)["anchor"])
    torch.testing.assert_close(run(ours, batch)["contrast"], run(theirs, batch)["contrast"])
    shuffled = distillcse(model, Vectors(), group=0.5, teacher_temperature=0.1, **settings)
    assert abs(float(run(shuffled, batch)["anchor"] - run(theirs, alone)["anchor"])) > 1e-3


def test_of_several_teachers_the_similarities_are_averaged(model: Any, tiny_batch: Any, monkeypatch: Any) -> None:
    """Their unit vectors side by side, as one of length 1, have the mean of their cosines; whatever their widths."""
    batch, teachers = tiny_batch(rows=20), [Vectors(7, seed=1), Vectors(30, seed=2), Vectors(4, seed=3)]
    batch["content"] = torch.zeros(20, 3, 2, dtype=torch.int64)  # keys of stored vectors, of which these need none
    together = SideBySide(teachers)
    cosines = torch.stack([similarities(each, batch) for each in teachers]).mean(0)
    torch.testing.assert_close(similarities(together, batch), cosines, rtol=1e-5, atol=1e-6)
    assert max(float((similarities(each, batch) - cosines).abs().max()) for each in teachers) > 0.1
    method = distillcse(model, together, anchor_temperature=0.2, teacher_temperature=0.1)
    student = F.normalize(method.student(batch, {"pooled"}).pooled.detach().double(), dim=-1)
    result, draw = drawn_in(method, batch, monkeypatch)
    expected = slow_anchor(student, cosines, firsts(batch), draw, 0.2, 0.1, 0.1)
    assert float(result["anchor"]) == pytest.approx(expected, rel=1e-5)


# ---- what is drawn -------------------------------------------------------------------------------------------------


def test_each_step_draws_anew_from_torchs_generator(model: Any, tiny_batch: Any) -> None:
    method, batch = distillcse(model, Vectors(), group=0.5), tiny_batch(rows=16)
    first, again = (float(run(method, batch)["anchor"]) for _ in range(2))
    assert first == again
    assert len({float(method(**batch)["anchor"]) for _ in range(5)}) == 5  # the generator goes on
    assert float(run(method, batch, seed=1)["anchor"]) != first


@pytest.mark.parametrize("chunk", [1, 3, 99])
def test_in_chunks_the_same_is_drawn_as_in_the_whole_batch(
    model: Any, tiny_batch: Any, chunk: int, monkeypatch: Any
) -> None:
    method, batch = distillcse(model, Vectors(), group=0.5), tiny_batch(rows=16)
    found = []
    for wrapped in (method, Chunked(method, chunk)):
        result = run(wrapped, batch)
        found.append((result, gradients(method, result["loss"])))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)
    loss = float(found[0][0]["anchor"])
    assert abs(float(run(Chunked(method, chunk), batch, seed=1)["anchor"]) - loss) > 1e-4


def test_both_passes_of_a_perturbed_student_are_shuffled_alike(model: Any, tiny_batch: Any, monkeypatch: Any) -> None:
    seen, draw = [], DistillCSE.draw
    monkeypatch.setattr(DistillCSE, "draw", lambda *args: seen.append(draw(*args)) or seen[-1])
    run(Perturbed(distillcse(model, Vectors(), group=0.5)), tiny_batch(rows=16))
    assert len(seen) == 2
    assert seen[0].equal(seen[1])


def test_a_pair_of_texts_has_its_number_wherever_it_stands(model: Any) -> None:
    method, keys = distillcse(model, Vectors()), torch.tensor([40, 10, 30, 20])
    order = torch.tensor([2, 0, 3, 1])
    torch.manual_seed(0)
    numbers = method.draw(keys, 4)
    torch.manual_seed(0)
    assert method.draw(keys[order], 4).equal(numbers[order][:, order])
    assert numbers.unique().numel() == 16


# ---- two processes -------------------------------------------------------------------------------------------------


def steps_of(method: DistillCSE, batches: list[dict[str, Tensor]]) -> list[Any]:
    found = []
    for batch in batches:
        method.zero_grad()
        result = method(**batch)
        result["loss"].backward()
        terms = {name: value.detach() for name, value in result.items()}
        found.append((terms, {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}))
    return found


def one_of_two(rank: int, method: DistillCSE, halves: list[Any], folder: str) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(7 * rank)  # dropout may have left them in different states: the first one's numbers count
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(steps_of(method, [half[rank] for half in halves]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_the_mean_over_two_processes_is_the_whole_batch_on_one(model: Any, tiny_batch: Any, tmp_path: Any) -> None:
    method = distillcse(model, Vectors(), columns=3, queue=10, group=0.4)
    batches = [tiny_batch(rows=18, seed=seed) for seed in range(2)]
    halves = [
        [{name: value.view(3, 6, -1)[:, rows].flatten(0, 1) for name, value in batch.items()} for rows in parts]
        for batch, parts in ((batch, (slice(0, 3), slice(3, 6))) for batch in batches)
    ]
    for batch in halves:
        for half in batch:
            half["text_key"] = half["text_key"].flatten()
    torch.manual_seed(0)
    whole = steps_of(copy.deepcopy(method), batches)
    processes.start_processes(one_of_two, (method, halves, str(tmp_path)), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for one, two, both in zip(first, second, whole, strict=True):
        for kind in (0, 1):
            for name, expected in both[kind].items():
                torch.testing.assert_close((one[kind][name] + two[kind][name]) / 2, expected, rtol=1e-3, atol=1e-5)


# ---- refused -------------------------------------------------------------------------------------------------------


def test_without_a_teacher_it_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="'distillcse' expected a teacher, got none"):
        distillcse(model, None)


@pytest.mark.parametrize("given", [{"group": 1.5}, {"group": -0.1}, {"teacher_temperature": 0.0}])
def test_settings_that_cannot_be_are_refused(model: Any, given: dict[str, float]) -> None:
    (name,) = given
    with pytest.raises(UserError, match=f"'{name}' of 'distillcse': expected a number"):
        distillcse(model, Vectors(), **given)
