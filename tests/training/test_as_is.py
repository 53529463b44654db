"""Students that are no kin of their teacher: another encoder, with a tokenizer of its own."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_resume import stopping_at
from tokenizers import decoders, normalizers
from transformers import BertForSequenceClassification
from workshop import QUICK, QUICK_TEACHER, Workshop, sha256, write_splits

from contrastill import Distillation, Interrupted, UserError, distill, evaluate, export, finetune, predict
from contrastill.data.both import TEACHER
from contrastill.loading import load_tokenizer
from contrastill.teachers import AlignedTeacher, CachedTeacher, FrozenEncoder
from contrastill.training import plan_distillation
from contrastill.training.as_is import check_tokens, reads_alike
from contrastill.training.labelled import LabelledPlan

TASKS = ("single", "pairs", "scores")


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastill.teachers.stored.bf16_pays", lambda: False)


def planned(workshop: Workshop, task: str = "single", *, start: str | None = None, **changes: Any) -> LabelledPlan:
    """A run of a student with a tokenizer of pieces, of a teacher with one of words; the seed is that of any other."""
    asked = {"student": "as-is", "start": start or str(workshop.pieces()), "max_length": 60, "method": "lrc_bert"}
    asked |= changes
    plan = plan_distillation(Distillation(**workshop.settings(workshop.root / "unused", task, plain=True, **asked)))
    torch.manual_seed(0)
    return plan


def terms(plan: LabelledPlan) -> dict[str, torch.Tensor]:
    return plan.method(**plan.batch(range(12)))


@pytest.fixture(scope="module")
def run(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole run, by token-level layers."""
    out = tmp_path_factory.mktemp("as-is") / "run"
    own = {"student": "as-is", "start": str(workshop.pieces()), "cache": str(out.with_name("cache"))}
    return workshop.distill(out, plain=True, max_length=60, checks=2, **own)


def test_a_run_ends_with_a_student_of_its_own_tokenizer(run: Any, workshop: Workshop) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    assert "reads the texts by its own tokenizer; 0.0% of them are cut" in record["data"]["decisions"]["teacher"]
    assert "fitted to 64 rows" in record["data"]["decisions"]["head"]
    own, start = load_tokenizer(str(run.model)), load_tokenizer(str(workshop.pieces()))
    assert reads_alike(own, start)
    assert run.metrics["teacher_forwards"] >= 64
    assert run.metrics["student"]["test"]["metrics"]["accuracy"] > 0.4
    assert run.metrics["teacher"]["test"]["metrics"]["accuracy"] > 0.8
    scored = evaluate(model=str(run.folder), data=str(workshop.data()), split="test")
    assert scored["metrics"] == pytest.approx(run.metrics["student"]["test"]["metrics"])
    assert "pieces" in (run.model / "README.md").read_text()
    page = (run.folder / "report.html").read_text()
    assert "reads the texts by its own tokenizer" in page


def test_its_export_reads_by_the_students_tokenizer(run: Any, workshop: Workshop, tmp_path: Path) -> None:
    bundle = export(model=str(run.folder), precision="fp32", out=str(tmp_path / "bundle"))
    texts = ["word1 soup word2 bread", "goal word3 team"]
    ours = predict(model=str(run.model), data=texts).answers
    theirs = predict(model=str(bundle.folder), data=texts).answers
    assert [one["label"] for one in ours] == [one["label"] for one in theirs]
    assert [one["score"] for one in ours] == pytest.approx([one["score"] for one in theirs], abs=1e-4)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", ["lrc_bert", "kd", "pkd", "tinybert", "minilm"])
def test_every_task_and_method_gives_finite_losses(workshop: Workshop, task: str, method: str) -> None:
    plan = planned(workshop, task, method=method)
    assert isinstance(plan.method.teacher, AlignedTeacher)
    plan.fit_bridges()
    assert all(value.isfinite() for value in terms(plan).values())
    batch = plan.batch(range(12))
    assert ("places" in batch) == (method in ("lrc_bert", "tinybert", "minilm"))
    assert batch[TEACHER + "input_ids"].shape[1] < batch["input_ids"].shape[1]


@pytest.mark.parametrize(
    "asked",
    [
        *({"set": {"granularity": granularity}} for granularity in ("tokens", "cls", "mean")),
        {"method": "tinybert"},
        {"method": "minilm"},
    ],
    ids=str,
)
@pytest.mark.parametrize("task", ["single", "pairs"])
def test_with_the_same_tokenizer_the_losses_are_those_of_kin(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, task: str, asked: dict[str, Any]
) -> None:
    asked = {"start": str(workshop.plain_encoder())} | asked
    kin = planned(workshop, task, **asked)
    assert kin.reader is None
    assert isinstance(kin.method.teacher, FrozenEncoder)
    monkeypatch.setattr("contrastill.training.labelled_plans.reads_alike", lambda *_: False)
    apart = planned(workshop, task, **asked)
    assert isinstance(apart.method.teacher, AlignedTeacher)
    for plan in (kin, apart):
        plan.fit_bridges()
    ours, theirs = terms(kin), terms(apart)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.item() == pytest.approx(theirs[name].item(), rel=1e-6), name


@pytest.mark.parametrize(
    "asked",
    [
        *({"set": {"granularity": granularity}} for granularity in ("tokens", "mean")),
        {"method": "tinybert"},
        {"method": "minilm"},
    ],
    ids=str,
)
def test_the_cache_answers_as_the_live_teacher(workshop: Workshop, tmp_path: Path, asked: dict[str, Any]) -> None:
    asked = {"cache": str(tmp_path / "cache"), "cache_dtype": "float32"} | asked
    live, stored = planned(workshop, **asked), planned(workshop, **asked)
    stored.use_cache()
    assert isinstance(stored.method.teacher, AlignedTeacher)
    assert isinstance(stored.method.teacher.teacher, CachedTeacher)
    assert stored.cached is not None
    assert stored.cached.forwards == 64
    for plan in (live, stored):
        plan.fit_bridges()
    ours, theirs = terms(live), terms(stored)
    for name, value in ours.items():
        assert value.item() == pytest.approx(theirs[name].item(), rel=1e-5), name
    again = planned(workshop, **asked)
    again.use_cache()
    assert again.cached is not None
    assert again.cached.forwards == 0


def test_kin_students_share_the_stored_outputs(workshop: Workshop, tmp_path: Path) -> None:
    """They are stored in the teacher's tokens."""
    asked = {"cache": str(tmp_path / "cache"), "max_length": 60}
    planned(workshop, **asked).use_cache()
    kin = planned(workshop, **asked, student="2/16/4/32", start="random")
    assert kin.reader is None
    kin.use_cache()
    assert kin.cached is not None
    assert kin.cached.forwards == 0


def test_a_run_stopped_and_resumed_ends_as_the_uninterrupted_one(run: Any, workshop: Workshop, tmp_path: Path) -> None:
    settings = workshop.settings(
        tmp_path / "run", plain=True, student="as-is", start=str(workshop.pieces()), max_length=60, checks=2
    )
    with stopping_at(5), pytest.raises(Interrupted):
        distill(**settings)
    resumed = distill(**settings, resume=True)
    assert sha256(resumed.model / "model.safetensors") == sha256(run.model / "model.safetensors")
    a, b = (load_file(one.folder / "checkpoints/checkpoint-16/model.safetensors") for one in (resumed, run))
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)


# ---- heads


def head_of(workshop: Workshop, tmp_path: Path, names: list[str]) -> Path:
    """The encoder of pieces with a head for classes of these names."""
    folder = tmp_path / "-".join(names)
    shutil.copytree(workshop.pieces(), folder)
    torch.manual_seed(3)
    model = BertForSequenceClassification.from_pretrained(
        workshop.pieces(), num_labels=len(names), id2label=dict(enumerate(names))
    )
    model.save_pretrained(folder)
    return folder


def test_a_head_for_the_tasks_labels_is_kept(workshop: Workshop, tmp_path: Path) -> None:
    start = head_of(workshop, tmp_path, ["food", "music", "sport"])
    plan = planned(workshop, start=str(start), method="kd")
    kept = load_file(start / "model.safetensors")["classifier.weight"]
    assert torch.equal(plan.method.student.model.classifier.weight, kept)
    assert "the start's own" in plan.describe()["decisions"]["head"]


@pytest.mark.parametrize("names", [["music", "food", "sport"], ["a", "b", "c"], ["food", "sport"]])
def test_a_head_for_other_labels_is_made_new(workshop: Workshop, tmp_path: Path, names: list[str]) -> None:
    start = head_of(workshop, tmp_path, names)
    plan = planned(workshop, start=str(start), method="kd")
    there = load_file(start / "model.safetensors")["classifier.weight"]
    own = plan.method.student.model.classifier.weight
    assert own.shape != there.shape or not torch.equal(own, there)
    plan.score_start(None)  # type: ignore[arg-type]
    assert "fitted to 64 rows" in plan.describe()["decisions"]["head"]


def test_a_teacher_of_pieces_has_students_of_words(workshop: Workshop, tmp_path: Path) -> None:
    """A word takes the mean of its pieces."""
    teacher = head_of(workshop, tmp_path, ["food", "music", "sport"])
    plan = planned(workshop, teacher=str(teacher), start=str(workshop.plain_encoder()))
    batch = plan.batch([0])
    seen = plan.method.teacher(batch, {"hidden"})
    live = plan.live
    assert live is not None
    theirs = live(
        {"input_ids": batch[TEACHER + "input_ids"], "attention_mask": batch[TEACHER + "attention_mask"]}, {"hidden"}
    )
    assert plan.data.train is not None
    text = plan.data.train[0]["text"]
    offsets = load_tokenizer(str(teacher))(text, return_offsets_mapping=True)["offset_mapping"]
    place = 0
    assert len(offsets) > len(text.split()) + 2
    assert seen.mask.shape == batch["input_ids"].shape == (1, len(text.split()) + 2)
    for n, word in enumerate(text.split(), 1):
        place = text.index(word, place)
        shown = range(place, place + len(word))
        pieces = [m for m, (start, end) in enumerate(offsets) if any(start <= at < end for at in shown)]
        for layer, own in zip(seen.hidden, theirs.hidden, strict=True):
            torch.testing.assert_close(layer[0, n], own[0, pieces].mean(0))
        place += len(word)
    assert all(value.isfinite() for value in terms(plan).values())


# ---- entities


@pytest.fixture(scope="module")
def entities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from test_tagging_run import write_rows

    return write_splits(tmp_path_factory.mktemp("spans"), write_rows)


@pytest.fixture(scope="module")
def tagger(workshop: Workshop, entities: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    settings = QUICK_TEACHER | {"epochs": 6, "checks": 1, "out": str(tmp_path_factory.mktemp("tagger") / "run")}
    return finetune(model=str(workshop.plain_encoder()), data=str(entities), task="tagging", **settings)


def test_words_that_both_read_have_the_teachers_answers(workshop: Workshop, entities: Path, tagger: Any) -> None:
    asked = QUICK | {"student": "as-is", "start": str(workshop.pieces()), "max_length": 16}  # some texts are windows
    plan = plan_distillation(
        Distillation(teacher=str(tagger.folder), data=str(entities), method="lrc_bert", out="unused", **asked)
    )
    assert "0.0% of the words are none for it" in plan.decided["teacher"]
    batch = plan.batch(range(20))
    seen = plan.method.teacher(batch, {"logits", "hidden"})
    assert seen.logits.shape[:2] == batch["input_ids"].shape
    live = plan.live
    assert live is not None
    for row in range(20):
        ids = batch[TEACHER + "input_ids"][row : row + 1]
        mask = batch[TEACHER + "attention_mask"][row : row + 1]
        theirs = live.model(input_ids=ids, attention_mask=mask).logits[0]
        for place in batch["answered"][row].nonzero().flatten().tolist():
            partner = int(batch["partners"][row, place])
            torch.testing.assert_close(seen.logits[row, place], theirs[partner], rtol=1e-4, atol=1e-5)
    words = {row["text_number"] for row in plan.examples}
    assert len(words) == 128
    assert len(plan.examples) > 128
    assert all(value.isfinite() for value in plan.method(**batch).values())


def test_a_tagger_is_distilled(workshop: Workshop, entities: Path, tagger: Any, tmp_path: Path) -> None:
    asked = QUICK | {"student": "as-is", "start": str(workshop.pieces()), "epochs": 1, "checks": 1, "method": "kd"}
    made = distill(teacher=str(tagger.folder), data=str(entities), out=str(tmp_path / "run"), **asked)
    assert set(made.metrics["student"]["test"]["metrics"]) == {"f1", "precision", "recall", "f1_macro"}


# ---- refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": "inherit"}, "--student as-is takes an encoder as it is: name its folder or Hub name with --start"),
        ({"start": "random"}, "got --start random"),
        ({"start": "./none"}, "./none"),
        ({"max_length": 600}, "expected a max_length from"),
    ],
)
def test_what_cannot_be_is_said_before_any_work(workshop: Workshop, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        planned(workshop, **changes)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("lrc_bert", {}, "'lrc_bert' compares token by token.*pass --set granularity=mean, or save"),
        ("tinybert", {}, "'tinybert' compares token by token.*choose lrc_bert with --set granularity=mean, or save"),
        ("minilm", {}, "'minilm' compares token by token.*choose lrc_bert with --set granularity=mean, or save"),
        ("lrc_bert", {"set": {"granularity": "mean"}}, None),
        ("kd", {}, None),
    ],
)
def test_tokens_are_compared_by_fast_tokenizers_alone(
    workshop: Workshop, method: str, options: dict[str, Any], said: str | None
) -> None:
    made = planned(workshop, method=method, **options).method
    slow: Any = SimpleNamespace(is_fast=False)
    with pytest.raises(UserError, match=said) if said else nullcontext():
        check_tokens(made, load_tokenizer(str(workshop.pieces())), slow)


def test_a_kin_start_is_told_apart(workshop: Workshop) -> None:
    with pytest.raises(UserError, match="--student as-is"):
        planned(workshop, student="2/24/4/48")


def test_the_layers_are_learnt_across_tokenizers_where_no_method_is_asked_for(workshop: Workshop) -> None:
    apart, kin = planned(workshop, method=None), planned(workshop, method=None, start="inherit", student="1/16/4/32")
    assert (apart.settings.method, kin.settings.method) == ("lrc_bert", "lrc_bert")
    assert apart.describe()["decisions"]["method"].startswith("lrc_bert: the teacher's layers are there to learn from")
    assert "method" not in planned(workshop).describe()["decisions"]


def test_a_decoder_gives_no_text_other_ids(workshop: Workshop) -> None:
    one, other = (load_tokenizer(str(workshop.pieces())) for _ in range(2))
    other.backend_tokenizer.decoder = decoders.Fuse()
    assert reads_alike(one, other)
    other.backend_tokenizer.normalizer = normalizers.Lowercase()
    assert not reads_alike(one, other)
