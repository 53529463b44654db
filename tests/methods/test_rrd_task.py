"""RRD on labelled tasks: its term against loops, what it remembers, and what is stored for it."""

import copy
import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from torch import Tensor

from contrastill.encoder import Wanted
from contrastill.errors import UserError
from contrastill.methods import RRD, RRDTask
from contrastill.tasks import BareEncoder, Classification, Embedding, MultiLabel, Pairs, Regression, Tagging


@pytest.fixture(autouse=True)
def fixed_projections():
    torch.manual_seed(0)


def pooled(model, batch, pool) -> list[Tensor]:
    """Of each text the mean, or the first, of its real tokens' vectors in the last layer; read one text at a time."""
    found = []
    with torch.no_grad():
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True):
            last = model.base_model(input_ids=ids[mask].unsqueeze(0)).last_hidden_state[0]
            found.append(last[0] if pool == "cls" else last.mean(0))
    return found


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def softmax(scores):
    whole = sum(math.exp(score) for score in scores)
    return [math.exp(score) / whole for score in scores]


def slow_term(method, batch, past, pool, ours, theirs):
    """Cross-entropy to the teacher's distribution over the other texts, one text after the other."""
    t, keys = pooled(method.teacher.model, batch, pool), batch["text_key"].tolist()
    s = [method.project(x).detach() for x in pooled(method.student.model, batch, pool)]
    candidates = [*zip(t, keys, strict=True), *past]
    losses = []
    for n, key in enumerate(keys):
        others = [vector for vector, other in candidates if other != key]
        wanted = softmax([cosine(t[n], other) / theirs for other in others])
        found = softmax([cosine(s[n], other) / ours for other in others])
        losses.append(-sum(w * math.log(f) for w, f in zip(wanted, found, strict=True)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_the_term_is_the_cross_entropy_over_the_other_texts_of_batch_and_bank(pool, tiny_method, tiny_batch):
    settings = {"pool": pool, "queue": 4, "temperature": 0.3, "teacher_temperature": 0.7}
    method = tiny_method("rrd_task", settings).train()
    past, batch = tiny_batch(rows=3, seed=1), tiny_batch(rows=4, seed=2)
    past["text_key"], batch["text_key"] = torch.tensor([5, 6, 7]), torch.tensor([1, 6, 2, 1])  # copies of both kinds
    assert float(method(**past)["rrd"]) == pytest.approx(slow_term(method, past, [], pool, 0.3, 0.7), rel=1e-4)
    bank = list(zip(pooled(method.teacher.model, past, pool), [5, 6, 7], strict=True))
    expected = slow_term(method, batch, bank, pool, 0.3, 0.7)
    assert float(method(**batch)["rrd"]) == pytest.approx(expected, rel=1e-4)
    assert method.queue.pushed == 7
    assert sorted(method.queue.keys.tolist()) == [1, 1, 2, 6]


def test_the_loss_is_the_weighted_sum_and_kd_has_a_temperature_of_its_own(tiny_method, tiny_batch):
    settings = {"rrd": 2.0, "kd": 0.5, "hard": 3.0, "kd_temperature": 5.0, "temperature": 0.3}
    method, batch = tiny_method("rrd_task", settings), tiny_batch()
    result = method(**batch)
    torch.testing.assert_close(result["loss"], 2 * result["rrd"] + 0.5 * result["kd"] + 3 * result["hard"])
    with torch.no_grad():
        student, teacher = method.student(batch, method.needs), method.run_teacher(batch)
    t, s = (model.logits.div(5).log_softmax(1) for model in (teacher, student))
    torch.testing.assert_close(result["kd"], 25 * (t.exp() * (t - s)).sum(1).mean())


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_of_a_text_one_vector_is_stored(pool, tiny_method):
    method = tiny_method("rrd_task", {"pool": pool})
    assert method.wanted == Wanted(logits=True, layers=(4,), granularity=pool)


def test_what_is_stored_gives_the_terms_of_the_live_teacher(tiny_method, tiny_batch):
    """The cache answers with one vector in place of a text's tokens."""
    method, batch = tiny_method("rrd_task", {"queue": 0}), tiny_batch()
    student, live = method.student(batch, method.needs), method.run_teacher(batch)
    whole = method.losses(student, live, batch)
    vectors = torch.stack(pooled(method.teacher.model, batch, "mean"))
    mask = torch.ones(len(vectors), 1, dtype=torch.bool)
    stored = type(live)(mask, live.logits, (None, None, None, None, vectors.unsqueeze(1)))
    torch.testing.assert_close(method.losses(student, stored, batch), whole)


def test_a_static_student_is_compared_by_its_mean_and_not_by_its_first_token(tiny_model, tiny_batch):
    task, teacher, batch = Classification("abc"), tiny_model(layers=4, width=24, seed=1), tiny_batch()
    student = tiny_model("static", width=16)
    method = RRDTask(student, teacher, task, queue=0, temperature=0.3, teacher_temperature=0.7)
    expected = slow_term(method, batch, [], "mean", 0.3, 0.7)
    assert float(method(**batch)["rrd"]) == pytest.approx(expected, rel=1e-4)
    with pytest.raises(UserError, match=r"--set pool=mean for a static student, got cls"):
        RRDTask(student, teacher, task, pool="cls")


def test_it_serves_answers_to_texts_and_rrd_vectors():
    assert all(RRDTask.serves(task) for task in (Classification, Regression, MultiLabel))
    assert not any(RRDTask.serves(task) for task in (Tagging, Embedding, BareEncoder, Pairs))
    assert RRD.serves(Embedding)
    assert not RRD.serves(Classification)


@pytest.mark.parametrize("value", ["tokens", "first", 3])
def test_a_pool_that_is_none_is_refused(value, tiny_method):
    with pytest.raises(UserError, match="'pool' of 'rrd_task': expected one of cls, mean, got"):
        tiny_method("rrd_task", {"pool": value})


# ---- two processes -------------------------------------------------------------------------------------------------


def steps_of(method, batches):
    found = []
    for batch in batches:
        method.zero_grad()
        result = method(**batch)
        result["loss"].backward()
        gradients = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
        found.append(({name: term.detach() for name, term in result.items()}, gradients))
    return found, method.queue.state_dict()


def one_of_two(rank, method, halves, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(steps_of(method, [half[rank] for half in halves]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_the_mean_over_two_processes_is_the_whole_batch_on_one(tiny_method, tiny_batch, tmp_path):
    method = tiny_method("rrd_task", {"queue": 10})
    batches = [tiny_batch(rows=6, seed=seed) for seed in range(2)]
    batches[0]["text_key"][4] = batches[0]["text_key"][1]  # a copy of a text on the other process
    halves = [[{n: v[rows] for n, v in b.items()} for rows in (slice(0, 3), slice(3, 6))] for b in batches]
    whole = steps_of(copy.deepcopy(method), batches)
    processes.start_processes(one_of_two, (method, halves, str(tmp_path)), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for one, two, both in zip(first[0], second[0], whole[0], strict=True):
        for kind in (0, 1):
            for name, expected in both[kind].items():
                mean = (one[kind][name] + two[kind][name]) / 2
                torch.testing.assert_close(mean, expected, rtol=1e-3, atol=1e-5)
    for found in (first, second):
        torch.testing.assert_close(found[1], whole[1])
