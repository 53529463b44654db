"""Distillation from a file of answers, with no teacher model: whole runs, what they say, and what they refuse."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import stopping_at
from workshop import CLASSES, QUICK, Workshop, sha256

from contrastill import Distillation, Interrupted, UserError, distill, predict
from contrastill.data.both import TEACHER
from contrastill.losses import soft_kl
from contrastill.teachers import TableTeacher
from contrastill.training import plan_distillation
from contrastill.training.labelled import LabelledPlan

NAMES = list(CLASSES)
SPLITS = ("train", "dev", "test")


def rows_of(workshop: Workshop, *splits: str, task: str = "single") -> list[dict[str, str]]:
    found = []
    for split in splits:
        with (workshop.data(task) / f"{split}.csv").open(encoding="utf-8") as file:
            found += list(csv.DictReader(file))
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def answers(rows: list[dict[str, str]], sure: float = 0.9) -> list[dict[str, Any]]:
    """Of a teacher that is mostly right."""
    rest = (1 - sure) / 2
    return [
        {"text": row["text"], "probabilities": {name: sure if name == row["label"] else rest for name in NAMES}}
        for row in rows
    ]


@pytest.fixture
def planned(workshop: Workshop, tmp_path: Path) -> Callable[..., LabelledPlan]:
    def plan(rows: list[dict[str, Any]] | None = None, **changes: Any) -> LabelledPlan:
        settings = {"data": str(workshop.data()), "out": str(tmp_path / "run"), **QUICK, "max_length": 60}
        settings |= {"student": "as-is", "start": str(workshop.pieces()), **changes}
        if rows is not None:
            settings["teacher_outputs"] = write(tmp_path / "answers.jsonl", rows)
        return plan_distillation(Distillation(**settings))

    return plan


@pytest.fixture(scope="module")
def run(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on the answers that `predict` wrote: those of all classes, in fields."""
    folder = tmp_path_factory.mktemp("outputs")
    rows = [{"text": row["text"]} for row in rows_of(workshop, *SPLITS)]
    write(folder / "texts.jsonl", rows)
    made = folder / "answers.csv"
    teacher = str(workshop.teacher(plain=True))
    predict(model=teacher, data=str(folder / "texts.jsonl"), keep=["text"], probabilities=True, out=str(made))
    asked = QUICK | {"student": "as-is", "start": str(workshop.pieces()), "max_length": 60, "checks": 2, "epochs": 8}
    settings = {"teacher_outputs": str(made), "data": str(workshop.data()), "out": str(folder / "run"), **asked}
    return distill(**settings), settings


def test_a_run_learns_from_what_predict_wrote(run: Any, workshop: Workshop) -> None:
    made, settings = run
    record = json.loads((made.folder / "run.json").read_text())
    assert record["settings"]["method"] == "kd"
    assert record["settings"]["teacher"] is None
    said = record["data"]["decisions"]["teacher"]
    assert (
        said
        == f"answers from {settings['teacher_outputs']}, read as probabilities; 100.0% of 64 training texts have one"
    )
    assert len(record["teacher_fingerprint"]) == 64
    assert made.metrics["teacher"]["test"]["metrics"]["accuracy"] > 0.8
    assert "kept" in made.metrics
    assert made.metrics["student"]["test"]["metrics"]["accuracy"] > 0.7
    assert "answers.csv" in (made.model / "README.md").read_text()
    page = (made.folder / "report.html").read_text()
    assert "100.0% of 64 training texts have one" in page
    assert "answers.csv" in page
    assert "Run(" in repr(made)
    assert "teacher" in made._repr_html_()


def test_its_losses_are_those_of_the_model_that_answered(run: Any, workshop: Workshop) -> None:
    _, settings = run
    plan = plan_distillation(Distillation(**settings | {"out": "unused"}))
    same = {key: value for key, value in settings.items() if key != "teacher_outputs"}
    model = str(workshop.teacher(plain=True))
    live = plan_distillation(Distillation(**same | {"teacher": model, "method": "kd", "out": "unused"}))
    batch = plan.batch(range(16))
    ours, theirs = plan.method.teacher(batch, {"logits"}), live.method.teacher(live.batch(range(16)), {"logits"})
    torch.testing.assert_close(ours.logits[:, :-1], theirs.logits.log_softmax(-1), rtol=1e-3, atol=1e-4)
    student = torch.randn(16, 3)
    got, expected = (
        plan.task.soft(student, ours.logits, batch["attention_mask"], 2.0),
        soft_kl(student, theirs.logits, 2.0),
    )
    assert float(got) == pytest.approx(float(expected), rel=1e-3)
    assert TEACHER + "input_ids" not in batch


def test_a_run_stopped_and_resumed_ends_as_the_uninterrupted_one(run: Any, tmp_path: Path) -> None:
    made, settings = run
    settings = settings | {"out": str(tmp_path / "run")}
    with stopping_at(5), pytest.raises(Interrupted):
        distill(**settings)
    resumed = distill(**settings, resume=True)
    assert sha256(resumed.model / "model.safetensors") == sha256(made.model / "model.safetensors")


def test_other_answers_are_noticed_when_a_run_is_resumed(run: Any, workshop: Workshop, tmp_path: Path) -> None:
    _, settings = run
    path = write(tmp_path / "answers.jsonl", answers(rows_of(workshop, "train")))
    settings = settings | {"out": str(tmp_path / "run"), "teacher_outputs": path}
    with stopping_at(3), pytest.raises(Interrupted):
        distill(**settings)
    write(tmp_path / "answers.jsonl", answers(rows_of(workshop, "train"), 0.8))
    with pytest.raises(UserError, match="teacher"):
        distill(**settings, resume=True)


# ---- which texts have answers


def test_labelled_texts_without_an_answer_are_used_by_the_label_loss(
    planned: Callable[..., LabelledPlan], workshop: Workshop
) -> None:
    plan = planned(answers(rows_of(workshop, "train"))[:40])
    assert len(plan.examples) == 64
    said = plan.describe()["decisions"]["teacher"]
    assert "62.5% of 64 training texts have one; 24 with a label alone are used by the label loss" in said
    assert "the teacher has no score on dev (0.0% of its texts have an answer) and test (0.0%" in said
    batch = plan.batch(range(64))
    seen = plan.method.teacher(batch, {"logits"}).logits
    assert int(seen.isnan().all(1).sum()) == 24
    assert all(value.isfinite() for value in plan.method(**batch).values())
    assert plan.teacher_scores == {}


def test_texts_with_neither_label_nor_answer_are_left_out(
    planned: Callable[..., LabelledPlan], workshop: Workshop, tmp_path: Path
) -> None:
    more = tmp_path / "more.txt"
    more.write_text("word1 soup\nword2 song\nword3 team\n")
    rows = [*answers(rows_of(workshop, *SPLITS)), {"text": "word2 song", "probabilities": {"music": 1.0}}]
    plan = planned(rows, unlabelled=str(more))
    assert len(plan.examples) == 65
    assert plan.unlabelled == 1
    assert "2 with neither are left out" in plan.decided["teacher"]
    assert set(plan.teacher_scores) == {"dev", "test"}
    assert plan.teacher_scores["dev"].metrics["accuracy"] == 1.0


def test_labels_of_dev_alone_suffice(planned: Callable[..., LabelledPlan], workshop: Workshop, tmp_path: Path) -> None:
    """Training texts without any label: the head starts at random, dev labels choose the checkpoint."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "dev.csv").write_text((workshop.data() / "dev.csv").read_text())
    rows = rows_of(workshop, "train")
    (tmp_path / "texts.txt").write_text("".join(row["text"] + "\n" for row in rows))
    plan = planned(answers(rows), data=str(folder), unlabelled=str(tmp_path / "texts.txt"), labels=NAMES)
    assert plan.unlabelled == 64
    plan.score_start(None)  # type: ignore[arg-type]
    assert plan.decided["head"] == "random, as no training row has a label to fit it to"
    assert all(value.isfinite() for value in plan.method(**plan.batch(range(8))).values())


def test_without_data_the_answers_are_the_labels(planned: Callable[..., LabelledPlan], workshop: Workshop) -> None:
    plan = planned(answers(rows_of(workshop, "train", "test")), data=None)
    assert plan.data.schema.name == "answers"
    assert (plan.task.name, plan.task.labels) == ("classification", ("food", "music", "sport"))
    decided = plan.describe()["decisions"]
    assert decided["labels"].startswith(
        "the teacher's answers, as there is no --data: scores on rows held out are agree"
    )
    truth = {row["text"]: row["label"] for row in rows_of(workshop, "train", "test")}
    assert plan.data.train is not None
    assert plan.data.dev is not None
    for row in [*plan.data.train, *plan.data.dev]:
        assert NAMES[row["label"]] == truth[row["text"]]
    assert plan.teacher_scores == {}
    plan.score_start(None)  # type: ignore[arg-type]
    assert "fitted to" in plan.decided["head"]


@pytest.mark.parametrize(
    ("rows", "task", "labels"),
    [
        ([{"label": NAMES[n % 3], "confidence": 0.8} for n in range(40)], "classification", tuple(NAMES)),
        ([{"labels": [NAMES[n % 3], NAMES[n % 2]]} for n in range(40)], "multilabel", tuple(NAMES)),
        ([{"score": n / 40} for n in range(40)], "regression", ()),
    ],
)
def test_each_kind_of_answers_makes_a_run(
    planned: Callable[..., LabelledPlan], rows: list[dict[str, Any]], task: str, labels: tuple[str, ...]
) -> None:
    told = [{"text": f"word{n} soup word{n + 1} number {n}", **row} for n, row in enumerate(rows)]
    asked = {"task": "multilabel"} if task == "multilabel" else {}
    plan = planned(told, data=None, **asked)
    assert (plan.task.name, plan.task.labels) == (task, labels)
    assert all(value.isfinite() for value in plan.method(**plan.batch(range(8))).values())


def test_answers_to_pairs_are_found(planned: Callable[..., LabelledPlan], workshop: Workshop) -> None:
    rows = [
        {"sentence1": row["sentence1"], "text_pair": row["sentence2"], "label": row["label"]}
        for row in rows_of(workshop, "train", task="pairs")
    ]
    plan = planned(rows, data=str(workshop.data("pairs")))
    assert "100.0% of 64 training texts" in plan.decided["teacher"]


def test_scores_are_learnt_from_a_file(planned: Callable[..., LabelledPlan], workshop: Workshop) -> None:
    rows = [{"text": row["text"], "score": row["score"]} for row in rows_of(workshop, *SPLITS, task="scores")]
    plan = planned(rows, data=str(workshop.data("scores")))
    assert plan.teacher_scores["dev"].metrics["pearson"] == pytest.approx(1.0)
    assert plan.method.teacher(plan.batch([3]), {"logits"}).logits.item() == pytest.approx(float(rows[3]["score"]))


def test_entities_are_hard_targets(planned: Callable[..., LabelledPlan], tmp_path: Path) -> None:
    from test_tagging_run import write_rows

    for split, count, seed in (("train", 60, 0), ("dev", 30, 1), ("test", 8, 2)):
        write_rows(tmp_path / f"{split}.jsonl", count, seed)
    (tmp_path / "more.txt").write_text("word1 soup word2\nword3 goal\n")
    rows = [json.loads(line) for split in SPLITS for line in (tmp_path / f"{split}.jsonl").read_text().splitlines()]
    rows.append({"text": "word1 soup word2", "spans": [{"start": 6, "end": 10, "label": "food"}]})
    (tmp_path / "data").mkdir()
    for split in SPLITS:
        (tmp_path / f"{split}.jsonl").rename(tmp_path / "data" / f"{split}.jsonl")
    plan = planned(rows[10:], data=str(tmp_path / "data"), unlabelled=str(tmp_path / "more.txt"))
    assert isinstance(plan.method.teacher, TableTeacher)
    assert len(plan.examples) == 61
    batch = plan.batch(range(len(plan.examples)))
    logits = plan.method.teacher(batch, {"logits"}).logits
    said, labels = logits.argmax(-1), batch["labels"]
    both = batch["answered"] & (labels != -100)
    assert both.any()
    assert torch.equal(said[both], labels[both])
    assert not batch["answered"][:10].any()
    assert (labels[:10] != -100).any()
    assert all(value.isfinite() for value in plan.method(**batch).values())
    assert plan.teacher_scores["dev"].metrics["f1"] == 1.0


# ---- refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher": "somewhere"}, "expected one of --teacher .* and --teacher-outputs .*got both"),
        ({"student": "4L-312"}, "names no model that a student of the shape 4L-312 could be made of.*--student as-is"),
        ({"start": "inherit"}, "--student as-is takes an encoder as it is"),
        ({"method": "lrc_bert"}, "'lrc_bert' compares hidden, which a file of answers does not give.*--method kd"),
        ({"method": "finetune"}, "'finetune' learns from no teacher"),
        ({"labels": ["food", "music"]}, "sport"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(
    planned: Callable[..., LabelledPlan], workshop: Workshop, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        planned(answers(rows_of(workshop, "train")), **changes)


def test_neither_teacher_nor_answers_is_an_error(planned: Callable[..., LabelledPlan]) -> None:
    with pytest.raises(UserError, match="got neither"):
        planned()


def test_answers_to_other_texts_are_refused(planned: Callable[..., LabelledPlan]) -> None:
    rows = [{"text": f"other {n}", "label": NAMES[n % 3]} for n in range(9)]
    with pytest.raises(UserError, match="got none to any of 64: texts are found by their characters"):
        planned(rows)


def test_lists_without_a_kind_are_refused(planned: Callable[..., LabelledPlan]) -> None:
    rows = [{"text": f"other {n}", "labels": [NAMES[n % 3]]} for n in range(9)]
    with pytest.raises(UserError, match="answers that show their kind, got labels; pass --task"):
        planned(rows, data=None)
    with pytest.raises(UserError, match="at least two labels, got 0; pass --labels"):
        planned([{"text": f"other {n}", "logits": [0, 1]} for n in range(9)], data=None, task="classification")
