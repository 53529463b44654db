"""Runs that distil sentence embeddings: of a tiny BERT or T5, on texts without labels."""

import json
import math
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, T5Config, T5EncoderModel
from workshop import CLASSES, WORDS, Workshop, sentence, sha256, write_csv, write_encoder, write_tokenizer

from contrastill import EmbeddingDistillation, Interrupted, UserError, contrast, distill
from contrastill.data.corpus import read_corpus, several_texts
from contrastill.evaluation import sts
from contrastill.loading import load_tokenizer
from contrastill.training.callbacks import StopRequest
from contrastill.training.embeddings import EmbeddingPlan, plan_embedding

st = pytest.importorskip("sentence_transformers")
modules = st.sentence_transformer.modules

METHODS: dict[str, dict[str, Any]] = {
    "disco": {"queue": 32},
    "mse_kd": {},
    "congen": {"queue": 32},
    "rrd": {"queue": 32},
    "leaf": {},
}
LINES, HELD, STEPS = 110, 11, 12  # batches of 8 of 99
NEAREST = 3  # neighbours among the texts held out
QUICK: dict[str, Any] = {
    "student": "2/16/4/32",
    "batch_size": 8,
    "checks": 4,
    "learning_rate": 3e-3,
    "precision": "fp32",
    "keep_checkpoints": True,
    "max_length": 24,
    "cache_dtype": "float32",
}
Settings = Callable[..., dict[str, Any]]


def topic(rng: random.Random) -> str:
    return sentence(rng, rng.choices(CLASSES[rng.choice(list(CLASSES))], k=3))


def lines(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [topic(rng) for _ in range(count)]


def scored(count: int, seed: int) -> sts.Pairs:
    """The score is how many words two texts share."""
    first, second = lines(count, seed), lines(count, seed + 1)
    shared = [
        len(set(a.split()) & set(b.split())) + n / 1000 for n, (a, b) in enumerate(zip(first, second, strict=True))
    ]
    return sts.Pairs(first, second, np.array(shared))


def save_embedder(encoder: Path, folder: Path, *more: Any, width: int = 32) -> Path:
    parts = [modules.Transformer(str(encoder)), modules.Pooling(width, pooling_mode="mean"), *more]
    st.SentenceTransformer(modules=parts, device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="module")
def files(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Texts, scored pairs, teachers of two families and tokenizers, and encoders to make students of."""
    root = tmp_path_factory.mktemp("embedding")
    (root / "texts.txt").write_text("\n".join(lines(LINES)) + "\n")
    pairs = scored(30, 7)
    rows = [
        {"sentence1": a, "sentence2": b, "score": s}
        for a, b, s in zip(pairs.first, pairs.second, pairs.scores, strict=True)
    ]
    other_words = WORDS[:5] + WORDS[:4:-1]
    second = write_encoder(root / "second-encoder", seed=1, hidden_size=16, intermediate_size=32)
    write_tokenizer(second, other_words)
    small = write_encoder(root / "small", seed=2, hidden_size=16, intermediate_size=32, num_hidden_layers=1)
    write_tokenizer(small, other_words)
    torch.manual_seed(0)
    t5 = T5Config(vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4, pad_token_id=0)
    T5EncoderModel(t5).save_pretrained(root / "t5-encoder")
    write_tokenizer(root / "t5-encoder", WORDS)
    dense = modules.Dense(16, 12, bias=False, activation_function=nn.Identity())
    return {
        "texts": root / "texts.txt",
        "dev": write_csv(root / "dev.csv", rows),
        "teacher": save_embedder(workshop.encoder(), root / "teacher", modules.Normalize()),
        "second": save_embedder(second, root / "second", width=16),
        "t5": save_embedder(root / "t5-encoder", root / "t5", dense, modules.Normalize(), width=16),
        "small": small,
        "cache": root / "cache",
    }


def settings_of(files: dict[str, Path], out: Path, **changes: Any) -> dict[str, Any]:
    given = {**QUICK, "method": "leaf", "teacher": ["teacher"], "texts": ["texts"], "cache": "cache", **changes}
    for name in ("teacher", "texts", "cache", "dev", "start"):
        value = given.get(name)
        if isinstance(value, list):
            given[name] = [str(files.get(each, each)) for each in value]
        elif value is not None:
            given[name] = str(files.get(value, value))
    return {"out": str(out), **given}


@pytest.fixture
def settings(files: dict[str, Path], tmp_path: Path) -> Settings:
    return lambda **changes: settings_of(files, tmp_path / "run", **changes)


@contextmanager
def keeping_what_was_prepared() -> Iterator[list[EmbeddingPlan]]:
    """What the runs in it have trained, in their order."""
    kept: list[EmbeddingPlan] = []
    save = EmbeddingPlan.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EmbeddingPlan, "save", lambda self, *args: kept.append(self) or save(self, *args))
        yield kept


@pytest.fixture(scope="module")
def trained(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    """A run of each method, and what it has trained."""
    root, found = tmp_path_factory.mktemp("trained"), {}
    with keeping_what_was_prepared() as kept, pytest.MonkeyPatch.context() as patch:
        patch.setattr("contrastill.training.embeddings.NEAREST", NEAREST)
        for name, given in METHODS.items():
            run = distill(**settings_of(files, root / name, method=name, set=given))
            found[name] = run, kept[-1]
    return found


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def encode(model: Any, texts: list[str], **options: Any) -> torch.Tensor:
    loaded = model if hasattr(model, "encode") else st.SentenceTransformer(str(model), device="cpu", **options)
    return torch.as_tensor(loaded.encode(texts, show_progress_bar=False))


def by_the_method(prepared: EmbeddingPlan, texts: list[str], project: bool = True) -> torch.Tensor:
    """The unit vectors of the trained method in eval mode, before anything is saved."""
    method: Any = prepared.method.eval()
    batch = prepared.tokenizer(texts, truncation=True, max_length=24, padding=True, return_tensors="pt")
    with torch.no_grad():
        pooled = method.student(batch, {"pooled"}).pooled
        return F.normalize(method.project(pooled) if project else pooled, dim=-1)


def cosines(vectors: torch.Tensor) -> torch.Tensor:
    unit = F.normalize(vectors, dim=-1)
    return unit @ unit.T


NEW = lines(20, seed=5)  # texts that no run has seen


def rows_of_terms(folder: Path) -> set[str]:
    """The terms of a log."""
    row = next(row for row in log(folder) if "loss" in row)
    return row.keys() - {"loss", "grad_norm", "learning_rate", "epoch", "step", "stage"}


# ---- a run and what it leaves --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_run_leaves_a_student_metrics_a_record_and_a_log(trained: Any, name: str) -> None:
    run, _ = trained[name]
    left = {"run.json", "metrics.json", "student", "checkpoints", "log.jsonl", "evidence.json", "report.html"}
    assert {p.name for p in run.folder.iterdir()} == left
    evidence = json.loads((run.folder / "evidence.json").read_text())
    assert (evidence["split"], evidence["rows"]) == ("texts held out", HELD)
    assert evidence["histogram"]["mean"] == pytest.approx(run.metrics["student"]["cosine"], abs=1e-4)
    assert evidence["examples"][0]["cosine"] <= evidence["histogram"]["median"]
    yardsticks = run.metrics["yardsticks"]
    assert yardsticks["chance"] == pytest.approx(min(NEAREST, HELD // 4) / (HELD - 1))
    assert 0 <= yardsticks["untrained"] <= 1
    assert json.loads((run.folder / "metrics.json").read_text()) == run.metrics
    assert (run.metrics["steps"], run.metrics["train_rows"], run.metrics["metric"]) == (
        STEPS,
        LINES - HELD,
        "agreement",
    )
    assert run.metrics["student"]["width"] == 16
    assert run.metrics["teacher"]["width"] == 32
    assert run.metrics["student"]["parameters"] < run.metrics["teacher"]["parameters"]
    record = json.loads((run.folder / "run.json").read_text())
    queue = {"size": 32, "full_at": 4, "terms": list(rows_of_terms(run.folder))} if "queue" in METHODS[name] else None
    assert record["queue"] == queue
    assert record["status"] == "finished"
    assert record["data"]["train"] == LINES - HELD
    assert all(check["ok"] for check in record["preflight"])
    rows = [row for row in log(run.folder) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    (term,) = rows_of_terms(run.folder)
    assert all(row["loss"] == pytest.approx(row[term], rel=1e-3) for row in rows)
    assert sum("eval_agreement" in row for row in log(run.folder)) == 4


def test_examples_are_the_files_own_texts_and_what_the_tokenizer_read_where_a_file_changed(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, WORDS)
    tokenizer, file = load_tokenizer(str(tmp_path)), tmp_path / "texts.txt"
    texts = ["Good  SOUP, good bread", "A sad song", "good  soup , good bread", "Tune and Choir " * 9, "Word1 Word2"]
    file.write_text("\n".join(texts))
    settings = EmbeddingDistillation(teacher=["t"], texts=[str(file)], out="out", method="leaf", max_length=12)
    run = SimpleNamespace(settings=settings, tokenizer=tokenizer)
    corpus = read_corpus(several_texts(settings.texts), tokenizer, settings.max_length).part(np.array([3, 0, 2, 1]))
    assert corpus.duplicates == 1
    shown = [texts[4], texts[0], texts[3].strip(), texts[1]]
    assert EmbeddingPlan.originals(run, corpus, np.arange(4)) == [[text] for text in shown]
    file.write_text("\n".join([*texts[:4], "another one"]))
    assert EmbeddingPlan.originals(run, corpus, np.array([0, 1])) == [["word1 word2"], [texts[0]]]


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_falls(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    """From a random start, and without a queue, whose growth alone makes the task harder."""
    given = {"queue": 0} if METHODS[name] else {}
    run = distill(
        **settings_of(
            files, tmp_path / "run", method=name, set=given, start="random", checks=1, epochs=2, learning_rate=1e-2
        )
    )
    losses = [row["loss"] for row in log(run.folder) if "loss" in row]
    assert np.mean(losses[-3:]) < 0.95 * np.mean(losses[:3])


@pytest.mark.parametrize("name", METHODS)
def test_sentence_transformers_loads_the_student_and_finds_the_methods_vectors(trained: Any, name: str) -> None:
    run, prepared = trained[name]
    model = st.SentenceTransformer(str(run.model), device="cpu")
    assert [type(module).__name__ for module in model] == ["Transformer", "Pooling", "Dense", "Normalize"]
    assert model.max_seq_length == 24
    vectors = encode(model, NEW)
    assert vectors.shape == (20, 16)
    torch.testing.assert_close(cosines(vectors), cosines(by_the_method(prepared, NEW)), rtol=0, atol=1e-5)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(20))
    assert not [p.name for p in run.model.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".part")]
    card = " ".join((run.model / "README.md").read_text().split())
    for said in (f"`{name}`", "2/16/4/32", "99 texts", "seed 0"):
        assert said in card


def test_a_second_run_needs_no_teacher(files: dict[str, Path], tmp_path: Path) -> None:
    first, second = (
        distill(**settings_of(files, tmp_path / str(n), cache=str(tmp_path / "cache"), checks=1, epochs=0.2))
        for n in (0, 1)
    )
    assert first.metrics["teacher_forwards"] == len(set(lines(LINES)))
    assert second.metrics["teacher_forwards"] == 0
    assert sha256(first.model / "model.safetensors") == sha256(second.model / "model.safetensors")
    more = tmp_path / "more.txt"
    more.write_text("\n".join([*lines(LINES), "a new song", "a new soup"]))
    third = distill(**settings_of(files, tmp_path / "2", cache=str(tmp_path / "cache"), texts=[str(more)], epochs=0.2))
    assert third.metrics["teacher_forwards"] == 2


def test_texts_that_come_again_are_learnt_once(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "twice.txt").write_text("\n".join(lines(20) + lines(20)))
    prepared = plan_embedding(EmbeddingDistillation(**settings(texts=[str(tmp_path / "twice.txt")])))
    assert (len(prepared.corpus), prepared.corpus.duplicates) == (20, 20)
    assert len(prepared.held) + len(prepared.examples) == 20
    ours, theirs = ({key.tobytes() for key in part.keys(0)} for part in (prepared.held, prepared.examples))
    assert not ours & theirs


def test_the_same_seed_gives_the_same_student_and_another_another(
    files: dict[str, Path], tmp_path: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contrastill.training.embeddings.NEAREST", NEAREST)
    first = trained["disco"][0].model
    for name, seed in (("same", 0), ("other", 1)):
        run = distill(**settings_of(files, tmp_path / name, method="disco", set=METHODS["disco"], seed=seed))
        same = sha256(run.model / "model.safetensors") == sha256(first / "model.safetensors")
        assert same == (seed == 0)


# ---- the projection, after the run ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def projections(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any]]:
    root, found = tmp_path_factory.mktemp("projections"), {}
    with keeping_what_was_prepared() as kept:
        for name in ("compact", "keep", "drop"):
            run = distill(**settings_of(files, root / name, projection=name, pooling="cls"))
            found[name] = run, kept[-1]
    return found


def test_what_becomes_of_the_projection_changes_nothing_about_the_training(projections: Any) -> None:
    weights = [
        load_file(run.folder / f"checkpoints/checkpoint-{STEPS}/model.safetensors") for run, _ in projections.values()
    ]
    assert weights[0].keys() == weights[1].keys() == weights[2].keys()
    assert all(weights[0][name].equal(other[name]) for other in weights[1:] for name in other)


@pytest.mark.parametrize(
    ("name", "width", "dense"), [("compact", 16, (16, 16)), ("keep", 32, (32, 16)), ("drop", 16, None)]
)
def test_the_students_width_is_as_said(projections: Any, name: str, width: int, dense: Any) -> None:
    run, _ = projections[name]
    model = st.SentenceTransformer(str(run.model), device="cpu")
    assert encode(model, NEW).shape == (20, width)
    assert run.metrics["student"]["width"] == width
    found = [module.linear.weight.shape for module in model if isinstance(module, modules.Dense)]
    assert found == ([dense] if dense else [])
    assert model[1].pooling_mode in ("cls", ("cls",))


def test_keep_is_the_teachers_space_and_compact_has_its_angles(projections: Any) -> None:
    (compact, _), (keep, prepared) = projections["compact"], projections["keep"]
    kept = encode(keep.model, NEW)
    torch.testing.assert_close(kept, by_the_method(prepared, NEW), rtol=0, atol=1e-5)
    torch.testing.assert_close(cosines(encode(compact.model, NEW)), cosines(kept), rtol=0, atol=1e-4)


def test_drop_is_the_students_own_space(projections: Any) -> None:
    run, prepared = projections["drop"]
    torch.testing.assert_close(encode(run.model, NEW), by_the_method(prepared, NEW, project=False), rtol=0, atol=1e-5)


@pytest.mark.parametrize("most", [4, 8])
def test_the_first_numbers_of_a_compact_vector_keep_angles_better_than_others_do(projections: Any, most: int) -> None:
    run, _ = projections["compact"]
    whole = encode(run.model, NEW)
    exact, others = cosines(whole), []
    first = (cosines(encode(run.model, NEW, truncate_dim=most)) - exact).abs().mean()
    for seed in range(8):
        turn = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(seed)))[0]
        others.append((cosines((whole @ turn)[:, :most]) - exact).abs().mean())
    assert first < torch.stack(others).mean()


def test_the_numbers_of_a_compact_vector_stand_in_the_order_of_the_energy_they_carry(projections: Any) -> None:
    run, prepared = projections["compact"]
    seen = encode(run.model, prepared.examples.texts(range(len(prepared.examples)))).double()
    moment = seen.T @ seen / len(seen)
    energy = moment.diagonal().clone()
    assert (energy.diff() <= 1e-6).all()
    assert energy[0] > 2 * energy[-1]
    assert (moment - energy.diag()).abs().max() < 1e-4, "each tells what the others do not"


# ---- teachers ------------------------------------------------------------------------------------------------------


def test_two_teachers_are_laid_side_by_side_each_counting_alike(files: dict[str, Path], tmp_path: Path) -> None:
    asked = settings_of(
        files, tmp_path / "run", teacher=["teacher", "second"], projection="keep", cache=str(tmp_path / "c")
    )
    with keeping_what_was_prepared() as kept:
        run = distill(**asked)
    assert run.metrics["teacher"]["width"] == run.metrics["student"]["width"] == 48
    assert encode(run.model, NEW).shape == (20, 48)
    assert run.metrics["teacher_forwards"] == 2 * LINES
    sizes = [sum(p.numel() for p in teacher.model.parameters()) for teacher in kept[0].teachers.each]
    assert run.metrics["teacher"]["parameters"] == sum(sizes)
    rows, corpus = [3, 50, 7], kept[0].corpus
    vectors = kept[0].teachers(corpus.batch(rows), {"pooled"}).pooled
    texts = [lines(LINES)[n] for n in rows]
    each = [F.normalize(encode(files[name], texts), dim=-1) for name in ("teacher", "second")]
    torch.testing.assert_close(vectors, torch.cat(each, 1) / 2**0.5, rtol=0, atol=1e-4)
    mean = (cosines(each[0]) + cosines(each[1])) / 2
    torch.testing.assert_close(vectors @ vectors.T, mean, rtol=0, atol=1e-4)
    assert distill(**{**asked, "out": str(tmp_path / "again")}).metrics["teacher_forwards"] == 0


@pytest.mark.parametrize("name", ["disco", "mse_kd"])
def test_a_t5_teacher_and_a_bert_student_with_another_tokenizer(
    files: dict[str, Path], tmp_path: Path, name: str
) -> None:
    asked = settings_of(files, tmp_path / "run", method=name, teacher=["t5"], student="as-is", start="small", epochs=2)
    with keeping_what_was_prepared() as kept:
        run = distill(**asked, projection="keep")
    student = st.SentenceTransformer(str(run.model), device="cpu")
    assert type(student[0].auto_model).__name__ == "BertModel"
    assert student.tokenizer.get_vocab()["violin"] != WORDS.index("violin")
    assert run.metrics["teacher"]["width"] == run.metrics["student"]["width"] == 12
    torch.testing.assert_close(encode(student, NEW), by_the_method(kept[0], NEW), rtol=0, atol=1e-5)
    scores = [row["eval_agreement"] for row in log(run.folder) if "eval_agreement" in row]
    assert run.metrics["student"]["agreement"] == pytest.approx(max(scores))
    stored = kept[0].teachers(kept[0].corpus.batch(range(4)), {"pooled"}).pooled
    torch.testing.assert_close(stored, encode(files["t5"], lines(4)), rtol=0, atol=1e-4)


def test_a_t5_student_of_a_t5_teacher(files: dict[str, Path], tmp_path: Path) -> None:
    with keeping_what_was_prepared() as kept:
        run = distill(
            **settings_of(files, tmp_path / "run", teacher=["t5"], student="1/16/4/32", start="random", epochs=0.5)
        )
    model = st.SentenceTransformer(str(run.model), device="cpu")
    assert type(model[0].auto_model).__name__ == "T5EncoderModel"
    assert model[0].auto_model.config.num_layers == 1
    torch.testing.assert_close(cosines(encode(model, NEW)), cosines(by_the_method(kept[0], NEW)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_student_saved_in_half_precision_is_trained_in_float32(
    settings: Settings, files: dict[str, Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    AutoModel.from_pretrained(files["small"]).to(dtype).save_pretrained(tmp_path / "half")
    write_tokenizer(tmp_path / "half", WORDS)
    asked = settings(student="as-is", start=str(tmp_path / "half"))
    student = plan_embedding(EmbeddingDistillation(**asked)).method.student.model
    assert {p.dtype for p in student.parameters()} == {torch.float32}


def test_a_prompt_that_the_teacher_puts_before_a_text_is_put_there(files: dict[str, Path], tmp_path: Path) -> None:
    model = st.SentenceTransformer(str(files["teacher"]), device="cpu")
    model.prompts, model.default_prompt_name = {"query": "word1 word2 "}, "query"
    model.save(str(tmp_path / "prompted"))
    prepared = plan_embedding(
        EmbeddingDistillation(**settings_of(files, tmp_path / "run", teacher=[str(tmp_path / "prompted")]))
    )
    prepared.use_cache()
    stored = prepared.teachers(prepared.corpus.batch([0, 1]), {"pooled"}).pooled
    texts = lines(LINES)[:2]
    torch.testing.assert_close(stored, encode(files["teacher"], [f"word1 word2 {t}" for t in texts]), rtol=0, atol=1e-4)
    assert prepared.corpus.texts([0, 1]) == texts


@pytest.mark.parametrize("start", ["random", "inherit"])
def test_a_teachers_vector_that_is_not_finite_is_refused_naming_its_text(
    files: dict[str, Path], tmp_path: Path, start: str
) -> None:
    model = st.SentenceTransformer(str(files["teacher"]), device="cpu")
    with torch.no_grad():
        model[0].auto_model.embeddings.word_embeddings.weight[WORDS.index("violin")] = (
            3e38  # finite, its variance is not
        )
    model.save(str(tmp_path / "broken"))
    bad = [text for text in lines(LINES) if "violin" in text.split()]
    assert 0 < len(bad) < LINES
    with pytest.raises(UserError, match="are not finite") as error:
        distill(**settings_of(files, tmp_path / "run", teacher=[str(tmp_path / "broken")], start=start))
    assert any(repr(text[:80]) in str(error.value) for text in bad)
    assert not (tmp_path / "run").exists()


# ---- selection, and tables -----------------------------------------------------------------------------------------


def test_without_pairs_the_agreement_with_the_teacher_on_texts_held_out_selects(
    files: dict[str, Path], trained: Any
) -> None:
    run, prepared = trained["congen"]
    assert len(prepared.held) == HELD
    texts = prepared.held.texts(range(HELD))
    student, teacher = (cosines(encode(path, texts)).tolist() for path in (run.model, files["teacher"]))
    shared, nearest = 0, max(1, min(NEAREST, HELD // 4))
    for n in range(HELD):
        others = [m for m in range(HELD) if m != n]
        ours, theirs = (set(sorted(others, key=lambda m: -row[m])[:nearest]) for row in (student[n], teacher[n]))
        shared += len(ours & theirs)
    assert 0 < shared < nearest * HELD
    assert run.metrics["student"]["agreement"] == pytest.approx(shared / (nearest * HELD), abs=1e-3)
    ours, theirs = by_the_method(prepared, texts), encode(files["teacher"], texts)
    assert run.metrics["student"]["cosine"] == pytest.approx(float((ours * theirs).sum(1).mean()), abs=1e-4)
    assert prepared.held.texts([0])[0] not in prepared.examples.texts(range(len(prepared.examples)))


@pytest.mark.parametrize("count", [45, LINES])
def test_the_agreement_on_few_texts_tells_students_apart(settings: Settings, tmp_path: Path, count: int) -> None:
    """Of 4 and of 11 texts held out: all others must not count as the nearest."""
    (tmp_path / "few.txt").write_text("\n".join(lines(count)))
    asked = settings(texts=[str(tmp_path / "few.txt")], start="random")
    prepared = plan_embedding(EmbeddingDistillation(**asked))
    prepared.use_cache()
    assert prepared.metric == "agreement"
    assert prepared.agreement()["agreement"] < 1


def test_the_checkpoint_that_is_best_is_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    given = iter([0.1, 0.3, 0.9, 0.5, 0.4, 0.9])  # before training, four checks, and of the one that is kept
    monkeypatch.setattr(EmbeddingPlan, "agreement", lambda self: {"agreement": next(given), "cosine": 0.0})
    run = distill(**settings())
    best, last = (load_file(run.folder / f"checkpoints/checkpoint-{n}/model.safetensors") for n in (6, STEPS))
    kept = load_file(run.model / "model.safetensors")
    assert all(best[f"student.model.{name}"].equal(value) for name, value in kept.items())
    assert not all(last[f"student.model.{name}"].equal(value) for name, value in kept.items())


def test_scored_pairs_select_where_there_are_some(settings: Settings) -> None:
    run = distill(**settings(dev="dev"))
    assert run.metrics["metric"] == "spearman"
    assert run.metrics["train_rows"] == LINES, "no text is held out"
    expected = sts.sts_scores(st.SentenceTransformer(str(run.model), device="cpu"), {"dev": scored(30, 7)})["dev"] / 100
    assert run.metrics["student"]["spearman"] == pytest.approx(expected, abs=2e-3)
    found = [row["eval_spearman"] for row in log(run.folder) if "eval_spearman" in row]
    assert len(found) == 4
    assert run.metrics["student"]["spearman"] == pytest.approx(max(found))


@pytest.mark.parametrize("command", [distill, contrast])
def test_pairs_too_few_for_a_correlation_are_refused(
    settings: Settings, files: dict[str, Path], tmp_path: Path, command: Callable[..., Any]
) -> None:
    head, *rows = files["dev"].read_text().splitlines()
    (tmp_path / "two.csv").write_text("\n".join([head, *rows[:2]]))
    own = {
        "model": str(files["teacher"]),
        "pairs": str(files["dev"]),
        "columns": ["sentence1", "sentence2"],
        "out": str(tmp_path / "out"),
    }
    given = {**(settings() if command is distill else own), "dev": str(tmp_path / "two.csv")}
    with pytest.raises(UserError, match="--dev: expected at least 3 scored pairs, got 2"):
        command(**given)


def test_the_teachers_score_on_dev_stands_beside_the_students(settings: Settings) -> None:
    given = settings(dev="dev")
    run = distill(**given)
    ours, theirs = (run.metrics[name]["spearman"] for name in ("student", "teacher"))
    teacher = st.SentenceTransformer(given["teacher"][0], device="cpu")
    assert theirs == pytest.approx(sts.sts_scores(teacher, {"dev": scored(30, 7)})["dev"] / 100, abs=2e-3)
    assert f"| dev | {100 * ours:.2f} | {100 * theirs:.2f} |" in (run.model / "README.md").read_text()
    said = " ".join((run.folder / "report.html").read_text().split())
    assert re.search(r"Student minus teacher, Spearman correlation on 30 rows of dev: .\d\.\d{4}, 95", said)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
def test_the_sts_table_of_student_and_teacher_stands_beside_the_student(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    sets, asked = {"STS-B": scored(30, 1), "SICK-R": scored(20, 3)}, []
    monkeypatch.setattr(sts, "load_sts", lambda source: asked.append(source) or sets)
    run = distill(**settings_of(files, tmp_path / "run", sts="some/folder", cache_dtype=dtype, checks=1, epochs=0.3))
    assert asked == ["some/folder"]
    table = run.metrics["sts"]
    assert list(table["student"]) == list(table["teacher"]) == ["STS-B", "SICK-R", "mean"]
    assert table["student"] == sts.sts_scores(st.SentenceTransformer(str(run.model), device="cpu"), sets)
    exact = sts.sts_scores(st.SentenceTransformer(str(files["teacher"]), device="cpu"), sets)
    near = 0.02 if dtype == "float32" else 3
    assert table["teacher"] == {name: pytest.approx(value, abs=near) for name, value in exact.items()}
    assert "| STS-B |" in (run.model / "README.md").read_text()


@pytest.mark.parametrize("name", METHODS)
def test_stored_vectors_are_learnt_in_bfloat16(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    """On a CPU autocast puts no float16 together (torch.cat)."""
    asked = {"method": name, "set": METHODS[name], "precision": "bf16", "cache_dtype": "float16"}
    run = distill(**settings_of(files, tmp_path / "run", **asked, checks=1, epochs=0.3))
    losses = [row["loss"] for row in log(run.folder) if "loss" in row]
    assert losses
    assert all(map(math.isfinite, losses))


# ---- stopped and taken up again ------------------------------------------------------------------------------------


class PowerCut(Exception):
    pass


@contextmanager
def ending_at(step: int, cut: bool) -> Iterator[None]:
    """As if Ctrl-C were pressed during that step; or, cut, as if the process died after it."""
    before = StopRequest.on_step_end

    def on_step_end(self: StopRequest, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == step and cut:
            raise PowerCut
        self.asked = self.asked or state.global_step == step
        before(self, args, state, control, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StopRequest, "on_step_end", on_step_end)
        try:
            yield
        except (PowerCut, Interrupted) as end:
            ended: Any = type(end)
        else:
            ended = None
    assert ended is (PowerCut if cut else Interrupted)


RESUMED = {  # two epochs, dropout on: queue, scale, order and random state must all be restored
    "disco": {"method": "disco", "set": {"queue": 40}, "dropout": 0.1, "epochs": 2},
    "rrd": {"method": "rrd", "set": {"queue": 21}, "dropout": 0.1, "epochs": 2},
}


@pytest.fixture(scope="module")
def uninterrupted(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("uninterrupted")
    return {name: distill(**settings_of(files, root / name, **given)) for name, given in RESUMED.items()}


@pytest.mark.parametrize(
    ("name", "step", "cut"),
    [("disco", 5, False), ("disco", 17, False), ("disco", 14, True), ("rrd", STEPS, False), ("rrd", 2, True)],
)
def test_a_run_stopped_or_cut_and_resumed_ends_as_the_uninterrupted_one(
    files: dict[str, Path], tmp_path: Path, uninterrupted: dict[str, Any], name: str, step: int, cut: bool
) -> None:
    asked = settings_of(files, tmp_path / "run", **RESUMED[name])
    with ending_at(step, cut):
        distill(**asked)
    assert not (tmp_path / "run/student").exists()
    run, whole = distill(**asked, resume=True), uninterrupted[name]
    assert sha256(run.model / "model.safetensors") == sha256(whole.model / "model.safetensors")
    ours, theirs = (
        load_file(each.folder / f"checkpoints/checkpoint-{2 * STEPS}/model.safetensors") for each in (run, whole)
    )
    assert ours.keys() == theirs.keys() >= {"queue.vectors", "queue.keys", "queue.pushed", "project.weight"}
    assert ("log_scale" in ours) == (name == "disco")
    assert [key for key in ours if not ours[key].equal(theirs[key])] == []
    assert int(ours["queue.pushed"]) == 2 * STEPS * 8, "the checks before training push nothing"
    assert run.metrics["student"] == whole.metrics["student"]


def test_another_corpus_or_teacher_is_refused_on_resume(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(lines(40)))
    asked = settings_of(files, tmp_path / "run", texts=[str(tmp_path / "texts.txt")], epochs=3)
    with ending_at(2, cut=False):
        distill(**asked)
    (tmp_path / "texts.txt").write_text("\n".join(lines(40)[::-1]))
    with pytest.raises(UserError, match="data fingerprint has changed"):
        distill(**asked, resume=True)
    with pytest.raises(UserError, match="other settings"):
        distill(**{**asked, "pooling": "cls"}, resume=True)
    (tmp_path / "texts.txt").write_text("\n".join(lines(40)))
    assert distill(**asked, resume=True).metrics["steps"] == 12


# ---- small corpora -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"queue": 5000}, {}], ids=["set", "default"])
def test_a_queue_larger_than_the_corpus_holds_each_text_once(settings: Settings, given: dict[str, int]) -> None:
    prepared = plan_embedding(EmbeddingDistillation(**settings(method="disco", set=given)))
    assert prepared.method.queue.size <= LINES
    small = plan_embedding(EmbeddingDistillation(**settings(method="disco", set={"queue": 7})))
    assert small.method.queue.size == 7


@pytest.mark.parametrize("count", [2, 6, 45])
@pytest.mark.parametrize("name", ["disco", "leaf"])
def test_a_corpus_smaller_than_the_batch_is_a_batch(settings: Settings, tmp_path: Path, name: str, count: int) -> None:
    (tmp_path / "few.txt").write_text("\n".join(lines(count)))
    run = distill(**settings(texts=[str(tmp_path / "few.txt")], method=name, batch_size=128, epochs=3, checks=1))
    assert run.metrics["steps"] == 3
    assert run.metrics["metric"] == ("agreement" if count == 45 else None)
    assert encode(run.model, NEW).isfinite().all()


@pytest.mark.parametrize("content", ["a song\n", "a song\n\na song\nA  song\n"])
def test_a_corpus_of_one_text_is_refused(settings: Settings, tmp_path: Path, content: str) -> None:
    (tmp_path / "one.txt").write_text(content)
    with pytest.raises(UserError, match="at least two different texts"):
        distill(**settings(texts=[str(tmp_path / "one.txt")]))
    (tmp_path / "one.txt").write_text("\n \n")
    with pytest.raises(UserError, match=r"one\.txt: expected rows, got an empty file"):
        distill(**settings(texts=[str(tmp_path / "one.txt")]))
    assert not (tmp_path / "run").exists()


# ---- dropout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "share"), [({}, 0.0), ({"dropout": 0.2}, 0.2)])
@pytest.mark.parametrize("family", ["teacher", "t5"])
def test_dropout_is_as_set_in_training_and_as_it_was_in_the_config(
    settings: Settings, tmp_path: Path, given: dict[str, float], share: float, family: str
) -> None:
    shape = {"student": "1/16/4/32", "start": "random", "teacher": [family]}
    prepared = plan_embedding(EmbeddingDistillation(**settings(**shape, **given)))
    student = prepared.method.student
    rates = {module.p for module in student.modules() if isinstance(module, nn.Dropout)}
    assert rates == {share}
    prepared.use_cache()
    student.train()
    batch = prepared.batch([0, 1, 2])
    with torch.no_grad():
        first, second = (student(batch, {"pooled"}).pooled for _ in range(2))
    assert first.equal(second) == (share == 0)
    (tmp_path / "written").mkdir()
    prepared.write(tmp_path / "written")
    config = json.loads((tmp_path / "written/config.json").read_text())
    assert config["dropout_rate" if family == "t5" else "hidden_dropout_prob"] == 0.1


# ---- settings that cannot be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pooling": "max"}, "--pooling: expected one of mean, cls, got 'max'"),
        ({"projection": "turn"}, "--projection: expected one of compact, keep, drop, got 'turn'"),
        ({"cache_dtype": "float8"}, "--cache-dtype: expected one of .*got 'float8'"),
        ({"dropout": 1.0}, "--dropout: expected a number from 0 to below 1, got 1.0"),
        ({"dropout": -0.1}, "--dropout: expected a number from 0 to below 1, got -0.1"),
        ({"teacher": []}, "expected one of --teacher .* and --teacher-outputs .*, got neither"),
        ({"texts": []}, "missing --texts"),
        ({"teacher_outputs": "v.jsonl"}, "expected one of --teacher .*got both"),
        ({"teacher": [], "teacher_outputs": "v.jsonl"}, "no model that a student of the shape 2/16/4/32"),
        ({"set": {"queue": 4}}, "'leaf' has no setting 'queue'"),
        ({"method": "disco", "set": {"tempratur": 4}}, "'disco' has no setting 'tempratur'"),
        ({"method": "disco", "set": {"queue": -4}}, "'queue' of 'disco': expected a whole number from 0 to .*, got -4"),
        ({"student": "as-is"}, "--student as-is takes an encoder as it is.*--start"),
        ({"student": "as-is", "start": "random"}, "--student as-is takes an encoder as it is.*--start"),
        ({"student": "as-is", "start": "./none"}, r"\./none"),
        ({"student": "9/16/4/32"}, "at most the teacher's 2 layers"),
        ({"start": "small", "student": "1/16/4/32"}, "a vocabulary of the same entries"),
        ({"texts": ["none.txt"]}, r"none\.txt.*check the path"),
        ({"teacher": ["./none"]}, r"\./none"),
        ({"max_length": 2}, "expected a max_length from 3"),
        ({"max_length": 2000}, "expected a max_length from 3 to"),
        ({"dev": "none.csv"}, r"none\.csv"),
        ({"method": "disco", "accumulate": 2}, "--accumulate at 1"),
        ({"method": "disco", "batch_size": 1}, "compares the texts of a batch"),
        ({"schedule": "cosine"}, "--schedule: expected one of stages, linear, constant, got 'cosine'"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_made(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        distill(**settings(**changes))
    assert not (tmp_path / "run").exists()


def test_a_method_for_tasks_is_refused_in_the_settings_of_a_sentence_embedding_run(settings: Settings) -> None:
    with pytest.raises(UserError, match=r"for sentence embeddings \(disco, .*leaf\), got 'kd'"):
        plan_embedding(EmbeddingDistillation(**settings(method="kd")))


def test_one_text_a_step_is_enough_where_none_are_compared(settings: Settings) -> None:
    assert distill(**settings(batch_size=4, accumulate=4, epochs=0.1, checks=1)).metrics["steps"] == 3


@pytest.mark.parametrize("student", ["static-16", "2/16/4/32+e8+shared"])
def test_a_student_of_another_structure_gives_vectors(files: dict[str, Path], tmp_path: Path, student: str) -> None:
    with keeping_what_was_prepared() as kept:
        run = distill(**settings_of(files, tmp_path / "run", student=student))
    found = encode(run.model, NEW)
    torch.testing.assert_close(cosines(found), cosines(by_the_method(kept[-1], NEW)), rtol=0, atol=1e-4)
    layers = AutoModel.from_pretrained(run.model).config.num_hidden_layers
    assert layers == (0 if student.startswith("static") else 2)


def test_the_first_token_of_a_static_student_is_no_vector(settings: Settings) -> None:
    with pytest.raises(UserError, match="expected --pooling mean for static-16, got cls"):
        distill(**settings(student="static-16", pooling="cls"))
