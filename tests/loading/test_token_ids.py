"""A text with a token that a model has no embedding of is refused by each command in the same words."""

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from contrastill.errors import UserError
from contrastill.exporting import exportable
from contrastill.loading import highest_id, load_embedder, load_tokenizer, rows_of
from contrastill.settings import EmbeddingDistillation, Evaluation, Finetuning, Pretraining, SuiteEvaluation
from contrastill.training import build_cache, contrast, evaluate, finetune
from contrastill.training.checks import Check, Report
from contrastill.training.embeddings import plan_embedding
from contrastill.training.encoder import plan_pretraining
from contrastill.training.labelled_plans import plan_finetuning
from contrastill.training.preflight import check_data
from contrastill.training.suite import evaluate_suite

WORDS = "tokenizer fits the models: highest token id 40, smallest vocabulary 40; the tokenizer belongs to another model"


@pytest.fixture(scope="module")
def added(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models with a token added behind their tables, and texts that hold it: the last ones, or dev's alone."""
    made = tmp_path_factory.mktemp("added")
    for kind in ("classifier", "embedder"):
        shutil.copytree(home / kind, made / kind)
        tokenizer = AutoTokenizer.from_pretrained(home / kind)
        tokenizer.add_tokens(["newword"])
        tokenizer.save_pretrained(made / kind)
    lines = [f"w{n % 35} w{n % 7}" for n in range(40)]
    (made / "texts.txt").write_text("".join(f"{line}\n" for line in [*lines, "w1 newword"]))
    rows = [f"{line},LABEL_{n % 2}" for n, line in enumerate(lines)]
    (made / "data.csv").write_text("\n".join(["text,label", *rows, "w1 newword,LABEL_0"]) + "\n")
    (made / "train.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    (made / "dev.csv").write_text("text,label\nw1 newword,LABEL_0\nw2,LABEL_1\n")
    pairs = [f"{a},{b}" for a, b in pairwise(lines)][:30]
    (made / "pairs.csv").write_text("\n".join(["anchor,positive", *pairs, "w1 newword,w3"]) + "\n")
    (made / "plain.csv").write_text("\n".join(["anchor,positive", *pairs]) + "\n")
    scored = [f"w{n},w{n + 1},{n % 5}" for n in range(9)]
    rows = [f"MSRpar\t{n % 5}\tw{n}\tw1 newword" for n in range(9)]
    for name in ("STS12", "STS13", "STS14", "STS15", "STS16"):
        (made / "sts" / name).mkdir(parents=True)
        (made / "sts" / name / "test.tsv").write_text("\n".join(["subset\tscore\tsentence1\tsentence2", *rows]) + "\n")
    (made / "sts/STS-B").mkdir()
    (made / "sts/STS-B/test.tsv").write_text("score\tsentence1\tsentence2\n4\tw1\tw2\n1\tw3\tnewword\n")
    (made / "sts/SICK").mkdir()
    (made / "sts/SICK/SICK_test_annotated.txt").write_text(
        "pair_ID\tsentence_A\tsentence_B\trelatedness_score\n1\tw1\tw2\t4\n2\tw3\tw4\t1\n"
    )
    (made / "scored.csv").write_text("\n".join(["sentence1,sentence2,score", *scored, "w1 newword,w3,2"]) + "\n")
    return made


def checked(run: Any) -> None:
    check_data(run).raise_if_failed(force=True)


CLASSIFIER: dict[str, Callable[[str, Path, str], Any]] = {
    "finetune": lambda model, at, out: finetune(model=model, data=str(at / "data.csv"), out=out, force=True),
    "finetune, in dev alone": lambda model, at, out: checked(
        plan_finetuning(Finetuning(model=model, data=str(at / "train.csv"), dev=str(at / "dev.csv"), out=out))
    ),
    "evaluate": lambda model, at, out: evaluate(**vars(Evaluation(model=model, data=str(at / "data.csv")))),
    "cache build": lambda model, at, out: build_cache(
        teacher=model, texts=[str(at / "texts.txt")], fields=["logits"], cache=out
    ),
    "export": lambda model, at, out: exportable(model),
}
EMBEDDER: dict[str, Callable[[str, Path, str], Any]] = {
    "contrast": lambda model, at, out: contrast(model=model, pairs=str(at / "pairs.csv"), out=out, force=True),
    "contrast, in dev alone": lambda model, at, out: contrast(
        model=model, pairs=str(at / "plain.csv"), dev=str(at / "scored.csv"), out=out, force=True
    ),
    "pretrain": lambda model, at, out: checked(
        plan_pretraining(
            Pretraining(teacher=model, texts=[str(at / "texts.txt")], student="2/8/2/16", start="random", out=out)
        )
    ),
    "cache build": lambda model, at, out: build_cache(teacher=model, texts=[str(at / "texts.txt")], cache=out),
    "a teacher's own tokens": lambda model, at, out: plan_embedding(
        EmbeddingDistillation(
            teacher=[model], texts=[str(at / "texts.txt")], student="as-is", start=str(at / "home/encoder"), out=out,
            cache=out,
        )
    ).use_cache(),
    "suite": lambda model, at, out: evaluate_suite(
        SuiteEvaluation(model=model, suite="sts", data=str(at / "sts"))
    ),
    "export": lambda model, at, out: exportable(model),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "command"), [*(("classifier", one) for one in CLASSIFIER), *(("embedder", one) for one in EMBEDDER)]
)
def test_each_command_refuses_it_in_the_same_words_also_with_force(
    home: Path, added: Path, tmp_path: Path, kind: str, command: str
) -> None:
    if not (added / "home").exists():
        (added / "home").symlink_to(home)
    opened = CLASSIFIER if kind == "classifier" else EMBEDDER
    with pytest.raises(UserError) as error:
        opened[command](str(added / kind), added, str(tmp_path / "out"))
    assert WORDS in str(error.value)
    assert "--force" not in str(error.value)


def test_texts_are_read_only_where_a_token_lacks_an_embedding(home: Path, added: Path) -> None:
    model = load_embedder(str(added / "embedder"))
    assert rows_of(model) == 40

    def no_texts() -> Any:
        raise AssertionError
        yield

    assert highest_id(load_tokenizer(str(home / "embedder")), 40, no_texts()) == 0
    assert highest_id(model.tokenizer, None, no_texts()) == 0
    assert highest_id(model.tokenizer, 40, [["w1"], [], ["newword", "w2"]]) == 40
    assert highest_id(model.tokenizer, 40, [["w1"]]) < 40


def test_force_passes_over_what_training_survives_alone() -> None:
    grave, crash = Check("learnt", False, "no"), Check("texts fit", False, "too long", forceable=False)
    Report([grave]).raise_if_failed(force=True)
    with pytest.raises(UserError, match=r"\(--force starts anyway\)"):
        Report([grave]).raise_if_failed()
    with pytest.raises(UserError, match=r"a check failed:\n  texts fit: too long$"):
        Report([grave, crash]).raise_if_failed(force=True)
