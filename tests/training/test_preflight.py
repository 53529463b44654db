"""What is looked at before the first training step."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification
from workshop import CLASSES, WORDS, Workshop, single_rows, write_csv, write_encoder, write_tokenizer

from contrastill import Distillation, UserError, evaluate, finetune
from contrastill.data.collate import Known
from contrastill.training import check_run, plan_distillation
from contrastill.training.preflight import check_data, texts_known

Prepare = Callable[..., Any]


@pytest.fixture
def prepare(workshop: Workshop, tmp_path: Path) -> Prepare:
    return lambda **changes: plan_distillation(Distillation(**workshop.settings(tmp_path / "run", **changes)))


def failed(run: Any) -> dict[str, str]:
    """name -> what was seen, of the failed checks that stop a run."""
    return {check.name: check.seen for check in check_run(run).checks if not check.ok and check.fatal}


def untrained_teacher(folder: Path) -> Path:
    names = sorted(CLASSES)
    write_encoder(
        folder, seed=5, num_labels=3, id2label=dict(enumerate(names)), label2id={n: i for i, n in enumerate(names)}
    )
    return folder


def changed_config(teacher: Path, folder: Path, **changes: Any) -> Path:
    shutil.copytree(teacher, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def changed_weights(teacher: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    shutil.copytree(teacher, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def named(names: list[str]) -> dict[str, Any]:
    return {
        "id2label": {str(n): name for n, name in enumerate(names)},
        "label2id": {name: n for n, name in enumerate(names)},
    }


def test_a_sound_run_passes_every_check(prepare: Prepare) -> None:
    report = check_run(prepare())
    assert [check.name for check in report.checks if not check.ok] == ["dev is large enough"]  # it has 30 rows
    assert {"teacher has learnt the task", "dry run", "projections are trained", "disk"} <= {
        c.name for c in report.checks
    }


def test_a_teacher_that_has_not_learnt_the_task_is_refused_unless_forced(workshop: Workshop, tmp_path: Path) -> None:
    teacher = untrained_teacher(tmp_path / "teacher")
    with pytest.raises(UserError, match=r"teacher has learnt.*contrastill finetune"):
        workshop.distill(tmp_path / "run", teacher=str(teacher), method="kd")
    assert not (tmp_path / "run/student").exists()
    run = workshop.distill(tmp_path / "forced", teacher=str(teacher), method="kd", force=True)
    assert run.model.is_dir()


def test_a_teacher_whose_classes_stand_in_another_order_gives_a_student_that_is_right(
    workshop: Workshop, tmp_path: Path
) -> None:
    turn = [2, 0, 1]
    names = [sorted(CLASSES)[n] for n in turn]

    def turned(weights: dict[str, torch.Tensor]) -> None:
        for name in ("classifier.weight", "classifier.bias"):
            weights[name] = weights[name][turn].contiguous()

    teacher = changed_weights(workshop.teacher(), tmp_path / "turned", turned)
    teacher = changed_config(teacher, tmp_path / "teacher", **named(names))
    run = workshop.distill(tmp_path / "run", teacher=str(teacher), method="kd")
    plain = workshop.distill(tmp_path / "plain", method="kd")
    theirs = plain.metrics["teacher"]["test"]["metrics"]  # F1 is a sum over classes, here in another order
    assert run.metrics["teacher"]["test"]["metrics"] == pytest.approx(theirs, rel=1e-12)
    assert run.metrics["student"]["test"]["metrics"]["accuracy"] > 0.6
    config = AutoModelForSequenceClassification.from_pretrained(run.model).config
    assert [config.id2label[n] for n in range(3)] == names
    scored = evaluate(model=str(run.model), data=str(workshop.data()), max_length=32)
    assert scored["metrics"] == run.metrics["student"]["test"]["metrics"]


def test_class_names_are_compared_without_regard_to_case(workshop: Workshop, prepare: Prepare, tmp_path: Path) -> None:
    teacher = changed_config(workshop.teacher(), tmp_path / "teacher", **named([n.upper() for n in sorted(CLASSES)]))
    assert failed(prepare(teacher=str(teacher))) == {}


def test_a_teacher_whose_classes_have_swapped_names_is_refused(
    workshop: Workshop, prepare: Prepare, tmp_path: Path
) -> None:
    names = [sorted(CLASSES)[n] for n in (1, 2, 0)]
    teacher = changed_config(workshop.teacher(), tmp_path / "teacher", **named(names))
    assert "order of its classes" in failed(prepare(teacher=str(teacher)))["teacher has learnt the task"]


@pytest.mark.parametrize("names", [["food", "music", "art"], ["food", "music"], ["food", "music", "sport", "art"]])
def test_a_teacher_of_other_classes_is_refused(
    workshop: Workshop, prepare: Prepare, tmp_path: Path, names: list[str]
) -> None:
    teacher = changed_config(
        write_encoder(tmp_path / "other", num_labels=len(names)), tmp_path / "teacher", **named(names)
    )
    with pytest.raises(UserError, match="class"):
        prepare(teacher=str(teacher))


def test_a_classifier_as_the_teacher_of_scores_is_refused(workshop: Workshop, prepare: Prepare) -> None:
    with pytest.raises(UserError, match="regression"):
        prepare(data=str(workshop.data("scores")))


def test_a_tokenizer_with_more_words_than_the_teacher_is_refused(
    workshop: Workshop, prepare: Prepare, tmp_path: Path
) -> None:
    teacher = shutil.copytree(workshop.teacher(), tmp_path / "teacher")
    write_tokenizer(teacher, [*WORDS[:5], *(f"other{n}" for n in range(90)), *WORDS[5:]])
    with pytest.raises(UserError, match="token"):
        check_run(prepare(teacher=str(teacher))).raise_if_failed()


def test_a_tokenizer_with_more_words_than_the_model_to_fine_tune_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    model = write_encoder(tmp_path / "encoder")
    write_tokenizer(model, [*WORDS[:5], *(f"other{n}" for n in range(90)), *WORDS[5:]])
    with pytest.raises(UserError, match=r"tokenizer fits.*another model"):
        finetune(
            model=str(model), data=str(workshop.data()), out=str(tmp_path / "run"), precision="fp32", max_length=32
        )


def test_a_max_length_beyond_the_positions_is_refused(prepare: Prepare) -> None:
    seen = failed(prepare(max_length=41, method="kd"))
    assert "40 positions" in seen["texts fit"]


def test_a_max_length_beyond_the_positions_is_refused_when_texts_are_that_long(
    workshop: Workshop, tmp_path: Path
) -> None:
    data = shutil.copytree(workshop.data(), tmp_path / "data")
    rows = [{"text": f"{'word1 ' * 60}{row['text']}", "label": row["label"]} for row in single_rows(60, 9)]
    write_csv(data / "train.csv", rows)
    with pytest.raises(UserError, match="positions"):
        workshop.distill(tmp_path / "run", data=str(data), max_length=64, method="kd")


def test_texts_that_are_cut_are_only_worth_a_warning(prepare: Prepare) -> None:
    run = prepare(max_length=6, method="kd")
    report = check_run(run)
    assert [c.name for c in report.checks if not c.ok and not c.fatal] == ["texts fit", "dev is large enough"]
    assert report.seen("texts fit").endswith("(mean 6 after that); raise --max-length?")


def test_texts_longer_than_the_model_get_no_advice_that_fails(
    workshop: Workshop, prepare: Prepare, tmp_path: Path
) -> None:
    data = shutil.copytree(workshop.data(), tmp_path / "data")
    rows = [{"text": f"{'word1 ' * 60}{row['text']}", "label": row["label"]} for row in single_rows(60, 9)]
    write_csv(data / "train.csv", rows)
    seen = check_run(prepare(data=str(data), max_length=40, method="kd")).seen("texts fit")
    assert "100.0% of the training texts are cut at 40 tokens" in seen
    assert "the model has no more positions" in seen
    assert "raise" not in seen


def test_test_texts_that_are_in_train_are_worth_a_warning(workshop: Workshop, prepare: Prepare, tmp_path: Path) -> None:
    data = shutil.copytree(workshop.data(), tmp_path / "data")
    shutil.copy(data / "train.csv", data / "test.csv")
    check = next(c for c in check_run(prepare(data=str(data))).checks if c.name == "splits are apart")
    assert not check.ok
    assert not check.fatal
    assert "100.0% of test" in check.seen


@pytest.mark.parametrize("place", ["classifier.weight", "bert.embeddings.word_embeddings.weight"])
@pytest.mark.parametrize("start", ["random", "inherit"])
def test_weights_that_are_not_finite_are_an_error_that_says_so(
    workshop: Workshop, tmp_path: Path, place: str, start: str
) -> None:
    def poison(weights: dict[str, torch.Tensor]) -> None:
        weights[place][...] = float("nan")

    teacher = changed_weights(workshop.teacher(), tmp_path / "teacher", poison)
    with pytest.raises(UserError, match=r"finite|NaN"):
        workshop.distill(tmp_path / "run", teacher=str(teacher), start=start)


@pytest.mark.parametrize(
    "changes",
    [{"set": {"queue": 16}}, {"perturb": "l2-per-token", "set": {"queue": 16}}, {"method": "tinybert"}],
    ids=["queue", "perturbed", "tinybert"],
)
def test_the_dry_run_leaves_no_trace(prepare: Prepare, changes: dict[str, Any]) -> None:
    run = prepare(**changes)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    stage, teacher = run.method.stage, {name: value.clone() for name, value in run.teacher.state_dict().items()}
    random, modes = torch.get_rng_state(), [module.training for module in run.teacher.modules()]
    assert len(before) > 30
    report = check_run(run)
    assert any(check.name == "dry run" and check.ok for check in report.checks)
    assert [name for name, value in run.model.state_dict().items() if not value.equal(before[name])] == []
    assert [name for name, value in run.teacher.state_dict().items() if not value.equal(teacher[name])] == []
    assert [name for name, p in run.model.named_parameters() if p.grad is not None] == []
    assert torch.get_rng_state().equal(random)
    assert run.method.stage is stage
    assert [module.training for module in run.teacher.modules()] == modes


def test_the_dry_run_goes_through_every_stage(prepare: Prepare) -> None:
    run, seen = prepare(), []
    before = run.method.weighted_sum

    def weighted_sum(terms: Any) -> Any:
        seen.append(run.method.stage.name)
        return before(terms)

    run.method.weighted_sum = weighted_sum
    check_run(run)
    assert seen == ["representation"] * 2 + ["joint"] * 2


def test_a_projection_that_no_gradient_reaches_is_refused(prepare: Prepare) -> None:
    run = prepare()
    run.method.spare = torch.nn.Linear(2, 2)
    assert "spare.weight" in failed(run)["projections are trained"]


def test_a_teacher_that_would_be_trained_is_refused(prepare: Prepare) -> None:
    run = prepare()
    run.teacher.classifier.weight.requires_grad_(True)
    assert "teacher is frozen" in failed(run)


def test_a_disk_without_room_is_refused(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepare()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))  # type: ignore[attr-defined]
    assert "--out" in failed(run)["disk"]


def test_a_run_without_dev_data_judges_the_teacher_on_training_rows(
    workshop: Workshop, prepare: Prepare, tmp_path: Path
) -> None:
    path = write_csv(tmp_path / "train.csv", single_rows(40, 3))
    check = next(c for c in check_run(prepare(data=str(path), dev_share=0.0)).checks if "learnt" in c.name)
    assert check.ok
    assert "training sample" in check.seen


def test_every_check_is_kept_in_the_run_s_record(workshop: Workshop, tmp_path: Path) -> None:
    teacher = untrained_teacher(tmp_path / "teacher")
    workshop.distill(tmp_path / "run", teacher=str(teacher), method="kd", force=True)
    noted = json.loads((tmp_path / "run/run.json").read_text())["preflight"]
    assert {check["name"]: check["ok"] for check in noted}["teacher has learnt the task"] is False


@pytest.mark.parametrize(
    ("known", "ok", "fatal"),
    [
        (Known(100, 5, 10, 0), True, False),
        (Known(100, 6, 10, 0), False, False),
        (Known(100, 21, 10, 0), False, True),
        (Known(100, 0, 100, 6), False, False),
        (Known(100, 0, 100, 21), False, True),
    ],
)
def test_texts_that_the_tokenizer_does_not_know_stop_a_run(known: Known, ok: bool, fatal: bool) -> None:
    check = texts_known(SimpleNamespace(known=[Known(9, 0, 9, 0), known]))  # type: ignore[arg-type]
    assert (check.ok, check.fatal) == (ok, fatal)


def test_texts_of_another_script_are_refused_and_warned_of_in_scores(
    workshop: Workshop, prepare: Prepare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{**row, "text": f"这是第{n}行 word1 字 文"} for n, row in enumerate(single_rows(40, 0))]
    file = str(write_csv(tmp_path / "chinese.csv", rows))
    check = {check.name: check for check in check_data(prepare(data=file)).checks}["texts are known"]
    assert (check.ok, check.fatal) == (False, True)
    assert "75.0% of the tokens are unknown" in check.seen
    evaluate(model=str(workshop.teacher()), data=file, max_length=32)
    assert "75.0% of the tokens are unknown" in caplog.text
