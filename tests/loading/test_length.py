"""How many tokens of a text are read, where nothing else is asked for."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from contrastill import evaluate
from contrastill.errors import UserError
from contrastill.exporting import exportable
from contrastill.loading import input_length, load_config, load_embedder, load_tokenizer, locate
from contrastill.settings import (
    Contrast,
    Distillation,
    EmbeddingDistillation,
    Finetuning,
    Pretraining,
    SuiteEvaluation,
)
from contrastill.training.embeddings import plan_embedding
from contrastill.training.encoder import plan_pretraining
from contrastill.training.folder import RunFolder
from contrastill.training.labelled_plans import plan_distillation, plan_finetuning
from contrastill.training.suite import set_length


def with_limit(source: Path, folder: Path, limit: int) -> Path:
    shutil.copytree(source, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = limit
    tokenizer.save_pretrained(folder)
    return folder


def of_run(source: Path, run: Path, **settings: Any) -> Path:
    """The model as a run of these settings leaves it."""
    shutil.copytree(source, run / "model")
    (run / "run.json").write_text(json.dumps({"command": "finetune", "settings": settings, "status": "finished"}))
    return run


@pytest.mark.parametrize(
    ("asked", "trained", "limit", "bound", "tokens", "why"),
    [
        (7, 9, 24, 16, 7, "as asked for"),
        (None, 9, 24, 6, 9, "as in the run that made the model"),
        (None, 300, 20, 16, 16, "the default"),  # more than the model reads: a record that was edited
        (None, None, 20, 16, 16, "the default"),
        (None, None, 12, 16, 12, "the model's own limit"),
        (None, None, 10**30, 128, 24, "the model's own limit"),  # the positions, where the tokenizer knows no limit
        (None, None, 10**30, 16, 16, "the default"),
    ],
)
def test_the_length_is_the_one_asked_for_else_the_runs_else_the_models_within_a_bound(
    home: Path, tmp_path: Path, asked: int, trained: int, limit: int, bound: int, tokens: int, why: str
) -> None:  # fmt: skip
    name = str(with_limit(home / "classifier", tmp_path / "model", limit))
    if trained is not None:
        name = str(of_run(Path(name), tmp_path / "run", max_length=trained) / "model")
    length = input_length(asked, name, load_tokenizer(name), load_config(locate(name)), bound)
    assert (length.tokens, length.why) == (tokens, why)


@pytest.mark.parametrize("asked", [2, 25])
def test_a_length_that_no_text_has_or_no_tokenizer_gives_is_refused(home: Path, asked: int) -> None:
    tokenizer = load_tokenizer(str(home / "classifier"))
    tokenizer.model_max_length = 24
    with pytest.raises(UserError, match=f"expected a max_length from 3 to 24, got {asked}"):
        input_length(asked, "a name", tokenizer, None)


def test_the_limit_of_every_model_that_reads_the_texts_counts(home: Path) -> None:
    one, other = (load_tokenizer(str(home / "classifier")) for _ in range(2))
    other.model_max_length = 11
    assert input_length(None, "a name", one, None, 128, other).tokens == 11


PREPARED = {
    "finetune": lambda model, home, out: plan_finetuning(Finetuning(model=model, data=str(home / "data.csv"), out=out)),
    "distill": lambda model, home, out: plan_distillation(
        Distillation(teacher=model, data=str(home / "data.csv"), student="1/4/2/8", start="random", out=out)
    ),
    "pretrain": lambda model, home, out: plan_pretraining(
        Pretraining(teacher=model, texts=[str(home / "texts.txt")], student="1/4/2/8", start="random", out=out)
    ),
    "disco": lambda model, home, out: plan_embedding(
        EmbeddingDistillation(
            teacher=[model], texts=[str(home / "texts.txt")], student="1/4/2/8", start="random", out=out, cache=out
        )
    ),
}


@pytest.mark.parametrize("command", PREPARED)
def test_every_run_takes_its_length_from_its_model_and_records_it(home: Path, tmp_path: Path, command: str) -> None:
    kind = "embedder" if command == "disco" else "classifier"
    run = PREPARED[command](str(of_run(home / kind, tmp_path / "teacher", max_length=9)), home, str(tmp_path / "out"))
    assert run.settings.max_length == run.length.tokens == 9
    assert run.describe()["decisions"]["length"].startswith(
        "9 tokens (as in the run that made the model); 0.0% of the texts are cut"
    )
    longest = max(len(ids) for ids in run.examples["input_ids"]) if command in ("finetune", "distill") else 9
    assert longest <= 9


def test_a_model_is_scored_at_the_length_it_was_trained_with(home: Path, tmp_path: Path) -> None:
    long = "text,label\n" + "".join(f"{'w1 ' * 12}w{n % 9},LABEL_{n % 2}\n" for n in range(8))
    (tmp_path / "long.csv").write_text(long)
    run = of_run(home / "classifier", tmp_path / "run", max_length=10)
    scored = evaluate(model=str(run), data=str(tmp_path / "long.csv"))
    assert (scored["max_length"], scored["cut_share"]) == (10, 1.0)
    scored = evaluate(model=str(home / "classifier"), data=str(tmp_path / "long.csv"))
    assert (scored["max_length"], scored["cut_share"]) == (24, 0.0)


def test_a_run_records_the_length_it_came_to_and_goes_on_with_that_alone(tmp_path: Path) -> None:
    asked = Contrast(model="m", pairs="p", out=str(tmp_path / "run"))
    folder = RunFolder("contrast", asked, resume=False)
    folder.settle(Contrast(model="m", pairs="p", out=str(tmp_path / "run"), max_length=9))
    folder.begin()
    assert json.loads((tmp_path / "run/run.json").read_text())["settings"]["max_length"] == 9
    folder.release()
    again = RunFolder("contrast", asked, resume=True)  # left open again: settled when the model is known
    again.settle(Contrast(model="m", pairs="p", out=str(tmp_path / "run"), max_length=9))
    with pytest.raises(UserError, match="max_length"):
        again.settle(Contrast(model="m", pairs="p", out=str(tmp_path / "run"), max_length=8))
    again.release()


def test_a_suite_cuts_where_the_run_did_and_says_how_many(
    home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = of_run(home / "embedder", tmp_path / "run", max_length=5)
    for name, asked, tokens in ((str(run), None, 5), (str(home / "embedder"), None, 24), (str(run), 7, 7)):
        model = load_embedder(name)
        settings = SuiteEvaluation(model=name, suite="sts", max_length=asked)
        with caplog.at_level(logging.INFO, logger="contrastill.training.suite"):
            set_length(model, settings, ["w1 " * 4, "w1"])
        assert model.max_seq_length == tokens
        assert f"{tokens} tokens" in caplog.text.splitlines()[-1]
        assert f"{50 * (tokens < 6):.1f}% of the texts are cut" in caplog.text.splitlines()[-1]


def test_what_is_exported_says_how_many_texts_it_cuts(home: Path) -> None:
    source = exportable(str(home / "classifier"), max_length=5)
    assert source.cut_share(["w1 " * 4, "w1", "w1 w2 w3"]) == pytest.approx(1 / 3)
