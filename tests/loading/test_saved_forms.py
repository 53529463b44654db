"""Weights in halves and in several files are the same teacher as in floats and in one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from contrastill.loading import load_classifier, load_embedder, load_encoder
from contrastill.students import make_student
from contrastill.teachers import fingerprint
from contrastill.training import evaluate


def rounded(dtype: torch.dtype) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({key: value.to(dtype) for key, value in load_file(path).items()}, path, {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "dtype": str(dtype).removeprefix("torch.")}))

    return save


def in_files(folder: Path) -> None:
    """One tensor a file."""
    path = folder / "model.safetensors"
    weights = load_file(path)
    names = {key: f"model-{n + 1:05}-of-{len(weights):05}.safetensors" for n, key in enumerate(weights)}
    for key, value in weights.items():
        save_file({key: value}, folder / names[key], {"format": "pt"})
    size = sum(value.numel() * value.element_size() for value in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": names}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    path.unlink()


HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
OPENED = {"classifier": load_classifier, "embedder": load_embedder, "encoder": load_encoder}


def copy(home: Path, kind: str, to: Path, *changes: Callable[[Path], None]) -> str:
    folder = Path(shutil.copytree(home / kind, to))
    for change in changes:
        change(folder)
    return str(folder)


def values(model: Any) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


@pytest.mark.parametrize("kind", OPENED)
def test_several_files_are_the_teacher_of_one_file(home: Path, tmp_path: Path, kind: str) -> None:
    whole, parts = OPENED[kind](str(home / kind)), OPENED[kind](copy(home, kind, tmp_path / "parts", in_files))
    assert all(torch.equal(value, values(whole)[name]) for name, value in values(parts).items())
    facts = {"facts": {}} if kind == "embedder" else {}
    assert fingerprint(parts, **facts) == fingerprint(whole, **facts)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("kind", OPENED)
def test_halves_are_read_as_floats_and_are_another_teacher(home: Path, tmp_path: Path, kind: str, dtype: str) -> None:
    whole = OPENED[kind](str(home / kind))
    half = OPENED[kind](copy(home, kind, tmp_path / "half", rounded(HALVES[dtype])))
    assert {value.dtype for value in values(half).values() if value.is_floating_point()} == {torch.float32}
    for name, value in values(half).items():
        assert torch.equal(value, values(whole)[name].to(HALVES[dtype]).float())
    facts = {"facts": {}} if kind == "embedder" else {}
    assert fingerprint(half, **facts) != fingerprint(whole, **facts)


def test_a_teacher_of_halves_in_several_files_is_scored_and_distilled_in_floats(home: Path, tmp_path: Path) -> None:
    name = copy(home, "classifier", tmp_path / "teacher", rounded(torch.float16), in_files)
    found = evaluate(model=name, data=str(home / "data.csv"))
    model, tokenizer = load_classifier(name), AutoTokenizer.from_pretrained(name)
    texts = [line.split(",")[0] for line in (home / "data.csv").read_text().splitlines()[1:]]
    with torch.no_grad():
        answers = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits.argmax(1)
    right = sum(int(answer) == n % 2 for n, answer in enumerate(answers))
    assert found["metrics"]["accuracy"] == pytest.approx(right / len(texts))
    student = make_student(model, tokenizer, "1/4/2/8", texts=texts)
    student.save_pretrained(tmp_path / "student")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student")
    assert {parameter.dtype for parameter in (*student.parameters(), *again.parameters())} == {torch.float32}


def test_a_pooler_that_the_file_lacks_is_the_same_in_every_load(home: Path, tmp_path: Path) -> None:
    """Else a run would find another teacher when it is resumed."""

    def without_pooler(folder: Path) -> None:
        path = folder / "model.safetensors"
        kept = {key: value for key, value in load_file(path).items() if "pooler" not in key}
        save_file(kept, path, {"format": "pt"})

    name = copy(home, "encoder", tmp_path / "encoder", without_pooler)
    before = torch.get_rng_state()
    first, second = load_encoder(name), load_encoder(name)
    assert torch.get_rng_state().equal(before)
    assert "pooler.dense.weight" in values(first)
    assert fingerprint(first) == fingerprint(second)
