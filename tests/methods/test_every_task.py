"""Every method on every task that it serves: `METHODS` times `TASKS`."""

import math

import pytest
import torch
from method_rows import OF_TEXTS

from contrastill.methods import METHODS
from contrastill.tasks import (
    TASKS,
    BareEncoder,
    Classification,
    Embedding,
    LabelledTask,
    MultiLabel,
    Pairs,
    Regression,
    Tagging,
)

MADE = {
    "classification": lambda: Classification("abc"),
    "regression": Regression,
    "multilabel": lambda: MultiLabel("abc"),
    "tagging": lambda: Tagging(["a"]),  # O, B-a and I-a
    "embedding": Embedding,
    "encoder": BareEncoder,
    "pairs": lambda: Pairs(columns=2),
}
SERVED = [(name, task) for name, method in OF_TEXTS.items() for task, cls in TASKS.items() if method.serves(cls)]
LABELLED = [(name, task) for name, task in SERVED if issubclass(TASKS[task], LabelledTask)]


def labels_of(task, batch):
    rows = len(batch["input_ids"])
    if task == "tagging":  # every other token is the first of a word
        return (torch.arange(batch["input_ids"].numel()).reshape(rows, -1) % 3).where(answered(batch), -100)
    if task == "multilabel":  # the first row has no label, the next all
        return (torch.arange(rows * 3).reshape(rows, 3) % 4 == 1).float().index_fill(0, torch.tensor([0]), 0.0)
    return torch.linspace(-1, 1, rows) if task == "regression" else torch.arange(rows) % 3


def answered(batch):
    """Tokens that begin a word: every other real one."""
    return batch["attention_mask"].bool() & (torch.arange(batch["input_ids"].shape[1]) % 2 == 0)


@pytest.fixture
def made(tiny_model, tiny_words, tiny_batch):
    """`made("kd", "multilabel")`: a method on that task, and a batch for it."""

    def build(name, task):
        outputs = 1 if task == "regression" else 3
        tags = task == "tagging"
        student, teacher = (
            tiny_model(layers=n, width=w, classes=outputs, seed=n, tags=tags) for n, w in ((2, 16), (4, 24))
        )
        if "logits" not in TASKS[task].outputs:
            student, teacher = student.base_model, teacher.base_model
        batch = tiny_batch()
        batch["labels"] = labels_of(task, batch)
        if tags:
            batch["answered"] = answered(batch)
        of = tiny_words(width=24) if METHODS[name].guesses_words else MADE[task]()
        return METHODS[name](student, teacher, of).train(), batch

    return build


def test_every_task_is_made_here_and_served_by_some_method():
    assert {*MADE, "language"} == set(TASKS)  # that one: tests/language
    assert {task for _, task in SERVED} == set(MADE)
    assert {"lrc_bert", "kd", "pkd", "tinybert", "finetune"} <= {name for name, task in SERVED if task == "multilabel"}
    assert {"lrc_bert", "kd", "pkd", "tinybert", "finetune"} <= {name for name, task in SERVED if task == "tagging"}
    assert len(SERVED) >= 28


@pytest.mark.parametrize(("name", "task"), SERVED)
def test_every_stage_trains_the_student(name, task, made):
    method, batch = made(name, task)
    assert method.stages
    for stage in method.stages:
        method.stage = stage
        method.zero_grad()
        result = method(**batch)
        assert all(value.shape == () and value.isfinite() for value in result.values())
        assert set(stage.weights) <= set(result) - {"loss"}
        result["loss"].backward()
        grads = [p.grad for p in method.student.parameters() if p.grad is not None]
        assert any(grad.abs().sum() > 0 for grad in grads)
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize(("name", "task"), LABELLED)
def test_a_row_without_a_label_counts_in_the_hard_term_as_one_without_an_error(name, task, made):
    method, batch = made(name, task)
    labelled = torch.tensor([True, False, True, True, False, True])
    batch["labels"][~labelled] = -100 if task in ("classification", "tagging") else math.nan
    torch.manual_seed(0)
    terms = method.losses(method.student(batch, method.needs), method.run_teacher(batch), batch)
    if "hard" not in terms:
        return
    alone = {key: value[labelled] for key, value in batch.items()}
    torch.manual_seed(0)
    fewer = method.losses(method.student(alone, method.needs), method.run_teacher(alone), alone)
    torch.testing.assert_close(terms["hard"], fewer["hard"] * labelled.float().mean())


@pytest.mark.parametrize(("name", "task"), [(n, t) for n, t in LABELLED if n in ("kd", "pkd", "lrc_bert", "tinybert")])
def test_a_student_that_answers_as_its_teacher_has_no_soft_loss(name, task, made):
    method, batch = made(name, task)
    term = "kd" if name in ("kd", "pkd") else "soft"
    teacher = method.run_teacher(batch)
    student = method.student(batch, method.needs)
    compared = getattr(method, term)
    assert compared(student, teacher, 2.0) > 1e-4
    same = type(student)(mask=student.mask, logits=teacher.logits, answered=student.answered)
    assert compared(same, teacher, 2.0).item() == pytest.approx(0, abs=1e-6)
