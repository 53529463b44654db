"""The JSON of the commands that need no bundle: names, their order, and the types of values."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from workshop import Workshop, single_rows, write_csv

from contrastill.cli import app
from contrastill.evaluation import sts

st = pytest.importorskip("sentence_transformers")

FORMS = Path(__file__).with_name("json_forms.json")
SHORT = ["--batch-size", 8, "--checks", 1, "--epochs", 0.2, "--precision", "fp32", "--max-length", 24]
SMALL = ["--student", "1/16/4/32", *SHORT]
MEASURED = {"machine", "folders", "stored"}
"""Objects whose entries depend on the machine, or are named by what was asked for."""
DOUBTS = "warnings"  # there only where there are some


def form(value: Any, name: str = "") -> Any:
    """A JSON value with types in place of figures and words; of a list, its first entry."""
    if isinstance(value, dict):
        return "…" if name in MEASURED else {key: form(one, key) for key, one in value.items() if key != DOUBTS}
    if isinstance(value, list):
        return [form(one) for one in value[:1]]
    return type(value).__name__


def call(*words: object) -> Any:
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def files(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root, rows = tmp_path_factory.mktemp("forms"), single_rows(48, 3)
    (root / "texts.txt").write_text("\n".join(row["text"] for row in rows))
    pairs = [{"sentence1": one["text"], "sentence2": two["text"]} for one, two in zip(rows, rows[3:], strict=False)]
    st.SentenceTransformer(str(workshop.encoder()), device="cpu").save(str(root / "embedder"))
    return {
        "root": root,
        "texts": root / "texts.txt",
        "pairs": write_csv(root / "pairs.csv", pairs),
        "scored": write_csv(root / "scored.csv", [{**row, "score": n / 40} for n, row in enumerate(pairs)]),
        "embedder": root / "embedder",
        "cache": root / "cache",
    }


@pytest.fixture(scope="module")
def found(workshop: Workshop, files: dict[str, Path]) -> dict[str, Any]:
    """What each command printed."""
    root, data, teacher = files["root"], workshop.data(), workshop.teacher()
    embedder, cache = files["embedder"], ["--cache", files["cache"]]
    of_texts = ["--texts", files["texts"], *cache]
    small = {"STS-B": sts.load_scored_pairs(files["scored"])}
    made: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sts, "load_sts", lambda *_: small)
        patch.setattr("contrastill.training.suite.load_sts", lambda *_: small)
        for name, words in {
            "finetune": ["--model", workshop.encoder(), "--data", data / "train.csv", *SHORT],
            "distill": ["--teacher", teacher, "--data", data, "--method", "kd", *cache, *SMALL],
            "distill, embeddings": ["--method", "leaf", "--teacher", embedder, *of_texts, "--sts", root, *SMALL],
            "pretrain": ["--teacher", teacher, *of_texts, *SMALL],
            "contrast": ["--model", embedder, "--pairs", files["pairs"], "--sts", root, *SHORT],
            "contrast, dev": ["--model", embedder, "--pairs", files["pairs"], "--dev", files["scored"], *SHORT],
        }.items():
            made[name] = call(name.split(",")[0], *words, "--out", root / name)
            made[f"{name}: metrics.json"] = written = json.loads((root / name / "metrics.json").read_text())
            assert made[name].items() >= written.items(), name
        made["evaluate --suite"] = call("evaluate", "--suite", "sts", "--model", embedder, "--data", root)
    made["evaluate"] = call("evaluate", "--model", teacher, "--data", data)
    made["cache build"] = call("cache", "build", "--teacher", embedder, *of_texts, "--max-length", 16)
    made["cache list"] = call("cache", "list", *cache)
    made["cache verify"] = call("cache", "verify", *cache)
    made["cache prune"] = call("cache", "prune", *cache, "--unused-days", 0)
    made["doctor"] = call("doctor", "--teacher", teacher, "--data", data, *SMALL[:2])
    made["compare"] = call("compare", root / "distill", "--out", root / "page.html")
    return made


def test_the_json_of_every_command_has_the_form_that_it_had(found: dict[str, Any]) -> None:
    forms = {name: form(one) for name, one in found.items()}
    lines = [f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in forms.items()]
    if os.environ.get("CONTRASTILL_REGENERATE"):
        FORMS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    assert ["{", *(f"{line}," for line in lines[:-1]), lines[-1], "}"] == FORMS.read_text().splitlines()
