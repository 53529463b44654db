"""General distillation on masked words: the student guesses by its teacher's head, and an encoder is left."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interruptions import stopping_at
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForMaskedLM, set_seed
from workshop import SPECIAL, WORDS, Workshop, sha256, single_rows, write_tokenizer

from contrastill import Interrupted, Pretraining, UserError, pretrain
from contrastill.training.encoder import plan_pretraining

STEPS = 18  # 2 passes over 72 of 80 texts, 8 a step
Settings = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language model of random weights."""
    folder = tmp_path_factory.mktemp("language-model")
    set_seed(0)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(WORDS), max_position_embeddings=40, initializer_range=0.15, **shape)
    BertForMaskedLM(config).save_pretrained(folder)
    write_tokenizer(folder, WORDS)
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(row["text"] for row in single_rows(80, 5)))
    return path


@pytest.fixture
def settings(teacher: Path, texts: Path, tmp_path: Path) -> Settings:
    def given(**changes: Any) -> dict[str, Any]:
        return {
            **{"teacher": str(teacher), "texts": [str(texts)], "out": str(tmp_path / "run"), "method": "distilbert"},
            **{"student": "2/16/4/32", "start": "random", "batch_size": 8, "checks": 2, "epochs": 2},
            **{"learning_rate": 3e-3, "precision": "fp32", "max_length": 24, "keep_checkpoints": True},
            **changes,
        }

    return given


def test_the_loss_on_texts_held_out_falls_and_an_encoder_is_left(settings: Settings) -> None:
    run = pretrain(**settings(epochs=8, checks=4, set={"mlm": 0.0}))  # the teacher of random weights knows no word
    rows = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
    held = [row["eval_loss"] for row in rows if "eval_loss" in row]
    assert held[-1] < 0.99 * held[0]
    ours = run.metrics["student"]
    assert ours["loss"] == pytest.approx(5 * ours["words"] + ours["cosine"], rel=1e-4)
    assert ours["mlm"] > 1
    model, loading = AutoModel.from_pretrained(run.model, output_loading_info=True)
    assert not any(loading[kind] for kind in ("missing_keys", "unexpected_keys"))
    assert type(model).__name__ == "BertModel"
    assert model.config.hidden_size == 16
    batch = AutoTokenizer.from_pretrained(run.model)("a song", return_tensors="pt")
    assert model(**batch).last_hidden_state.shape == (1, 4, 16)


@pytest.mark.parametrize("student", ["2/16/4/32", "1L"], ids=["projected", "same-width"])
def test_a_run_stopped_and_resumed_ends_as_the_uninterrupted_one(
    settings: Settings, tmp_path: Path, student: str
) -> None:
    given = {"student": student, "dropout": 0.1, "start": "inherit"}
    whole = pretrain(**settings(**given, out=str(tmp_path / "whole")))
    with stopping_at(5), pytest.raises(Interrupted):
        pretrain(**settings(**given))
    run = pretrain(**settings(**given), resume=True)
    assert sha256(run.model / "model.safetensors") == sha256(whole.model / "model.safetensors")
    last = f"checkpoints/checkpoint-{STEPS}/model.safetensors"
    ours, theirs = (load_file(each.folder / last) for each in (run, whole))
    assert ours.keys() == theirs.keys()
    assert [key for key in ours if not ours[key].equal(theirs[key])] == []
    assert run.metrics["student"] == whole.metrics["student"]


def test_a_resumed_run_must_have_the_same_head(settings: Settings, tmp_path: Path, teacher: Path) -> None:
    other = tmp_path / "teacher"
    model = BertForMaskedLM.from_pretrained(teacher)
    model.save_pretrained(other)
    write_tokenizer(other, WORDS)
    with stopping_at(3), pytest.raises(Interrupted):
        pretrain(**settings(teacher=str(other)))
    model.cls.predictions.bias.data.add_(1.0)
    model.save_pretrained(other)
    with pytest.raises(UserError, match="head fingerprint has changed"):
        pretrain(**settings(teacher=str(other)), resume=True)


def test_words_of_the_texts_are_masked_and_no_others(settings: Settings) -> None:
    prepared = plan_pretraining(Pretraining(**settings()))
    task, mask = prepared.task, SPECIAL.index("[MASK]")
    assert task.mask == mask
    assert mask in prepared.words
    assert set(task.words) == set(prepared.words.tolist()) - set(range(len(SPECIAL)))
    assert len(task.words) > 40


def test_a_teacher_without_a_head_is_refused_before_the_texts_are_read(settings: Settings, workshop: Workshop) -> None:
    said = r"'distilbert' compares guesses of masked words: .*got .*whose weights have none.*--method lrc"
    with pytest.raises(UserError, match=said):
        pretrain(**settings(teacher=str(workshop.teacher()), texts=["none.txt"]))


def test_a_student_that_guesses_words_has_the_teachers_tokenizer(settings: Settings, workshop: Workshop) -> None:
    given = {"student": "as-is", "start": str(pretrain(**settings(epochs=0.2)).model)}
    assert plan_pretraining(Pretraining(**settings(**given))).task.words
    with pytest.raises(UserError, match=r"a student with the teacher's tokenizer, got .*pieces.*--method lrc_bert"):
        plan_pretraining(Pretraining(**settings(**given | {"start": str(workshop.pieces()), "texts": ["none.txt"]})))


def test_a_tokenizer_without_a_mask_token_is_refused(settings: Settings, tmp_path: Path, teacher: Path) -> None:
    BertForMaskedLM.from_pretrained(teacher).save_pretrained(tmp_path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path / "teacher")
    with pytest.raises(UserError, match=r"expected a tokenizer with a mask token, .*--method lrc_bert or tinybert"):
        pretrain(**settings(teacher=str(tmp_path / "teacher")))
