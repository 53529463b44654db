"""Whole runs: fine-tune, distil, and what lies in the folder afterwards."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
from workshop import CLASSES, Workshop, sha256, snapshot, write_csv

from contrastill import METHODS, Distillation, UserError, distill, evaluate, finetune
from contrastill.errors import CheckFailed
from contrastill.tasks import Classification
from contrastill.training import plan_distillation
from contrastill.training.trainer import DistillationTrainer

LEFT = {
    "run.json",
    "metrics.json",
    "checkpoints",
    "log.jsonl",
    "evidence.json",
    "seen.safetensors",
    "report.html",
}
TASKS = {"single": "accuracy", "pairs": "accuracy", "scores": "spearman"}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def runs(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A distilled student of each task, by LRC-BERT in 4 epochs."""
    root = tmp_path_factory.mktemp("runs")
    return {task: workshop.distill(root / task, task, epochs=4) for task in TASKS}


@pytest.mark.parametrize("task", TASKS)
def test_a_run_leaves_model_metrics_record_and_log(runs: dict[str, Any], task: str) -> None:
    folder = runs[task].folder
    assert {p.name for p in folder.iterdir()} == LEFT | {"student"}
    there = {p.name for p in (folder / "student").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"} <= there
    assert runs[task].model == folder / "student"
    assert read(folder / "metrics.json") == runs[task].metrics


@pytest.mark.parametrize(("task", "metric"), TASKS.items())
def test_a_student_learns_the_task_and_is_smaller_than_its_teacher(
    runs: dict[str, Any], workshop: Workshop, task: str, metric: str
) -> None:
    metrics = runs[task].metrics
    floor = {"single": 0.7, "pairs": 0.8, "scores": 0.8}[task]
    assert metrics["metric"] == metric
    assert metrics["teacher"]["test"]["metrics"][metric] > floor
    assert metrics["student"]["test"]["metrics"][metric] > floor
    assert metrics["student"]["parameters"] < metrics["teacher"]["parameters"] / 2
    assert metrics["student"]["test"]["rows"] == 36
    low, high = metrics["student"]["test"]["interval"]
    assert low <= metrics["student"]["test"]["metrics"][metric] <= high
    share = metrics["student"]["test"]["metrics"][metric] / metrics["teacher"]["test"]["metrics"][metric]
    assert metrics["kept"]["test"] == pytest.approx(share)
    assert metrics["steps"] == 32
    phases = {"preparation", "scores before", "teacher outputs", "checks", "training", "evaluation"}
    assert set(metrics["seconds"]) == phases


@pytest.mark.parametrize("task", TASKS)
def test_plain_transformers_load_the_student_and_find_the_same_score(
    runs: dict[str, Any], workshop: Workshop, task: str
) -> None:
    import csv

    from scipy.stats import spearmanr

    model = AutoModelForSequenceClassification.from_pretrained(runs[task].model).eval()
    tokenizer = AutoTokenizer.from_pretrained(runs[task].model)
    rows = list(csv.DictReader((workshop.data(task) / "test.csv").open()))
    firsts = [row.get("text") or row["sentence1"] for row in rows]
    seconds = [row["sentence2"] for row in rows] if task == "pairs" else None
    with torch.inference_mode():
        logits = model(**tokenizer(firsts, seconds, padding=True, return_tensors="pt")).logits
    reported = runs[task].metrics["student"]["test"]["metrics"]
    if task == "scores":
        found = spearmanr(logits[:, 0].numpy(), [float(row["score"]) for row in rows]).statistic
        assert reported["spearman"] == pytest.approx(found, abs=1e-6)
    else:
        names = [model.config.id2label[int(n)] for n in logits.argmax(-1)]
        right = np.mean([name == row["label"] for name, row in zip(names, rows, strict=True)])
        assert reported["accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("task", TASKS)
def test_evaluate_finds_the_score_of_the_run(runs: dict[str, Any], workshop: Workshop, task: str) -> None:
    scored = evaluate(model=str(runs[task].model), data=str(workshop.data(task)), split="test", max_length=32)
    assert scored["metrics"] == pytest.approx(runs[task].metrics["student"]["test"]["metrics"], abs=1e-6)
    assert scored["parameters"] == runs[task].metrics["student"]["parameters"]
    assert scored["rows"] == 36


def test_the_student_s_config_has_the_class_names(runs: dict[str, Any]) -> None:
    config = read(runs["single"].model / "config.json")
    assert config["id2label"] == {str(n): name for n, name in enumerate(sorted(CLASSES))}
    assert config["label2id"] == {name: n for n, name in enumerate(sorted(CLASSES))}
    assert config["architectures"] == ["BertForSequenceClassification"]
    answer = pipeline("text-classification", model=str(runs["single"].model))("word1 drum choir word4")
    assert answer[0]["label"] in CLASSES
    assert read(runs["scores"].model / "config.json")["problem_type"] == "regression"


def test_the_card_says_what_the_model_is_and_how_it_scores(runs: dict[str, Any]) -> None:
    card = (runs["single"].model / "README.md").read_text()
    accuracy = runs["single"].metrics["student"]["test"]["metrics"]["accuracy"]
    assert f"{accuracy:.4f}" in card
    assert "lrc_bert" in card
    assert "food, music, sport" in card
    assert card.startswith("---\nlibrary_name: transformers\n")


def test_the_record_seals_the_files_of_the_model(runs: dict[str, Any]) -> None:
    folder = runs["pairs"].folder
    seals = read(folder / "run.json")["files"]
    names = {path.relative_to(folder).as_posix() for path in (folder / "student").rglob("*") if path.is_file()}
    assert set(seals) == names - {"student/README.md"}
    assert seals["student/model.safetensors"]["sha256"] == sha256(folder / "student" / "model.safetensors")


def test_the_record_says_what_was_run_on_what(runs: dict[str, Any], workshop: Workshop) -> None:
    folder = runs["single"].folder
    record = read(folder / "run.json")
    asked = Distillation(**workshop.settings(folder, epochs=4))
    assert record["settings"] == asked.record() | {"encoding": "utf-8", "method": "lrc_bert"}
    assert record["settings"]["seed"] == 0
    assert record["command"] == "distill"
    assert record["status"] == "finished"
    assert {"torch", "transformers", "contrastill", "python", "cpu"} <= set(record["machine"])
    assert all(len(record[name]) == 64 for name in ("data_fingerprint", "teacher_fingerprint"))
    assert [stage["name"] for stage in record["stages"]] == ["representation", "joint"]
    assert [stage["share"] for stage in record["stages"]] == [0.5, 0.5]
    assert {check["name"] for check in record["preflight"]} >= {"dry run", "teacher has learnt the task"}


def test_fingerprints_tell_data_and_teachers_apart(runs: dict[str, Any]) -> None:
    records = [read(runs[task].folder / "run.json") for task in TASKS]
    for name in ("data_fingerprint", "teacher_fingerprint"):
        assert len({record[name] for record in records}) == 3


def test_the_log_has_each_term_and_stage_of_each_step(runs: dict[str, Any]) -> None:
    rows = [row for row in log(runs["single"].folder) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 33))
    first = round(METHODS["lrc_bert"].stages[0].share * 32)
    assert 8 <= first < 32
    assert [row["stage"] for row in rows] == [1] * first + [2] * (32 - first)
    for row in rows:
        weights = {"cos_nce": 1.0} if row["stage"] == 1 else {"cos_nce": 1.0, "soft": 1.0, "hard": 3.0}
        assert {"cos_nce", "soft", "hard", "learning_rate", "grad_norm"} <= set(row)  # unweighted terms as well
        assert row["loss"] == pytest.approx(sum(weight * row[term] for term, weight in weights.items()), rel=1e-4)


def test_the_student_is_that_of_the_best_dev_score(runs: dict[str, Any], workshop: Workshop) -> None:
    scores = {row["step"]: row["eval_accuracy"] for row in log(runs["single"].folder) if "eval_accuracy" in row}
    assert list(scores) == [0, 8, 16, 24, 32]  # the start, and four checkpoints
    metrics = runs["single"].metrics
    assert metrics["student"]["dev"]["metrics"]["accuracy"] == scores[metrics["checkpoint"]]
    assert metrics["checkpoint"] in (32, max(scores, key=lambda step: scores[step])), "see test_choice.py"


def test_a_run_that_gets_worse_keeps_the_student_from_before(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contrastill.training.trainer import DistillationTrainer

    made: dict[int, dict[str, torch.Tensor]] = {}
    falling = iter([0.3, 0.9, 0.5, 0.4])

    def check(self: DistillationTrainer) -> dict[str, float]:
        made[self.state.global_step] = {k: v.clone() for k, v in self.method.student.model.state_dict().items()}
        return {"accuracy": next(falling), "f1": 0.0}

    before = DistillationTrainer.__init__

    def init(self: DistillationTrainer, *args: Any, **kwargs: Any) -> None:
        before(self, *args, **kwargs)
        self.check = lambda: check(self)

    monkeypatch.setattr(DistillationTrainer, "__init__", init)
    monkeypatch.setattr("contrastill.tasks.Classification.paired", lambda *_, **__: (0.5, 0.1, 0.9))
    run = workshop.distill(tmp_path / "run", method="kd")
    assert sorted(made) == [4, 8, 12, 16]
    kept = AutoModelForSequenceClassification.from_pretrained(run.model).state_dict()
    assert [name for name in kept if not kept[name].equal(made[8][name])] == []
    assert [name for name in kept if not kept[name].equal(made[16][name])] != []


def test_settings_from_a_record_repeat_the_run_to_the_bit(runs: dict[str, Any], tmp_path: Path) -> None:
    again = distill(**Distillation.of(runs["single"].folder / "run.json", out=str(tmp_path / "again")).record())
    assert sha256(again.model / "model.safetensors") == sha256(runs["single"].model / "model.safetensors")
    first, second = dict(runs["single"].metrics), dict(again.metrics)
    for differs in ("seconds", "teacher_forwards"):  # the teacher has said all it is asked by then
        first.pop(differs)
        second.pop(differs)
    assert first == second


def test_other_users_may_read_a_model_where_new_files_let_them(runs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    usual = (tmp_path / "new").stat().st_mode
    files = [file for file in runs["single"].model.iterdir() if file.is_file()]
    assert {file.name: file.stat().st_mode for file in files} == {file.name: usual for file in files}
    assert "model.safetensors" in {file.name for file in files}


def test_another_seed_is_another_run(runs: dict[str, Any], tmp_path: Path) -> None:
    settings = Distillation.of(runs["single"].folder / "run.json", out=str(tmp_path / "other"), seed=1)
    assert sha256(distill(**settings.record()).model / "model.safetensors") != sha256(
        runs["single"].model / "model.safetensors"
    )


@pytest.mark.parametrize("method", [name for name, cls in METHODS.items() if cls.serves(Classification)])
def test_every_method_runs_from_its_defaults(workshop: Workshop, tmp_path: Path, method: str) -> None:
    run = workshop.distill(tmp_path / "run", method=method, epochs=1, checks=1)
    stages = {row["stage"] for row in log(run.folder) if "stage" in row}
    assert stages == set(range(1, len(METHODS[method].stages) + 1))
    assert np.isfinite(run.metrics["student"]["test"]["metrics"]["accuracy"])


@pytest.mark.parametrize(
    ("method", "given", "size"),
    [("rrd_task", {}, 64), ("rrd_task", {"queue": 7}, 7), ("lrc_bert", {"queue": 5000}, 64)],
)
def test_a_queue_holds_each_training_row_once_at_most(
    workshop: Workshop, tmp_path: Path, method: str, given: dict[str, int], size: int
) -> None:
    plan = plan_distillation(Distillation(**workshop.settings(tmp_path / "run", method=method, set=given)))
    assert plan.method.queue.size == size


def test_every_method_is_run() -> None:
    assert set(METHODS) >= {"lrc_bert", "kd", "finetune", "pkd", "tinybert"}


@pytest.mark.parametrize(("method", "task"), [("lrc_bert", "pairs"), ("kd", "scores")])
def test_perturbation_trains_another_student(workshop: Workshop, tmp_path: Path, method: str, task: str) -> None:
    quick = {"method": method, "epochs": 1, "checks": 1, "start": "random"}
    plain = workshop.distill(tmp_path / "plain", task, **quick)
    moved = workshop.distill(tmp_path / "moved", task, **quick, perturb="l2-per-token", epsilon=0.1)
    assert sha256(plain.model / "model.safetensors") != sha256(moved.model / "model.safetensors")
    assert set(AutoModelForSequenceClassification.from_pretrained(moved.model).state_dict()) == set(
        AutoModelForSequenceClassification.from_pretrained(plain.model).state_dict()
    )


def test_unlabelled_texts_take_part(workshop: Workshop, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("".join(f"word{n} goal word{n + 2} team\n" for n in range(32)))
    run = workshop.distill(tmp_path / "run", method="kd", unlabelled=str(more))
    assert run.metrics["steps"] == 24  # of 64 + 32 texts
    assert all(np.isfinite(row["hard"]) for row in log(run.folder) if "hard" in row)
    without = workshop.distill(tmp_path / "without", method="kd")
    assert sha256(run.model / "model.safetensors") != sha256(without.model / "model.safetensors")


def test_unlabelled_texts_take_part_in_regression(workshop: Workshop, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("".join(f"word{n} good bad word{n + 2} dull\n" for n in range(32)))
    run = workshop.distill(tmp_path / "run", "scores", method="lrc_bert", unlabelled=str(more))
    assert run.metrics["steps"] == 24
    assert run.metrics["student"]["test"]["metrics"]["spearman"] > 0.5


def test_without_dev_and_test_a_run_keeps_its_last_student(workshop: Workshop, tmp_path: Path) -> None:
    from workshop import single_rows

    data = write_csv(tmp_path / "rows.csv", single_rows(40, 2))
    run = workshop.distill(tmp_path / "run", data=str(data), dev_share=0.0, method="kd")
    assert run.model.is_dir()
    assert {"parameters", "size_mb"} <= set(run.metrics["student"])
    assert "dev" not in run.metrics["student"]


def test_fewer_rows_than_a_batch_still_make_a_run(workshop: Workshop, tmp_path: Path) -> None:
    run = workshop.distill(tmp_path / "run", method="kd", batch_size=128, epochs=3, checks=1)
    assert run.metrics["steps"] == 3


def test_fractions_of_an_epoch_are_run(workshop: Workshop, tmp_path: Path) -> None:
    assert workshop.distill(tmp_path / "run", method="kd", epochs=0.5, checks=1).metrics["steps"] == 4


def test_a_distilled_student_can_be_the_start_of_another(
    runs: dict[str, Any], workshop: Workshop, tmp_path: Path
) -> None:
    run = workshop.distill(tmp_path / "run", method="kd", start=str(runs["single"].model), epochs=1)
    floor = runs["single"].metrics["student"]["test"]["metrics"]["accuracy"] - 0.2
    assert run.metrics["student"]["test"]["metrics"]["accuracy"] > floor


def test_a_distilled_student_can_be_a_teacher(runs: dict[str, Any], workshop: Workshop, tmp_path: Path) -> None:
    run = workshop.distill(
        tmp_path / "run", method="kd", teacher=str(runs["pairs"].model), task="pairs", student="1L", epochs=1
    )
    assert run.metrics["student"]["parameters"] < runs["pairs"].metrics["student"]["parameters"]


# ---- the folder ----------------------------------------------------------------------------------------------------


def test_an_existing_run_is_refused_and_with_overwrite_replaced(workshop: Workshop, tmp_path: Path) -> None:
    quick = {"method": "kd", "epochs": 1, "checks": 1}
    workshop.distill(tmp_path / "run", **quick)
    before = snapshot(tmp_path / "run")
    with pytest.raises(UserError, match=r"--out.*--resume \S+/run, without other settings.*--overwrite"):
        workshop.distill(tmp_path / "run", **quick)
    assert snapshot(tmp_path / "run") == before
    workshop.distill(tmp_path / "run", **quick, seed=3, overwrite=True)
    assert snapshot(tmp_path / "run")["student/model.safetensors"] != before["student/model.safetensors"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_never_overwritten(workshop: Workshop, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("mine")
    with pytest.raises(UserError, match=r"thesis is not empty and is not a Contrastill run; choose another folder"):
        workshop.distill(tmp_path / "thesis", method="kd", overwrite=overwrite)
    assert snapshot(tmp_path / "thesis").keys() == {"chapter.txt"}


def test_an_empty_folder_is_used(workshop: Workshop, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert workshop.distill(tmp_path / "run", method="kd", epochs=1, checks=1).model.is_dir()


def test_a_run_that_was_refused_can_be_asked_again_once_repaired(workshop: Workshop, tmp_path: Path) -> None:
    quick = {"method": "kd", "epochs": 1, "checks": 1}
    mistakes: list[dict[str, Any]] = [
        {"data": str(tmp_path / "none.csv")},
        {"teacher": str(tmp_path / "none")},
        {"schedule": "cosine"},
        {"max_length": 41},
    ]
    for mistake in mistakes:
        with pytest.raises(UserError):
            workshop.distill(tmp_path / "run", **quick | mistake)
    assert workshop.distill(tmp_path / "run", **quick).model.is_dir()


def test_a_refused_run_leaves_the_one_it_was_to_replace(workshop: Workshop, tmp_path: Path) -> None:
    quick = {"method": "kd", "epochs": 1, "checks": 1}
    workshop.distill(tmp_path / "run", **quick)
    before = snapshot(tmp_path / "run")
    for mistake in ({"data": str(tmp_path / "none.csv")}, {"max_length": 41}):
        with pytest.raises(UserError):
            workshop.distill(tmp_path / "run", **quick | mistake, overwrite=True)
        assert snapshot(tmp_path / "run") == before


def test_a_run_never_overwrites_its_own_teacher(workshop: Workshop, tmp_path: Path) -> None:
    import shutil

    home = shutil.copytree(workshop.teacher().parent, tmp_path / "teacher")
    before = snapshot(home)
    with pytest.raises(UserError, match="teacher"):
        workshop.distill(home, teacher=str(home / "model"), method="kd", overwrite=True)
    assert snapshot(home) == before


def test_a_run_never_overwrites_its_own_data(workshop: Workshop, tmp_path: Path) -> None:
    import shutil

    workshop.distill(tmp_path / "run", method="kd", epochs=1, checks=1)
    data = shutil.copytree(workshop.data(), tmp_path / "run/data")
    with pytest.raises(UserError, match="data"):
        workshop.distill(tmp_path / "run", method="kd", data=str(data), overwrite=True)
    assert (data / "train.csv").is_file()


# ---- settings that cannot be run -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"set": {"queue": -1}}, "queue"),
        ({"set": {"negatives": -2}}, "negatives"),
        ({"set": {"granularity": "words"}}, "granularity"),
        ({"set": {"layer_map": "none"}}, "layer_map"),
        ({"stages": {"representation": 1.0}}, "joint"),
        ({"stages": {"representation": "most", "joint": 0.3}}, "joint|number|share"),
        ({"student": "5L"}, "layers|deep|shallow"),
        ({"perturb": "none", "epsilon": 0.0}, "epsilon"),
        ({"batch_size": 1}, "batch"),
        ({"checks": 0}, "checks"),
        ({"learning_rate": -1.0}, "learning.rate"),
        ({"warmup": 1.5}, "warm"),
        ({"method": "pkd", "student": "1L"}, "layer|pkd"),
        ({"method": "tinybert", "student": "2/16/2/32"}, "heads"),
        ({"seed": -1}, "seed"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_run_are_refused_before_training(
    workshop: Workshop, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        workshop.distill(tmp_path / "run", **changes)
    assert not (tmp_path / "run/checkpoints").exists()


def test_a_loss_that_is_not_finite_fails_the_run_with_advice_and_keeps_what_was_saved(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = DistillationTrainer.compute_loss

    def overflow(self: DistillationTrainer, *args: Any, **more: Any) -> Any:
        return compute(self, *args, **more) * (1.0 if self.state.global_step < 6 else math.inf)

    monkeypatch.setattr(DistillationTrainer, "compute_loss", overflow)
    with pytest.raises(CheckFailed, match=r"finite.*learning rate"):
        workshop.distill(tmp_path / "run", method="kd")
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["checkpoint-4"]


def test_a_plain_encoder_is_fine_tuned_with_the_data_s_class_names(workshop: Workshop, tmp_path: Path) -> None:
    settings = {k: v for k, v in workshop.settings(tmp_path / "run").items() if k not in ("student", "teacher")}
    run = finetune(model=str(workshop.encoder()), **settings)
    assert {p.name for p in run.folder.iterdir()} == LEFT | {"model"}
    assert list(read(run.model / "config.json")["id2label"].values()) == sorted(CLASSES)
    assert read(run.folder / "run.json")["command"] == "finetune"
    assert "teacher" not in run.metrics
