"""The cache filled from a corpus, by function and by command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModel, AutoTokenizer
from typer.testing import CliRunner, Result
from workshop import WORDS, Workshop

from contrastill.cli import app
from contrastill.errors import UserError
from contrastill.teachers import entries
from contrastill.training import build_cache


@pytest.fixture
def asked(workshop: Workshop, tmp_path: Path) -> dict[str, Any]:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(f"{WORDS[n % 7]} {WORDS[n % 11]} {WORDS[n % 5]}\n\n" for n in range(60)))
    return {"teacher": str(workshop.teacher()), "texts": [str(corpus)], "cache": str(tmp_path / "c"), "max_length": 16}


def command(*args: object) -> Result:
    return CliRunner().invoke(app, ["cache", *map(str, args)], env={"COLUMNS": "200", "TERM": "dumb"})


def test_each_different_text_is_stored_once_and_the_second_build_runs_no_teacher(asked: dict[str, Any]) -> None:
    different = len(set(Path(asked["texts"][0]).read_text().split("\n")) - {""})
    first = build_cache(**asked)
    assert (first["texts"], first["teacher_forwards"]) == (60, different)
    assert first["stored"] == {"logits": different}
    second = build_cache(**asked)
    assert second["teacher_forwards"] == 0
    assert second["stored"] == first["stored"]
    with Path(asked["texts"][0]).open("a") as file:
        file.write(" ".join(WORDS[:6]) + "\n")
    assert build_cache(**asked)["teacher_forwards"] == 1


def test_chunks_do_not_matter(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_cache(**asked)
    monkeypatch.setattr("contrastill.data.corpus.CHUNK", 7)
    assert build_cache(**asked)["teacher_forwards"] == 0
    parts = build_cache(**{**asked, "cache": asked["cache"] + "2"})
    assert parts["stored"] == whole["stored"]
    assert parts["teacher_forwards"] == whole["teacher_forwards"]


def test_a_limit_and_fields(asked: dict[str, Any]) -> None:
    found = build_cache(**asked, limit=5, fields=["layer-1-mean", "layer-2-mean", "logits"], cache_dtype="int8")
    assert found["texts"] == 5
    assert set(found["stored"]) == {"logits", "layer-1-mean", "layer-2-mean"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fields": ["layer-9-mean"]}, "expected a layer from 0 to"),
        ({"fields": ["layer-1-mean", "layer-2-cls"]}, "one granularity"),
        ({"fields": ["hidden"]}, "expected fields vector, logits"),
        ({"fields": ["vector"]}, "sentence-embedding model"),
        ({"max_length": 2}, "max_length"),
        ({"max_length": 100_000}, "max_length"),
        ({"cache_dtype": "float8"}, "--cache-dtype: expected one of float16, bfloat16, int8, float32"),
        ({"texts": ["none.txt"]}, "check the path"),
        ({"teacher": "./none"}, "found nothing"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(asked: dict[str, Any], changes: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_cache(**{**asked, **changes})
    assert not Path(asked["cache"]).exists()


def test_an_encoder_without_a_head_has_layers_and_no_logits(asked: dict[str, Any], workshop: Workshop) -> None:
    bare = asked["teacher"] = str(Path(asked["cache"]).parent / "bare")
    for kind in (AutoModel, AutoTokenizer):
        kind.from_pretrained(workshop.encoder()).save_pretrained(bare)
    with pytest.raises(UserError, match=r"expected a classifier for logits, got another model; name fields"):
        build_cache(**asked)
    assert set(build_cache(**asked, fields=["layer-1-cls"])["stored"]) == {"layer-1-cls"}


def test_an_empty_corpus_and_a_full_disk(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(UserError, match="expected room"):
        build_cache(**asked)
    Path(asked["texts"][0]).write_text("\n \n")
    with pytest.raises(UserError, match="expected rows, got an empty file"):
        build_cache(**asked)


def test_a_sentence_embedding_model_gives_its_own_vectors(asked: dict[str, Any], workshop: Workshop) -> None:
    st = pytest.importorskip("sentence_transformers")
    import numpy as np
    import torch

    from contrastill.data.corpus import teacher_rows
    from contrastill.encoder import Wanted
    from contrastill.loading import load_embedder
    from contrastill.teachers import CachedTeacher, cache_root, keys_of
    from contrastill.teachers.embedder import FrozenEmbedder

    folder = Path(asked["cache"]).parent / "embedder"
    st.SentenceTransformer(str(workshop.plain_encoder()), device="cpu").save(str(folder))
    found = build_cache(**{**asked, "teacher": str(folder), "cache_dtype": "float32"})
    assert set(found["stored"]) == {"vector"}
    model = load_embedder(str(folder))
    texts = sorted(set(Path(asked["texts"][0]).read_text().split("\n")) - {""})[:9]
    teacher = CachedTeacher(
        FrozenEmbedder(model), Wanted(pooled=True), cache_root(asked["cache"]), stored="float32", name="again"
    )
    store = next(iter(teacher.stores.values()))
    rows = store.find(keys_of(teacher_rows(texts, model.tokenizer, 16)))
    assert (rows >= 0).all()
    stored = np.stack([store.read(int(row))[0] for row in rows])
    expected = model.encode(texts, convert_to_tensor=True)
    assert torch.nn.functional.cosine_similarity(torch.from_numpy(stored), expected).min() > 0.999


def test_the_commands_build_list_verify_and_prune(asked: dict[str, Any]) -> None:
    root = ["--cache", asked["cache"]]
    done = command(
        "build", "--teacher", asked["teacher"], "--texts", asked["texts"][0], "--max-length", 16, *root, "--json"
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["texts"] == 60
    listed = json.loads(command("list", *root, "--json").stdout)["entries"]
    assert [(one["field"], one["name"]) for one in listed] == [("logits", asked["teacher"])]
    assert "logits" in command("list", *root).stdout
    assert command("verify", *root).exit_code == 0
    (shard,) = next(entries(Path(asked["cache"]))).folder.glob("*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    damaged = command("verify", *root, "--json")
    assert damaged.exit_code == 1
    assert json.loads(damaged.stdout)["damaged"] == [str(shard)]
    assert command("prune", *root).exit_code == 2
    assert json.loads(command("prune", *root, "--unused-days", 0, "--dry-run", "--json").stdout)["dry_run"]
    assert shard.exists()
    assert command("prune", *root, "--unused-days", 0).exit_code == 0
    assert not shard.exists()


def test_a_users_mistake_is_a_message_and_exit_code_2(asked: dict[str, Any]) -> None:
    done = command("build", "--teacher", asked["teacher"])
    assert (done.exit_code, "Traceback" in done.output) == (2, False)
    assert "--texts" in done.output
