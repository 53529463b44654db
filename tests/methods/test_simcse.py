"""Contrast of texts that belong together: against loops, sentence-transformers' loss, and two processes."""

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
import torch.nn.functional as F
from grouped import columns_of, gradients, sentence_model, simcse
from torch import Tensor

from contrastill.encoder import Embedder, Encoding, by_length
from contrastill.errors import UserError
from contrastill.methods import DisCo, Perturbed, SimCSE
from contrastill.tasks import Classification, Embedding, Pairs


class Vectors:
    """A teacher with a vector (D,) for each text key."""

    def __init__(self, width: int = 7) -> None:
        self.width = width

    def __call__(self, batch: dict[str, Tensor], needs: Any = ()) -> Encoding:
        rows = [torch.randn(self.width, generator=torch.Generator().manual_seed(int(key))) for key in batch["text_key"]]
        return Encoding(batch["attention_mask"].bool(), pooled=torch.stack(rows))


def unit_vectors(method: SimCSE, batch: dict[str, Tensor]) -> Tensor:
    return F.normalize(method.student(batch, {"pooled"}).pooled.detach().double(), dim=-1)


def slow_contrast(vectors: Tensor, keys: list[int], columns: int, scale: float, past: Any = ()) -> float:
    """One anchor, one candidate at a time. past: (vector, key) of earlier positives."""
    rows, total = len(vectors) // columns, 0.0
    candidates = [*zip(vectors[rows:], keys[rows:], strict=True), *past]
    for n in range(rows):
        logits, right = [], None
        for place, (vector, key) in enumerate(candidates):
            if place == n:
                right = len(logits)
            elif key in (keys[n], keys[rows + n]):
                continue  # a copy of the anchor or of its positive is no negative
            logits.append(scale * (vectors[n] @ vector))
        total -= float(torch.stack(logits).log_softmax(0)[right])
    return total / rows


def losses_of(method: SimCSE, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    terms = method.losses(method.student(batch, method.needs), method.run_teacher(batch), batch)
    return {name: term.detach() for name, term in terms.items()}


@pytest.fixture
def model(tiny_model: Any) -> Any:
    return sentence_model(tiny_model(width=16).base_model)


@pytest.mark.parametrize("columns", [2, 3])
def test_the_loss_is_cross_entropy_over_all_positives_and_negatives(model: Any, tiny_batch: Any, columns: int) -> None:
    method, batch = simcse(model, columns=columns, scale=7.0), tiny_batch(rows=5 * columns)
    expected = slow_contrast(unit_vectors(method, batch), batch["text_key"].tolist(), columns, 7.0)
    assert float(losses_of(method, batch)["contrast"]) == pytest.approx(expected, rel=1e-5)


def test_a_copy_of_a_text_is_not_its_negative(model: Any, tiny_batch: Any) -> None:
    method, batch = simcse(model, columns=3), tiny_batch(rows=12)
    keys = batch["text_key"]
    before = losses_of(method, batch)["contrast"]
    keys[6], keys[9], keys[11] = keys[4], keys[1], keys[6]  # a positive, a negative that is an anchor, one a positive
    expected = slow_contrast(unit_vectors(method, batch), keys.tolist(), 3, 20.0)
    found = losses_of(method, batch)["contrast"]
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert found < before - 1e-3


def test_a_text_may_be_its_own_positive(model: Any, tiny_batch: Any) -> None:
    method, half = simcse(model), tiny_batch(rows=4)
    batch = {name: torch.cat([value, value]) for name, value in half.items()}
    expected = slow_contrast(unit_vectors(method, batch), batch["text_key"].tolist(), 2, 20.0)
    assert float(losses_of(method, batch)["contrast"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("columns", [2, 3])
def test_loss_and_gradient_are_those_of_sentence_transformers(model: Any, tiny_batch: Any, columns: int) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")
    batch = tiny_batch(rows=6 * columns)
    theirs = losses.MultipleNegativesRankingLoss(copy.deepcopy(model).train(), scale=20.0)
    expected = theirs(columns_of(batch, columns), None)
    method = simcse(model, columns=columns)
    found = method(**batch)["loss"]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(method, found), gradients(theirs, expected), rtol=1e-4, atol=1e-6)


def test_the_anchor_is_the_cross_entropy_of_both_models_similarities(model: Any, tiny_batch: Any) -> None:
    teacher = Vectors()
    method, batch = simcse(model, teacher, anchor_temperature=0.1, anchor_weight=3.0), tiny_batch(rows=8)
    batch["text_key"][6] = batch["text_key"][1]  # a text that stands twice is no candidate for itself
    student, keys = unit_vectors(method, batch), batch["text_key"].tolist()
    told = F.normalize(teacher(batch).pooled.double(), dim=-1)
    total = 0.0
    for i, key in enumerate(keys):
        others = [j for j, other in enumerate(keys) if other != key]
        t, s = (torch.stack([vectors[i] @ vectors[j] / 0.1 for j in others]) for vectors in (told, student))
        total -= float((t.softmax(0) * s.log_softmax(0)).sum())
    result = method(**batch)
    assert float(result["anchor"]) == pytest.approx(total / len(keys), rel=1e-5)
    torch.testing.assert_close(result["loss"], result["contrast"] + 3 * result["anchor"])
    torch.testing.assert_close(result["contrast"], losses_of(simcse(model), batch)["contrast"])


def test_the_queue_holds_past_positives_as_further_negatives(model: Any, tiny_batch: Any) -> None:
    method, first, second = simcse(model, queue=5), tiny_batch(rows=8, seed=1), tiny_batch(rows=8, seed=2)
    positives = unit_vectors(method, first)[4:]
    method(**first)
    second["text_key"][1] = first["text_key"][6]  # an anchor that was a positive
    past = list(zip(positives, first["text_key"][4:].tolist(), strict=True))
    expected = slow_contrast(unit_vectors(method, second), second["text_key"].tolist(), 2, 20.0, past)
    assert float(method(**second)["contrast"]) == pytest.approx(expected, rel=1e-5)
    assert method.queue.pushed == 8
    method.eval()(**first)
    assert method.queue.pushed == 8, "evaluation leaves the queue"


@pytest.mark.parametrize("norm", ["none", "l2-per-token"])
def test_perturbation_steps_in_every_group_of_texts(model: Any, tiny_batch: Any, norm: str, monkeypatch: Any) -> None:
    batch, found = tiny_batch(rows=12), []
    for cost in (1_000_000, 0):  # one group, or as many as pay
        monkeypatch.setattr("contrastill.encoder.GROUP_COST", cost)
        method = simcse(copy.deepcopy(model))
        loss = Perturbed(method, norm, 0.3)(**batch)["loss"]
        found.append((loss, gradients(method, loss), losses_of(method, batch)["contrast"]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
    assert abs(found[0][0] - found[0][2]) > 1e-4


# ---- the student ---------------------------------------------------------------------------------------------------


def test_texts_of_a_like_length_run_together_and_come_back_in_their_order(
    model: Any, tiny_batch: Any, monkeypatch: Any
) -> None:
    batch, widths = tiny_batch(rows=12, longest=20), []
    model[0].register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0]["input_ids"].shape))
    student = Embedder(model, model[0].auto_model)
    whole = student(batch, {"pooled"}).pooled
    assert widths == [(12, 20)]  # so few tokens do not pay for a second pass
    monkeypatch.setattr("contrastill.encoder.GROUP_COST", 0)
    torch.testing.assert_close(student(batch, {"pooled"}).pooled, whole)
    assert len(widths) > 2
    assert sum(rows for rows, _ in widths[1:]) == 12
    assert sum(rows * longest for rows, longest in widths[1:]) < 0.8 * 12 * 20


def test_the_groups_cost_least_and_keep_padding_on_the_left() -> None:
    lengths = torch.tensor([3] * 100 + [60] * 100)
    mask = torch.arange(60) < lengths.unsqueeze(1)
    assert [(len(rows), longest) for rows, longest in by_length(mask)] == [(100, 60), (100, 3)]
    assert [(len(rows), longest) for rows, longest in by_length(mask.flip(1))] == [(200, 60)]
    assert [(len(rows), longest) for rows, longest in by_length(mask[:1])] == [(1, 3)]


def test_under_bfloat16_the_transformer_computes_in_it_and_pooling_does_not(model: Any, tiny_batch: Any) -> None:
    seen, batch = [], tiny_batch(rows=8)
    model[0].auto_model.encoder.layer[0].register_forward_hook(lambda _m, _i, output: seen.append(output[0].dtype))
    method = simcse(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = method(**batch)["loss"]
    assert seen == [torch.bfloat16]
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, simcse(model)(**batch)["loss"], rtol=0.05, atol=0.05)
    assert all(grad.dtype == torch.float32 for grad in gradients(method, loss).values())


def test_a_checkpoint_has_each_weight_once(model: Any) -> None:
    method = simcse(model)
    assert set(method.state_dict()) == {
        *(f"student.model.{name}" for name in model.state_dict()),
        *(f"queue.{name}" for name in ("vectors", "keys", "pushed")),
    }
    twin = copy.deepcopy(method)
    assert twin.student.transformer is twin.student.model[0].auto_model is not model[0].auto_model


def test_word_vectors_have_no_transformer_and_no_embeddings_to_perturb(tiny_batch: Any) -> None:
    class Table(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.EmbeddingBag(50, 8)

        def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
            assert set(features) == {"input_ids", "offsets"}
            return {"sentence_embedding": self.table(features["input_ids"], features["offsets"])}

    model = torch.nn.Sequential(Table())
    model.get_embedding_dimension = lambda: 8
    method = SimCSE(Embedder(model, None), None, Pairs())
    batch = {"input_ids": torch.arange(8), "offsets": torch.tensor([0, 3, 4, 6]), "text_key": torch.arange(4)}
    loss = method(**batch)["loss"]
    loss.backward()
    assert model[0].table.weight.grad.abs().sum() > 0
    with pytest.raises(UserError, match=r"a transformer, got one of Table.*leave --perturb out"):
        Perturbed(method)(**batch)


# ---- what goes with what -------------------------------------------------------------------------------------------


def test_it_learns_texts_that_belong_together_and_others_learn_single_texts() -> None:
    assert SimCSE.serves(Pairs)
    assert not SimCSE.serves(Embedding)
    assert not DisCo.serves(Pairs)
    assert DisCo.serves(Embedding)


def test_another_task_is_refused(tiny_model: Any) -> None:
    with pytest.raises(UserError, match="'simcse'"):
        SimCSE(tiny_model(), None, Classification("abc"))


# ---- two processes -------------------------------------------------------------------------------------------------


def steps_of(method: SimCSE, batches: list[dict[str, Tensor]]) -> list[Any]:
    found = []
    for batch in batches:
        method.zero_grad()
        result = method(**batch)
        result["loss"].backward()
        terms = {name: value.detach() for name, value in result.items()}
        found.append((terms, {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}))
    return [*found, method.queue.state_dict()]


def one_of_two(rank: int, method: SimCSE, halves: list[Any], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(steps_of(method, [half[rank] for half in halves]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_the_mean_over_two_processes_is_the_whole_batch_on_one(model: Any, tiny_batch: Any, tmp_path: Any) -> None:
    method = simcse(model, Vectors(), columns=3, queue=10, anchor_weight=2.0)
    batches = [tiny_batch(rows=18, seed=seed) for seed in range(3)]
    batches[0]["text_key"][4] = batches[0]["text_key"][7]  # a copy of a text on the other process
    halves = [
        [{name: value.view(3, 6, -1)[:, rows].flatten(0, 1) for name, value in batch.items()} for rows in parts]
        for batch in batches
        for parts in [(slice(0, 3), slice(3, 6))]
    ]
    for half in (half for pair in halves for half in pair):
        half.update({name: half[name].squeeze(1) for name in ("text_key", "labels", "index")})
    whole = steps_of(copy.deepcopy(method), batches)
    processes.start_processes(one_of_two, (method, halves, str(tmp_path)), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for one, two, both in zip(first[:-1], second[:-1], whole[:-1], strict=True):
        for kind in (0, 1):
            for name, expected in both[kind].items():
                mean = (one[kind][name] + two[kind][name]) / 2
                torch.testing.assert_close(mean, expected, rtol=1e-3, atol=1e-5)
    for found in (first, second):
        torch.testing.assert_close(found[-1], whole[-1])
