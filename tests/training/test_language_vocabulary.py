"""Runs that cut teacher and student to the pieces of their texts before training."""

import json
import logging
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_resume import stopping_at
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from workshop import sha256

from contrastill import Interrupted, UserError, distill
from contrastill.data.prompt_batches import EncodedPrompts, EncodedRows, encode_prompts, texts_of_prompts
from contrastill.data.prompts import load_prompts
from contrastill.settings import finetuning
from contrastill.teachers import entries
from contrastill.training.language_checks import mass_kept
from contrastill.training.language_vocabulary import cut_checked, lost_mass, sampled
from contrastill.vocabulary import cut_model, smaller_tokenizer

sys.path.insert(0, str(Path(__file__).parents[1] / "language"))
from tiny_language import gpt2, llama, problems, save, write

QUICK: dict[str, Any] = {"batch_size": 8, "checks": 2, "learning_rate": 3e-3, "precision": "fp32", "epochs": 2}
USED = ["river", "stone", "bridge", "garden", "window", "silver"]
OF_DEV, NEVER = "thunder", ["castle", "marble", "winter", "yellow", "pencil", "rocket"]
END = "<end>"
TEMPLATE = (
    "{% for m in messages %}marble {{ m['role'] }}: {{ m['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}marble assistant: {% endif %}"
)


def bytes_bpe() -> PreTrainedTokenizerFast:
    """GPT-2's kind, its end token behind all pieces."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    corpus = [f"{one} {other}" for one in [*USED, OF_DEV, *NEVER] for other in [*USED, OF_DEV, *NEVER]]
    made.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END, model_max_length=64)


TOKENIZER = bytes_bpe()


def model_of(kind: Any, *, tied: bool, padded: int = 3, **shape: Any) -> Any:
    model = kind(vocabulary=len(TOKENIZER) + padded, spread=0.3, **shape)
    end, beyond = int(TOKENIZER.eos_token_id), len(TOKENIZER) + padded - 1
    for config in (model.config, model.generation_config):
        config.eos_token_id = config.pad_token_id = end
    model.generation_config.eos_token_id = [end, beyond]  # no token of the tokenizer has the second number
    model.config.tie_word_embeddings = tied
    if tied:
        model.lm_head.weight = model.get_input_embeddings().weight
    else:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    return model


def written(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


def rows_of(count: int, seed: int, more: str = "") -> list[dict[str, str]]:
    rng = random.Random(seed)
    sides = [(" ".join(rng.choices(USED, k=3)), rng.choice(USED)) for _ in range(count)]
    return [{"prompt": f"{prompt}{more}", "answer": f" {answer}"} for prompt, answer in sides]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("language-vocabulary")


@pytest.fixture(scope="module")
def asked(place: Path) -> dict[str, Any]:
    splits = {"train": rows_of(24, 0), "dev": rows_of(8, 1, f" {OF_DEV}"), "test": rows_of(8, 2)}
    return {
        "teacher": written(model_of(llama, tied=False, width=24, layers=2, seed=1), place / "teacher"),
        "student": "1L",
        "method": "gkd",
        "data": write(place / "data", **splits),
        "cache": str(place / "cache"),
        "vocabulary": "texts",
        **QUICK,
    }


@pytest.fixture(scope="module")
def made(asked: dict[str, Any], place: Path) -> Any:
    distill(**{**asked, "vocabulary": "all"}, out=str(place / "whole"))
    return distill(**asked, out=str(place / "run"))


def record(run: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "run.json").read_text())
    return found


def texts_in(data: str) -> list[str]:
    lines = [line for split in ("train", "dev", "test") for line in (Path(data) / f"{split}.jsonl").open()]
    return [text for row in map(json.loads, lines) for text in (row["prompt"], row["answer"])]


def check_same(smaller: Any, ids: list[int], texts: list[str]) -> None:
    for text in texts:
        assert [ids[n] for n in smaller(text)["input_ids"]] == TOKENIZER(text)["input_ids"], text


# ---- two models


@pytest.mark.parametrize("kind", [llama, gpt2])
@pytest.mark.parametrize("tied", [True, False])
def test_kept_words_have_the_logits_of_the_whole_model(kind: Any, tied: bool, tmp_path: Path) -> None:
    model, other = model_of(kind, tied=tied), model_of(llama, tied=False, padded=9)
    texts = [" ".join(USED), "stone window\n", "été 日本 🙂"]
    smaller, ids = smaller_tokenizer([model, other], TOKENIZER, texts)
    check_same(smaller, ids, [*texts, "stone stone"])
    assert not {f"Ġ{word}" for word in NEVER} & smaller.get_vocab().keys()
    read = [tokenizer(texts[0], return_tensors="pt") for tokenizer in (TOKENIZER, smaller)]
    with torch.no_grad():
        expected = model(**read[0]).logits[..., ids]
        size = model.num_parameters()
        saved = cut_model(model, ids)
        found = model(**read[1]).logits
    torch.testing.assert_close(found, expected)
    assert saved == size - model.num_parameters() == (len(TOKENIZER) + 3 - len(ids)) * 16 * (1 if tied else 2)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) is tied

    model.save_pretrained(tmp_path)
    smaller.save_pretrained(tmp_path)
    again, reader = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    check_same(reader, ids, texts)
    with torch.no_grad():
        torch.testing.assert_close(again(**reader(texts[0], return_tensors="pt")).logits, expected)
    end = reader.eos_token_id
    assert end == len(ids) - 1 < TOKENIZER.eos_token_id
    assert (again.generation_config.eos_token_id, again.generation_config.pad_token_id) == ([end], end)
    assert (again.config.eos_token_id, again.config.vocab_size) == (end, len(ids))


def test_entries_that_name_tokens_and_are_not_renumbered_are_refused() -> None:
    model = model_of(llama, tied=True)
    model.generation_config.suppress_tokens = [3]
    with pytest.raises(UserError, match="got suppress_tokens"):
        smaller_tokenizer([model_of(llama, tied=True), model], TOKENIZER, [])


def encoded(count: int = 5) -> Any:
    return encode_prompts(load_prompts(rows_of(count, 4), dev_share=0).train, TOKENIZER, 64).rows


def test_a_model_with_a_second_table_of_words_is_refused() -> None:
    model, rows = model_of(llama, tied=False), encoded()
    second = torch.randn(len(TOKENIZER) + 3, 16)
    model.get_input_embeddings().register_forward_hook(lambda module, given, out: out + second[given[0]])
    texts = [str(TOKENIZER.decode(row[side])) for row in rows[:] for side in ("prompt", "answer")]
    _, ids = smaller_tokenizer([model], TOKENIZER, texts)
    place = {before: after for after, before in enumerate(ids)}
    after = [{side: [place[n] for n in row[side]] for side in ("prompt", "answer")} | {"key": 0} for row in rows[:1]]
    with pytest.raises(UserError, match="other logits"):
        cut_checked(model, ids, rows[:1], after)


# ---- the lost mass


def slow_lost_mass(model: Any, rows: Any, ids: list[int]) -> float:
    lost = []
    for row in rows:
        for n in range(len(row["answer"])):
            read = torch.tensor([[*row["prompt"], *row["answer"][:n]]])
            with torch.no_grad():
                mass = model(read).logits[0, -1].softmax(0)
            lost.append(sum(float(mass[word]) for word in range(len(mass)) if word not in ids))
    return sum(lost) / len(lost)


@pytest.mark.parametrize("kind", [llama, gpt2])
def test_the_lost_mass_is_that_of_a_plain_loop(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = model_of(kind, tied=False), encoded()[:]
    ids = [*range(0, len(TOKENIZER), 2)]
    expected = slow_lost_mass(model, rows, ids)
    assert 0 < expected < 1
    assert lost_mass(model, rows, ids) == pytest.approx(expected, rel=1e-4)
    assert lost_mass(model, rows[::-1], ids) == pytest.approx(expected, rel=1e-5)
    assert lost_mass(model, rows[:1], ids) == pytest.approx(slow_lost_mass(model, rows[:1], ids), rel=1e-4)
    assert lost_mass(model, rows, ids, torch.bfloat16) == pytest.approx(expected, rel=0.2)
    monkeypatch.setattr("contrastill.language.LOGITS", 1)
    assert lost_mass(model, rows, ids) == pytest.approx(expected, rel=1e-4)
    assert lost_mass(model, rows, [*range(len(TOKENIZER) + 3)]) == 0


@pytest.mark.parametrize(("count", "taken"), [(1, 1), (256, 256), (257, 129), (520, 174)])
def test_at_most_256_rows_are_measured_evenly_spaced(count: int, taken: int) -> None:
    row = np.arange(count)
    tokens, borders = np.repeat(row, 2).astype(np.int32), np.arange(2 * count + 1)
    found = sampled(EncodedPrompts(EncodedRows(tokens, borders, row), 0.0, (0,)))
    assert len(found) == taken
    assert len({*np.diff([one["key"] for one in found]).tolist()}) <= 1


# ---- chat templates


def test_texts_are_those_that_prompts_are_read_by() -> None:
    tokenizer = bytes_bpe()
    tokenizer.chat_template = TEMPLATE
    rows = load_prompts(rows_of(6, 5), dev_share=0).train
    for chat in (False, True):
        texts = [*texts_of_prompts(rows, tokenizer, chat=chat)]
        assert len(texts) == 12
        smaller, ids = smaller_tokenizer([model_of(llama, tied=True)], tokenizer, texts)
        read = [encode_prompts(rows, each, 64, chat=chat) for each in (tokenizer, smaller)]
        assert [ids[n] for n in read[1].rows.tokens] == read[0].rows.tokens.tolist()
        assert ("marble" in smaller.get_vocab()) is chat


# ---- runs


def test_a_run_saves_a_smaller_student_that_plain_transformers_loads(made: Any, asked: dict[str, Any]) -> None:
    model, tokenizer = (each.from_pretrained(made.model) for each in (AutoModelForCausalLM, AutoTokenizer))
    known = TOKENIZER.get_vocab()
    ids = sorted(known[piece] for piece in tokenizer.get_vocab())
    check_same(tokenizer, ids, texts_in(asked["data"]))
    assert len(tokenizer) == model.config.vocab_size == len(model.lm_head.weight) < len(TOKENIZER)
    assert f"Ġ{OF_DEV}" in tokenizer.get_vocab()
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]
    out = model.generate(**tokenizer("river stone", return_tensors="pt"), max_new_tokens=4)
    assert int(out.max()) < len(tokenizer)


def test_what_was_cut_and_lost_stands_in_the_record(made: Any, asked: dict[str, Any], place: Path) -> None:
    found, whole = record(made), json.loads((place / "whole" / "run.json").read_text())
    told, kept = found["vocabulary"], len(AutoTokenizer.from_pretrained(made.model))
    assert "vocabulary" not in whole
    assert (told["before"], told["after"], told["rows"]) == (len(TOKENIZER), kept, 24)
    assert told["parameters_saved"] == 2 * 24 * (len(TOKENIZER) + 3 - kept)
    assert 0 < told["lost_mass"] < 1
    said = found["data"]["decisions"]["vocabulary"]
    assert f"{kept:,} of {len(TOKENIZER):,} pieces kept" in said
    assert f"{told['lost_mass']:.3%} of the teacher's mass lay on the others" in said
    assert "vocabulary" not in whole["data"]["decisions"]
    sizes = [json.loads((place / name / "metrics.json").read_text()) for name in ("whole", "run")]
    assert sizes[0]["teacher"]["parameters"] == sizes[1]["teacher"]["parameters"] == told["teacher_size"]["parameters"]
    assert sizes[0]["student"]["parameters"] - sizes[1]["student"]["parameters"] == told["parameters_saved"]
    assert found["data_fingerprint"] == whole["data_fingerprint"]
    assert found["teacher_fingerprint"] != whole["teacher_fingerprint"]
    checked = next(one for one in found["preflight"] if one["name"] == "vocabulary")
    assert checked["ok"]
    assert checked["seen"].endswith("that were left out")
    assert not [one for one in whole["preflight"] if one["name"] == "vocabulary"]


@pytest.mark.parametrize(("lost", "ok"), [(0.1, True), (0.11, False)])
def test_a_large_lost_mass_is_warned_of(lost: float, ok: bool) -> None:
    run: Any = SimpleNamespace(trimmed=SimpleNamespace(lost_mass=lost))
    [found] = mass_kept(run)
    assert found.ok == ok
    assert ("--vocabulary all" in found.seen) != ok
    assert not found.fatal


def test_the_cut_teachers_outputs_are_stored_apart(made: Any, asked: dict[str, Any], tmp_path: Path) -> None:
    distinct = made.metrics["teacher_forwards"]
    assert distinct > 0  # none was read from what the run with the whole teacher stored
    assert len({entry.facts.teacher for entry in entries(Path(asked["cache"]))}) == 2
    again = distill(**asked, out=str(tmp_path / "again"))
    assert again.metrics["teacher_forwards"] == 0
    fewer = write(tmp_path / "data", train=rows_of(24, 0), dev=rows_of(8, 1))  # no piece of OF_DEV
    other = distill(**asked | {"data": fewer}, out=str(tmp_path / "other"))
    assert other.metrics["teacher_forwards"] == distinct


def test_a_run_stopped_and_resumed_ends_as_the_uninterrupted_one(
    made: Any, asked: dict[str, Any], tmp_path: Path
) -> None:
    again = {**asked, "out": str(tmp_path / "again")}
    with stopping_at(4), pytest.raises(Interrupted):
        distill(**again)
    resumed = distill(resume=True, **again)
    for name in ("model.safetensors", "tokenizer.json", "config.json", "generation_config.json"):
        assert sha256(resumed.model / name) == sha256(made.model / name)
    assert record(resumed)["vocabulary"] == record(made)["vocabulary"]


@pytest.mark.parametrize(
    ("name", "more"),
    [("gkd", {"source": "student"}), ("skd", {"top_k": 2, "temperature": 1.0, "top_p": 1.0})],
)
def test_texts_are_written_by_models_of_unequal_heads_cut_alike(
    name: str, more: dict[str, Any], asked: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = written(model_of(gpt2, tied=True, padded=11, layers=1), tmp_path / "start")
    changes = {"method": name, "set": more, "student": "as-is", "start": start, "epochs": 1}
    with caplog.at_level(logging.INFO):
        run = distill(**{**asked, **changes}, out=str(tmp_path / "run"))
    said = [one.getMessage() for one in caplog.records if "pieces kept" in one.getMessage()]
    assert len(said) == 1
    assert "of the teacher's mass" in said[0]
    student, tokenizer = (each.from_pretrained(run.model) for each in (AutoModelForCausalLM, AutoTokenizer))
    assert student.config.vocab_size == len(tokenizer) == record(run)["vocabulary"]["after"]
    assert record(run)["vocabulary"]["parameters_saved"] == 16 * (len(TOKENIZER) + 11 - len(tokenizer))
    assert run.metrics["student"]["dev"]["metrics"]["kl"] > 0


def test_a_tokenizer_that_cannot_be_trimmed_is_refused_before_training(tmp_path: Path) -> None:
    given = {"teacher": save(llama(), tmp_path / "teacher"), "data": write(tmp_path / "data", train=problems(20))}
    with pytest.raises(UserError, match=r"--vocabulary texts: .* got WordLevel.*--vocabulary all"):
        distill(**given, method="gkd", student="1L", vocabulary="texts", out=str(tmp_path / "run"), **QUICK)
    assert not (tmp_path / "run" / "student").exists()


def test_the_choice_is_of_distilled_models_alone(asked: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vocabulary"):
        distill(**asked | {"vocabulary": "some"}, out=str(tmp_path / "run"))
    assert not hasattr(finetuning("language"), "vocabulary")
