"""Runs that save a student with the pieces of the training texts alone: trained as ever, saved smaller."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast
from workshop import CLASSES, FILLERS, QUICK, SPECIAL, Workshop, sentence, sha256, snapshot, write_csv, write_encoder

from contrastill import Interrupted, UserError, distill, evaluate, finetune
from contrastill.training.callbacks import StopRequest
from contrastill.training.embeddings import EmbeddingPlan
from contrastill.training.labelled import LabelledPlan

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
FAMILIAR = FILLERS[:40]
PIECES = [
    *SPECIAL,
    *LETTERS,
    *(f"##{one}" for one in LETTERS),
    *FILLERS,
    *(w for some in CLASSES.values() for w in some),
]
PIECES += [f"never{n}" for n in range(80)]
NAMES = dict(enumerate(CLASSES))
Settings = Callable[..., dict[str, Any]]


def write_tokenizer(folder: Path) -> None:
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {f"{one.lower()[1:-1]}_token": one for one in SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=512, **names).save_pretrained(folder)


def rows(count: int, seed: int, fillers: list[str]) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    found = []
    for n in range(count):
        name = list(CLASSES)[n % 3]
        some = [rng.choice(fillers) for _ in range(rng.randint(2, 9))] + rng.choices(CLASSES[name], k=2)
        found.append({"text": " ".join(some), "label": name})
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher whose vocabulary is larger than what its texts use; dev and test have words that train lacks."""
    root = tmp_path_factory.mktemp("trimmed")
    labels = {"num_labels": 3, "id2label": NAMES, "label2id": {name: n for n, name in NAMES.items()}}
    teacher = write_encoder(root / "teacher", vocab_size=len(PIECES), **labels)
    write_tokenizer(teacher)
    for split, (count, fillers) in {"train": (48, FAMILIAR), "dev": (30, FILLERS), "test": (30, FILLERS)}.items():
        write_csv(root / "data" / f"{split}.csv", rows(count, len(split), fillers))
    (root / "more.txt").write_text("word41 song word42\nword41 word43\n")
    return {"root": root, "teacher": teacher, "data": root / "data", "more": root / "more.txt"}


@pytest.fixture
def settings(files: dict[str, Path], tmp_path: Path) -> Settings:
    def make(out: str = "run", **changes: Any) -> dict[str, Any]:
        given = {"teacher": str(files["teacher"]), "data": str(files["data"]), "method": "kd", "force": True}
        cache = str(files["root"] / "cache")
        return {**QUICK, **given, "cache": cache, "out": str(tmp_path / out), "vocabulary": "texts", **changes}

    return make


def record(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def test_the_student_is_the_one_of_the_whole_vocabulary_without_the_pieces_that_no_training_text_has(
    settings, tmp_path
):
    whole, run = distill(**settings("whole", vocabulary="all")), distill(**settings())
    before, after = (AutoTokenizer.from_pretrained(each.model).get_vocab() for each in (whole, run))
    assert len(before) == len(PIECES)
    assert {"word39", "soup", "q", "##q", "[MASK]"} < after.keys()
    assert not {"word40", "never0"} & after.keys()
    theirs, ours = (load_file(each.model / "model.safetensors") for each in (whole, run))
    assert theirs.keys() == ours.keys()
    for name, weight in theirs.items():
        if name.endswith("word_embeddings.weight"):
            weight = weight[[before[piece] for piece in sorted(after, key=after.__getitem__)]]
        assert torch.equal(weight, ours[name]), name
    assert losses(whole.folder) == losses(run.folder)

    model = AutoModelForSequenceClassification.from_pretrained(run.model)
    assert model.config.vocab_size == len(after)
    figures = run.metrics["student"]
    assert figures["parameters"] == model.num_parameters() < whole.metrics["student"]["parameters"]
    for split in ("dev", "test"):
        scored = evaluate(model=str(run.model), data=settings()["data"], split=split)
        assert scored["metrics"] == pytest.approx(figures[split]["metrics"])
    assert run.metrics["teacher"] == whole.metrics["teacher"]
    assert run.metrics["teacher_forwards"] == 0  # all from the cache, which knows texts by the teacher's tokens

    told = record(run.folder)["vocabulary"]
    assert (told["before"], told["after"], told["texts"]) == (len(before), len(after), 30)
    assert told["parameters_saved"] == (len(before) - len(after)) * 16
    assert 0 < told["split_otherwise"] < 1
    said = record(run.folder)["data"]["decisions"]["vocabulary"]
    assert said.startswith(f"vocabulary: {len(after)} of {len(before)} pieces kept, ")
    assert "of the texts of dev " in said
    assert "vocabulary" not in record(whole.folder)


def losses(folder: Path) -> list[tuple[Any, Any]]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_words_of_unlabelled_texts_stay_too(settings, files):
    run = distill(**settings(unlabelled=str(files["more"])))
    known = AutoTokenizer.from_pretrained(run.model).get_vocab()
    assert {"word41", "word42", "word43"} < known.keys()
    assert "word44" not in known


class PowerCut(Exception):
    pass


@pytest.mark.parametrize("at", ["step", "save", "results"])
def test_a_run_stopped_or_killed_is_taken_up_and_ends_as_the_uninterrupted_one(at, settings, monkeypatch):
    whole = distill(**settings("whole"))
    with monkeypatch.context() as patch:
        if at == "step":
            patch.setattr(StopRequest, "on_step_end", stop(StopRequest.on_step_end))
        else:

            def cut(*_: Any, **__: Any) -> Any:
                raise PowerCut

            patch.setattr(LabelledPlan, at, cut)
        with pytest.raises((PowerCut, Interrupted)):
            distill(**settings())
    run = distill(**settings(), resume=True)
    assert snapshot(run.model) == snapshot(whole.model)
    assert run.metrics["student"] == whole.metrics["student"]
    assert record(run.folder)["vocabulary"] == record(whole.folder)["vocabulary"]


def stop(before: Any) -> Any:
    def on_step_end(self: Any, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.asked = self.asked or state.global_step == 7
        before(self, args, state, control, **more)

    return on_step_end


def test_a_model_that_is_fine_tuned_can_be_trimmed_and_teach(settings, files, tmp_path):
    given = {key: value for key, value in settings("teacher").items() if key in {*QUICK, "data", "out", "force"}}
    del given["student"]
    teacher = finetune(model=str(files["teacher"]), vocabulary="texts", **given)
    assert "never0" not in AutoTokenizer.from_pretrained(teacher.model).get_vocab()
    student = distill(**settings(teacher=str(teacher.model), vocabulary="all"))
    assert record(student.folder)["status"] == "finished"


def test_a_tokenizer_that_cannot_be_trimmed_is_refused_before_anything_is_made(workshop: Workshop, settings, tmp_path):
    given = settings(teacher=str(workshop.encoder()), data=str(workshop.data()))
    with pytest.raises(UserError, match=r"--vocabulary texts: .*got WordLevel.*\(--vocabulary all\)"):
        finetune(**{key: value for key, value in given.items() if key not in ("teacher", "student", "method", "cache")},
                 model=given["teacher"])  # fmt: skip
    assert not (tmp_path / "run").exists()


# ---- sentence embeddings


@pytest.fixture
def embedding(files: dict[str, Path], tmp_path: Path) -> Settings:
    st = pytest.importorskip("sentence_transformers")
    modules = st.sentence_transformer.modules
    texts, teacher = files["root"] / "texts.txt", files["root"] / "embedder"
    if not teacher.exists():
        rng = random.Random(0)
        lines = [sentence(rng, rng.choices(CLASSES[rng.choice(list(CLASSES))], k=3)) for _ in range(110)]
        texts.write_text("\n".join([*lines, *lines[:5], "word7 " * 40 + "never3"]) + "\n")  # the last word is cut off
        parts = [modules.Transformer(str(files["teacher"])), modules.Pooling(32, pooling_mode="mean")]
        st.SentenceTransformer(modules=parts, device="cpu").save(str(teacher))

    def make(out: str = "run", **changes: Any) -> dict[str, Any]:
        given = {"teacher": [str(teacher)], "texts": [str(texts)], "method": "disco", "set": {"queue": 32}}
        cache, out = str(files["root"] / "vectors"), str(tmp_path / out)
        return {**QUICK, "max_length": 24, **given, "cache": cache, "out": out, "vocabulary": "texts", **changes}

    return make


def test_a_trimmed_embedder_gives_texts_of_training_the_same_vectors(embedding, monkeypatch):
    from sentence_transformers import SentenceTransformer

    kept: list[EmbeddingPlan] = []
    save = EmbeddingPlan.save
    monkeypatch.setattr(EmbeddingPlan, "save", lambda self, *args: kept.append(self) or save(self, *args))
    whole, run = distill(**embedding("whole", vocabulary="all")), distill(**embedding())
    theirs, ours = (SentenceTransformer(str(each.model), device="cpu") for each in (whole, run))
    learnt, held = ([kept[0].originals(part, range(len(part)))[n][0] for n in range(len(part))]
                    for part in (kept[0].examples, kept[0].held))  # fmt: skip
    for text in learnt:
        assert ours.tokenizer.tokenize(text) == theirs.tokenizer.tokenize(text)
    cosines = (torch.tensor(theirs.encode(learnt)) * torch.tensor(ours.encode(learnt))).sum(1)
    torch.testing.assert_close(cosines, torch.ones(len(learnt)), atol=1e-5, rtol=0)
    assert len(ours.tokenizer) < len(theirs.tokenizer)
    assert run.metrics["student"]["parameters"] < whole.metrics["student"]["parameters"]
    assert run.metrics["teacher_forwards"] == 0

    assert kept[1].tokenizer.get_vocab() == ours.tokenizer.get_vocab()
    read = kept[1].held.texts(range(len(held)))
    assert read == held  # by the new tokenizer, where the texts held out have words that are new to it
    told = record(run.folder)["vocabulary"]
    assert told["texts"] == len(held)
    assert "of the texts held out " in record(run.folder)["data"]["decisions"]["vocabulary"]
    fingerprint = [record(each.folder)["data_fingerprint"] for each in (whole, run)]
    assert fingerprint[0] == fingerprint[1]


def test_a_trimmed_embedder_stopped_and_resumed_ends_as_the_uninterrupted_one(embedding, monkeypatch):
    whole = distill(**embedding("whole"))
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "on_step_end", stop(StopRequest.on_step_end))
        with pytest.raises(Interrupted):
            distill(**embedding())
    run = distill(**embedding(), resume=True)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert sha256(run.model / name) == sha256(whole.model / name)
    assert run.metrics["student"] == whole.metrics["student"]
