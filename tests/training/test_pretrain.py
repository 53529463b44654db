"""General distillation: a student of a tiny BERT learns its layers on texts alone; a task's student starts from it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
from workshop import Workshop, pair_rows, sha256, single_rows

from contrastill import METHODS, Interrupted, Pretraining, UserError, distill, make_student, pretrain
from contrastill.data.both import TEACHER
from contrastill.loading import load_classifier, load_tokenizer
from contrastill.methods.base import stages_on
from contrastill.tasks import BareEncoder
from contrastill.training.as_is import reads_alike
from contrastill.training.callbacks import StopRequest
from contrastill.training.encoder import plan_pretraining

LINES, HELD, STEPS = 120, 12, 13  # batches of 8 of 108
SHAPE = "2/16/4/32"
QUICK: dict[str, Any] = {
    "student": SHAPE,
    "batch_size": 8,
    "checks": 4,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "keep_checkpoints": True,
    "max_length": 24,
}
GENERAL = {
    "lrc_bert": {"cos_nce"},
    "tinybert": {"embedding", "hidden", "attention"},
    "minilm": {"queries", "keys", "values"},
}
Settings = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    rows = [row["text"] for row in single_rows(80, 5)] + [row["sentence2"] for row in pair_rows(40, 6)]
    path.write_text("\n".join(rows))
    return path


def settings_of(workshop: Workshop, corpus: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    models = {"teacher": str(workshop.teacher())}
    return {**models, "texts": [str(corpus)], "out": str(folder), **QUICK, **changes}


@pytest.fixture
def settings(workshop: Workshop, texts: Path, tmp_path: Path) -> Settings:
    return lambda **changes: settings_of(workshop, texts, tmp_path / "run", **changes)


@pytest.fixture(scope="module")
def trained(workshop: Workshop, texts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run of each method that has terms for it, from a random start."""
    root = tmp_path_factory.mktemp("pretrained")
    return {
        name: pretrain(**settings_of(workshop, texts, root / name, method=name, start="random", epochs=2))
        for name in GENERAL
    }


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_methods_with_terms_that_need_no_task_are_these() -> None:
    served = {name: cls for name, cls in METHODS.items() if cls.serves(BareEncoder)}
    assert {name: set(stages_on(BareEncoder(), cls.stages)[0].weights) for name, cls in served.items()} == {
        **GENERAL,
        "distilbert": {"words", "mlm", "cosine"},  # see test_masked_words_run
    }


@pytest.mark.parametrize("name", GENERAL)
def test_the_loss_on_texts_held_out_falls(trained: dict[str, Any], name: str) -> None:
    run = trained[name]
    assert (run.metrics["steps"], run.metrics["train_rows"], run.metrics["metric"]) == (2 * STEPS, LINES - HELD, "loss")
    rows = log(run.folder)
    held = [row["eval_loss"] for row in rows if "eval_loss" in row]
    assert len(held) == 4
    assert held[-1] < 0.99 * held[0]
    assert run.metrics["student"]["loss"] == pytest.approx(min(held), rel=1e-5)
    assert all(set(row) >= GENERAL[name] for row in rows if "loss" in row)
    assert not any({"soft", "kd", "hard"} & set(row) for row in rows)
    assert run.metrics["student"]["loss"] == pytest.approx(sum(run.metrics["student"][term] for term in GENERAL[name]))


@pytest.mark.parametrize("name", GENERAL)
def test_what_is_left_is_an_encoder_that_transformers_loads(trained: dict[str, Any], name: str) -> None:
    run = trained[name]
    left = {"run.json", "metrics.json", "student", "checkpoints", "log.jsonl", "report.html"}
    assert {p.name for p in run.folder.iterdir()} == left
    model = AutoModel.from_pretrained(run.model)
    assert type(model).__name__ == "BertModel"
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (2, 16)
    assert sum(p.numel() for p in model.parameters()) == run.metrics["student"]["parameters"]
    best = min((row for row in log(run.folder) if "eval_loss" in row), key=lambda row: row["eval_loss"])["step"]
    kept = load_file(run.folder / f"checkpoints/checkpoint-{best}/model.safetensors")
    assert all(kept[f"student.model.{key}"].equal(value) for key, value in model.state_dict().items())
    batch = AutoTokenizer.from_pretrained(run.model)(["a song", "the soup of word1"], padding=True, return_tensors="pt")
    assert model(**batch).last_hidden_state.shape == (2, 6, 16)
    assert SHAPE in (run.model / "README.md").read_text()


def test_a_start_that_inherits_is_ahead_of_a_random_one(settings: Settings) -> None:
    """Before the first step, on the texts held out."""
    lost = {}
    for start in ("inherit", "random"):
        prepared = plan_pretraining(Pretraining(**settings(start=start)))
        prepared.fit_bridges()
        lost[start] = prepared.held_out()["loss"]
    assert lost["inherit"] < lost["random"]


def test_the_losses_are_of_texts_that_are_not_trained_on(settings: Settings) -> None:
    prepared = plan_pretraining(Pretraining(**settings()))
    ours, theirs = ({key.tobytes() for key in part.keys(0)} for part in (prepared.held, prepared.examples))
    assert (len(ours), len(theirs), len(ours & theirs)) == (HELD, LINES - HELD, 0)
    assert prepared.method.needs == {"hidden"}
    assert [stage.name for stage in prepared.method.stages] == ["representation"]
    assert not [p for p in prepared.teacher.parameters() if p.requires_grad]


# ---- from the general student to a task's --------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_a_tasks_student_starts_from_the_encoder(settings: Settings, workshop: Workshop, half: bool) -> None:
    run = pretrain(**settings(epochs=0.5, half=half))
    saved = load_file(run.model / "model.safetensors")
    assert {value.dtype for value in saved.values() if value.is_floating_point()} == {
        torch.float16 if half else torch.float32
    }
    teacher = load_classifier(str(workshop.teacher()))
    student = make_student(teacher, load_tokenizer(str(workshop.teacher())), SHAPE, start=run.model)
    assert type(student) is type(teacher)
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert student.config.id2label == teacher.config.id2label
    encoder = student.base_model.state_dict()
    assert len(saved) > 30
    assert [name for name, value in saved.items() if not encoder[name].equal(value.float())] == []


def test_half_the_size_and_nearly_the_same_numbers(settings: Settings, tmp_path: Path) -> None:
    whole = pretrain(**settings(epochs=0.3, out=str(tmp_path / "whole")))
    half = pretrain(**settings(epochs=0.3, out=str(tmp_path / "half"), half=True))
    small, large = ((run.model / "model.safetensors").stat().st_size for run in (half, whole))
    assert small < 0.6 * large
    ours, theirs = (load_file(run.model / "model.safetensors") for run in (half, whole))
    assert all(theirs[name].half().equal(value) for name, value in ours.items())


def test_a_distillation_runs_from_the_general_student(
    trained: dict[str, Any], workshop: Workshop, tmp_path: Path
) -> None:
    asked = workshop.settings(
        tmp_path / "task", method="kd", start=str(trained["tinybert"].model), epochs=0.2, checks=1
    )
    task = distill(**asked)
    ours, theirs = (
        load_file(task.model / "model.safetensors"),
        load_file(trained["tinybert"].model / "model.safetensors"),
    )
    encoder = {name: value for name, value in theirs.items() if not name.startswith("pooler.")}  # the head's, fitted
    moved = max(float((ours[f"bert.{name}"] - value).abs().max()) for name, value in encoder.items())
    assert 0 < moved < 0.05, "it went on from there"


def test_a_general_student_can_be_gone_on_with(trained: dict[str, Any], settings: Settings) -> None:
    before = trained["tinybert"]
    run = pretrain(**settings(method="tinybert", start=str(before.model), epochs=1))
    assert run.metrics["student"]["loss"] < before.metrics["student"]["loss"]


# ---- stopped and taken up again ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "step", "own"), [("lrc_bert", 5, False), ("tinybert", 15, False), ("lrc_bert", 9, True)]
)
def test_a_run_stopped_and_resumed_ends_as_the_uninterrupted_one(
    settings: Settings,
    workshop: Workshop,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    step: int,
    own: bool,
) -> None:
    given: dict[str, Any] = {"method": name, "epochs": 2, "dropout": 0.1}
    if own:
        given |= {"student": "as-is", "start": str(workshop.pieces())}
    if name == "lrc_bert":
        given["set"] = {"queue": 20, "negatives": 4}
    whole, before = pretrain(**settings(**given, out=str(tmp_path / "whole"))), StopRequest.on_step_end

    def on_step_end(self: StopRequest, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.asked = self.asked or state.global_step == step
        before(self, args, state, control, **more)

    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "on_step_end", on_step_end)
        with pytest.raises(Interrupted, match="contrastill pretrain --resume"):
            pretrain(**settings(**given))
    run = pretrain(**settings(**given), resume=True)
    assert sha256(run.model / "model.safetensors") == sha256(whole.model / "model.safetensors")
    ours, theirs = (
        load_file(each.folder / f"checkpoints/checkpoint-{2 * STEPS}/model.safetensors") for each in (run, whole)
    )
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not ours[key].equal(theirs[key])] == []
    assert run.metrics["student"] == whole.metrics["student"]


def test_a_finished_run_is_not_run_again(trained: dict[str, Any], workshop: Workshop, texts: Path) -> None:
    folder = trained["lrc_bert"].folder
    asked = settings_of(workshop, texts, folder, method="lrc_bert", start="random", epochs=2)
    assert pretrain(**asked, resume=True).metrics == trained["lrc_bert"].metrics
    with pytest.raises(UserError, match="holds a 'pretrain' run"):
        distill(**workshop.settings(folder), resume=True)


# ---- students that are no kin of the teacher -----------------------------------------------------------------------


def before_training(settings: dict[str, Any]) -> dict[str, float]:
    """The losses of the texts held out, from projections fitted on the others."""
    plan = plan_pretraining(Pretraining(**settings))
    plan.fit_bridges()
    return plan.held_out()


@pytest.mark.parametrize(
    "asked",
    [*({"set": {"granularity": kind}} for kind in ("tokens", "mean")), {"method": "tinybert"}, {"method": "minilm"}],
    ids=str,
)
def test_an_encoder_with_the_teachers_tokenizer_is_taken_as_it_is(
    settings: Settings, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    start = str(trained["lrc_bert"].model)
    reduced = before_training(settings(start=start, **asked))
    assert before_training(settings(start=start, student="as-is", **asked)) == reduced
    monkeypatch.setattr("contrastill.training.encoder.reads_alike", lambda *_: False)
    apart = before_training(settings(start=start, student="as-is", **asked))
    assert apart == pytest.approx(reduced, rel=1e-5)


def test_a_student_reads_by_its_own_tokenizer(settings: Settings, workshop: Workshop) -> None:
    start = str(workshop.pieces())
    run = pretrain(**settings(start=start, student="as-is", epochs=2))
    held = [row["eval_loss"] for row in log(run.folder) if "eval_loss" in row]
    assert held[-1] < 0.99 * held[0]
    record = json.loads((run.folder / "run.json").read_text())
    assert (
        "reads the texts by its own tokenizer; 0.0% of them fill its 24 tokens, or are cut; "
        in record["data"]["decisions"]["teacher"]
    )
    assert reads_alike(load_tokenizer(str(run.model)), load_tokenizer(start))
    assert f"`{start}`, as a student of `{workshop.teacher()}`" in (run.model / "README.md").read_text()
    assert "--student as-is --start THIS-FOLDER" in (run.model / "README.md").read_text()


def test_each_reading_of_a_batch_is_that_of_its_tokenizer(settings: Settings, workshop: Workshop, texts: Path) -> None:
    plan = plan_pretraining(Pretraining(**settings(start=str(workshop.pieces()), student="as-is")))
    batch, lines = plan.batch(range(6)), texts.read_text().splitlines()
    some = [lines[row] for row in plan.examples.rows[:6]]
    for prefix, tokenizer in (("", plan.tokenizer), (TEACHER, load_tokenizer(str(workshop.teacher())))):
        read = tokenizer(some, padding=True, truncation=True, max_length=24, return_tensors="pt")
        assert batch[prefix + "input_ids"].equal(read["input_ids"])
        assert batch[prefix + "attention_mask"].equal(read["attention_mask"])
        assert batch[prefix + "places"].shape == (*read["input_ids"].shape, 2)
        shown = (batch[prefix + "places"][..., 1] > batch[prefix + "places"][..., 0]).long()
        assert shown.equal(read["attention_mask"])


# ---- other teachers, and what cannot be ----------------------------------------------------------------------------


def test_a_sentence_embedding_model_and_a_bare_encoder_are_encoders_too(
    settings: Settings, workshop: Workshop, tmp_path: Path
) -> None:
    st = pytest.importorskip("sentence_transformers")
    st.SentenceTransformer(str(workshop.teacher()), device="cpu").save(str(tmp_path / "embedder"))
    AutoModel.from_pretrained(workshop.teacher()).save_pretrained(tmp_path / "bare")
    for path in workshop.teacher().glob("tokenizer*"):
        shutil.copy(path, tmp_path / "bare")
    lost = []
    for teacher in (workshop.teacher(), tmp_path / "embedder", tmp_path / "bare"):
        prepared = plan_pretraining(Pretraining(**settings(teacher=str(teacher))))
        prepared.fit_bridges()
        lost.append(prepared.held_out()["loss"])
    assert lost == pytest.approx([lost[0]] * 3, rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"method": "kd"}, r"terms need no task \(lrc_bert, tinybert, minilm, distilbert\), got 'kd'"),
        ({"set": {"contrast": 0}}, "'lrc_bert', with these settings, has no term for the task 'encoder'"),
        ({"method": "pkd"}, r"terms need no task .*got 'pkd'"),
        ({"method": "disco"}, r"terms need no task .*got 'disco'"),
        ({"method": "magic"}, "expected a method of .*got 'magic'"),
        ({"set": {"queu": 4}}, "'lrc_bert' has no setting 'queu'"),
        ({"student": "as-is"}, "name its folder or Hub name with --start, got --start inherit"),
        ({"student": "as-is", "start": "./none"}, r"\./none"),
        ({"student": "2/16/2/32", "method": "tinybert"}, "the teacher's 4 heads, got 2"),
        ({"student": "9/16/4/32"}, "at most the teacher's 2 layers"),
        ({"teacher": "./none"}, r"\./none"),
        ({"texts": ["none.txt"]}, r"none\.txt"),
        ({"max_length": 2}, "expected a max_length from 3"),
        ({"dropout": 1.0}, "--dropout: expected a number from 0 to below 1, got 1.0"),
        ({"accumulate": 2}, "--accumulate at 1"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_made(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        pretrain(**settings(**changes))
    assert not (tmp_path / "run").exists()
