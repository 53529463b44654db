"""Contrastive runs on texts that belong together, of a BERT of 2 layers and width 32."""

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertModel
from workshop import CLASSES, Workshop, sentence, sha256, snapshot, write_csv, write_encoder

from contrastill import Interrupted, UserError, distill
from contrastill.data.pairs import hold_out_pairs
from contrastill.evaluation import spearman, sts
from contrastill.methods import SimCSE
from contrastill.training import contrast
from contrastill.training.callbacks import StopRequest
from contrastill.training.checkpoints import SEAL, contents, last_good_checkpoint

st = pytest.importorskip("sentence_transformers")
module = import_module("contrastill.training.pairs")

ROWS, BATCH, STEPS = 36, 6, 12  # 2 epochs of 6 steps
DRY = 2  # batches that are tried before training
PATHS = {"model", "pairs", "dev", "anchor"}  # settings that may name one of `files`
Settings = Callable[..., dict[str, Any]]


def topic(rng: random.Random, name: str) -> str:
    return sentence(rng, rng.choices(CLASSES[name], k=3))


def triples(count: int, seed: int) -> list[dict[str, str]]:
    """A positive has its anchor's topic, a negative another."""
    rng, names = random.Random(seed), list(CLASSES)
    return [
        {"anchor": topic(rng, names[n % 3]), "positive": topic(rng, names[n % 3]), "negative": topic(rng, names[n % 2])}
        for n in range(count)
    ]


def scored(count: int, seed: int) -> list[dict[str, Any]]:
    rng, names = random.Random(seed), list(CLASSES)
    rows = []
    for n in range(count):
        one, two = names[n % 3], names[(n // 3) % 3]
        rows.append({"sentence1": topic(rng, one), "sentence2": topic(rng, two), "score": (one == two) + n / 1000})
    return rows


@pytest.fixture(scope="module")
def files(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models with and without dropout, triples, pairs, texts and scored pairs."""
    root = tmp_path_factory.mktemp("contrast")
    rows = triples(ROWS, 0)
    (root / "texts.txt").write_text("\n".join(row["anchor"] for row in rows))
    made = {
        "triples": write_csv(root / "triples.csv", rows),
        "pairs": write_csv(root / "pairs.csv", [{k: row[k] for k in ("anchor", "positive")} for row in rows]),
        "texts": root / "texts.txt",
        "dev": write_csv(root / "dev.csv", scored(30, 1)),
        "model": root / "model",
        "plain": root / "plain",
    }
    st.SentenceTransformer(str(workshop.encoder()), device="cpu").save(str(made["model"]))
    st.SentenceTransformer(str(workshop.plain_encoder()), device="cpu").save(str(made["plain"]))
    return made


@pytest.fixture
def settings(files: dict[str, Path], tmp_path: Path) -> Settings:
    def given(**changes: Any) -> dict[str, Any]:
        quick = {"out": str(tmp_path / "run"), "batch_size": BATCH, "epochs": 2, "checks": 4, "learning_rate": 3e-3}
        quick |= {"precision": "fp32", "max_length": 32, "keep_checkpoints": True}
        merged = {**quick, "model": "model", "pairs": "triples", **changes}
        paths = {name: merged[name] for name in PATHS & merged.keys() if isinstance(merged[name], str)}
        return {**merged, **{name: str(files.get(value, value)) for name, value in paths.items()}}

    return given


@pytest.fixture(scope="module")
def whole(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One uninterrupted run with everything on."""
    return contrast(
        out=str(tmp_path_factory.mktemp("whole") / "run"),
        model=str(files["model"]),
        pairs=str(files["triples"]),
        dev=str(files["dev"]),
        batch_size=BATCH,
        epochs=2,
        checks=4,
        learning_rate=3e-3,
        precision="fp32",
        max_length=32,
        keep_checkpoints=True,
    )


def model_of(path: Any) -> Any:
    return st.SentenceTransformer(str(path), device="cpu")


def trained_weights(path: Path) -> dict[str, torch.Tensor]:
    """Of the model, in a checkpoint of the method around it."""
    return {name.removeprefix("student.model."): value for name, value in load_file(path).items()}


def stop_at(patch: pytest.MonkeyPatch, step: int, stop: Callable[[StopRequest], None]) -> None:
    before = StopRequest.on_step_end

    def on_step_end(self: StopRequest, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == step:
            stop(self)
        before(self, args, state, control, **more)

    patch.setattr(StopRequest, "on_step_end", on_step_end)


def interrupted(given: dict[str, Any], step: int, **options: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step, lambda self: setattr(self, "asked", True))
        with pytest.raises(Interrupted, match="contrastill contrast --resume"):
            contrast(**given, **options)


class PowerCut(Exception):
    pass


def cut(given: dict[str, Any], step: int) -> None:
    def power_cut(_: StopRequest) -> None:
        raise PowerCut

    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step, power_cut)
        with pytest.raises(PowerCut):
            contrast(**given)


# ---- batches -------------------------------------------------------------------------------------------------------


def test_a_text_in_too_many_rows_is_refused_with_the_batch_size_that_fits(settings: Settings, tmp_path: Path) -> None:
    rows = [{"question": f"word{n}", "answer": f"song{n % 4}"} for n in range(40)]
    write_csv(tmp_path / "faq.csv", rows)
    with pytest.raises(UserError, match=r"in at most 5 of 40 rows.*got 'song0' in 10; lower --batch-size to 4"):
        contrast(**settings(pairs=str(tmp_path / "faq.csv"), batch_size=8))
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_what_there_is(settings: Settings, files: dict[str, Path]) -> None:
    run = contrast(**settings(batch_size=512, epochs=1))
    assert (run.metrics["steps"], run.metrics["batch_rows"]) == (1, ROWS)


def test_two_rows_are_enough_and_two_that_share_a_text_are_not(settings: Settings, tmp_path: Path) -> None:
    write_csv(tmp_path / "two.csv", [{"query": "soup", "answer": "bread"}, {"query": "song", "answer": "drum"}])
    assert contrast(**settings(pairs=str(tmp_path / "two.csv"))).metrics["batch_rows"] == 2
    write_csv(tmp_path / "one.csv", [{"query": "soup", "answer": "bread"}, {"query": "soup", "answer": "drum"}])
    with pytest.raises(UserError, match="each two with a text in common"):
        contrast(**settings(pairs=str(tmp_path / "one.csv"), out=str(tmp_path / "other")))


# ---- a run and what it leaves --------------------------------------------------------------------------------------


def on_dev(model: Any, dev: Path) -> float:
    """Spearman x 100, not rounded."""
    pairs = sts.load_scored_pairs(dev)
    return 100 * spearman(sts.sts_similarities(model, {"dev": pairs})["dev"], pairs.scores)


def test_a_run_leaves_a_model_metrics_and_a_log(whole: Any, files: dict[str, Path]) -> None:
    metrics = json.loads((whole.folder / "metrics.json").read_text())
    assert metrics == whole.metrics
    assert (metrics["train_rows"], metrics["steps"], metrics["batch_rows"]) == (ROWS, STEPS, BATCH)
    assert metrics["dev"]["after"] > metrics["dev"]["before"]
    assert metrics["dev"]["before"] == pytest.approx(on_dev(model_of(files["model"]), files["dev"]), abs=0.01)
    log = [json.loads(line) for line in (whole.folder / "log.jsonl").read_text().splitlines()]
    assert {row["step"]: row["eval_spearman"] for row in log if "eval_spearman" in row}.keys() == {0, 3, 6, 9, 12}
    assert log[0]["eval_spearman"] == metrics["dev"]["before"]
    losses = [row["loss"] for row in log if "loss" in row]
    assert len(losses) == STEPS
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    record = json.loads((whole.folder / "run.json").read_text())
    assert record["status"] == "finished"
    assert record["data"]["rows"] == ROWS
    assert {check["name"] for check in record["preflight"]} >= {"texts fit", "disk", "weights are finite"}
    evidence = json.loads((whole.folder / "evidence.json").read_text())
    assert (evidence["kind"], evidence["rows"]) == ("pairs", 30)
    assert all(one["theirs"] is not None for one in evidence["examples"])
    assert "Pairs that moved most" in (whole.folder / "report.html").read_text()


def test_the_saved_model_is_the_trained_one_in_safetensors_alone(whole: Any, files: dict[str, Path]) -> None:
    names = {p.relative_to(whole.model).as_posix() for p in whole.model.rglob("*") if p.is_file()}
    assert {"model.safetensors", "modules.json", "README.md", "1_Pooling/config.json", "tokenizer.json"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".part"))]
    best = whole.folder / f"checkpoints/checkpoint-{whole.metrics['checkpoint']}/model.safetensors"
    kept, loaded = trained_weights(best), model_of(whole.model)
    assert max(float((kept[name] - value).abs().max()) for name, value in loaded.state_dict().items()) == 0
    assert not np.allclose(loaded.encode("a song"), model_of(files["model"]).encode("a song"), atol=1e-2)
    assert loaded.max_seq_length == model_of(files["model"]).max_seq_length
    assert on_dev(loaded, files["dev"]) == pytest.approx(whole.metrics["dev"]["after"], abs=1e-3)


def test_the_card_says_what_was_done(whole: Any, files: dict[str, Path]) -> None:
    card = (whole.model / "README.md").read_text()
    for word in (str(files["model"]), "36 rows", "InfoNCE", "scale 20", "seed\n0", "| dev: "):
        assert word in card, word


def dev_scores(monkeypatch: pytest.MonkeyPatch, given: list[float]) -> None:
    """The dev scores of a run will be these, whatever the model."""
    scores = iter(given)
    monkeypatch.setattr(sys.modules["contrastill.tasks.pairs"], "spearman", lambda *_: next(scores) / 100)


def test_the_best_checkpoint_on_dev_is_kept(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    right, models = sts.sts_similarities, []

    def sts_similarities(model: Any, sets: Any) -> Any:
        models.append({name: value.clone() for name, value in model.state_dict().items()})
        return right(model, sets)

    monkeypatch.setattr(sts, "sts_similarities", sts_similarities)
    dev_scores(monkeypatch, [10.0, 40.0, 90.0, 60.0, 50.0, 90.0])
    run = contrast(**settings(dev="dev"))
    assert run.metrics["dev"] == {"before": 10.0, "after": 90.0}
    assert run.metrics["checkpoint"] == 6
    best, last = models[2], models[4]
    kept = model_of(run.model).state_dict()
    assert all(kept[name].equal(best[name]) for name in kept)
    assert not all(kept[name].equal(last[name]) for name in kept)


def test_a_run_that_makes_the_model_worse_says_so(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dev_scores(monkeypatch, [80.0, 40.0, 30.0])
    contrast(**settings(dev="dev", epochs=0.5, checks=1))
    assert "fell from 80.00 to 30.00" in caplog.text


def test_without_dev_the_last_step_is_kept_and_the_sts_table_stands_before_and_after(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for, tables = [], iter([{"STS-B": 50.0}, {"STS-B": 60.0}])
    monkeypatch.setattr(sts, "load_sts", lambda source: asked_for.append(source) or {})
    monkeypatch.setattr(sts, "sts_scores", lambda *_: next(tables))
    run = contrast(**settings(sts="hub", epochs=1, pairs="pairs"))
    assert asked_for == [None]
    assert run.metrics["sts"] == {"before": {"STS-B": 50.0}, "after": {"STS-B": 60.0}}
    assert "dev" not in run.metrics
    assert "| STS-B | 50.00 | 60.00 |" in (run.model / "README.md").read_text()
    last = trained_weights(run.folder / "checkpoints/checkpoint-6/model.safetensors")
    assert all(last[name].equal(value) for name, value in model_of(run.model).state_dict().items())


def test_a_default_prompt_stands_before_the_texts_it_learns_from(
    settings: Settings, files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(files["plain"])
    model.prompts, model.default_prompt_name = {"query": "word1 word2 "}, "query"
    model.save(str(tmp_path / "prompted"))
    losses = {}
    for name in ("prompted", "plain"):
        folder = tmp_path / "prompted" if name == "prompted" else files["plain"]
        contrast(**settings(model=str(folder), out=str(tmp_path / name / "run"), epochs=0.2))
        rows = (tmp_path / name / "run/log.jsonl").read_text().splitlines()
        losses[name] = json.loads(rows[0])["loss"]
    assert abs(losses["prompted"] - losses["plain"]) > 1e-3


# ---- without labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["model", "plain"])
def test_a_text_learns_from_itself_under_dropout_and_the_config_stays(
    settings: Settings, files: dict[str, Path], model: str
) -> None:
    run = contrast(**settings(model=model, pairs="texts", unsupervised=True, epochs=1))
    ours, theirs = (json.loads((folder / "config.json").read_text()) for folder in (run.model, files[model]))
    assert ours["hidden_dropout_prob"] == theirs["hidden_dropout_prob"] == (0.0 if model == "plain" else 0.1)
    assert ours["attention_probs_dropout_prob"] == theirs["attention_probs_dropout_prob"]
    assert "without labels (SimCSE)" in (run.model / "README.md").read_text()


def test_dropout_is_what_makes_the_task_hard(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {}
    for name in ("on", "off"):
        if name == "off":
            monkeypatch.setattr(module, "turn_on_dropout", lambda _: None)
        given = settings(model="plain", pairs="texts", unsupervised=True, epochs=0.2, out=str(tmp_path / name))
        first[name] = json.loads((contrast(**given).folder / "log.jsonl").read_text().splitlines()[0])["loss"]
    assert first["on"] > first["off"] + 0.01


def test_a_model_without_dropout_gets_some_and_one_with_some_keeps_it(
    files: dict[str, Path],
) -> None:
    plain, model = model_of(files["plain"]), model_of(files["model"])
    for each in (plain, model):
        module.turn_on_dropout(each)
    rates = [{layer.p for layer in each.modules() if isinstance(layer, torch.nn.Dropout)} for each in (plain, model)]
    assert rates == [{0.1}, {0.1}]
    views = [plain.train()(plain.tokenize(["word1 song"]))["sentence_embedding"] for _ in range(2)]
    assert not views[0].allclose(views[1])
    with pytest.raises(UserError, match="dropout layers"):
        module.turn_on_dropout(torch.nn.Linear(2, 2))


# ---- the anchor ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "given"), [("simcse", {}), ("distillcse", {"teacher_temperature": 0.025})])
def test_an_anchored_run_keeps_the_teachers_similarities(
    settings: Settings, files: dict[str, Path], tmp_path: Path, method: str, given: dict[str, float]
) -> None:
    texts = [row["anchor"] for row in triples(20, 9)]
    drift, runs = {}, {}
    anchored = {"method": method, "set": given, "anchor": "plain", "anchor_weight": 30.0}  # at one temperature
    for name, changes in (("bare", {}), ("anchored", anchored)):
        runs[name] = contrast(**settings(out=str(tmp_path / name), model="plain", learning_rate=1e-3, **changes))
        cosines = [
            model_of(path).encode(texts, normalize_embeddings=True) for path in (runs[name].model, files["plain"])
        ]
        ours, theirs = (vectors @ vectors.T for vectors in cosines)
        drift[name] = float(np.abs(ours - theirs).mean())
    assert drift["anchored"] < 0.5 * drift["bare"]
    log = [json.loads(line) for line in (runs["anchored"].folder / "log.jsonl").read_text().splitlines()]
    assert all({"contrast", "anchor"} <= row.keys() for row in log if "loss" in row)
    first = log[0]
    assert first["loss"] == pytest.approx(first["contrast"] + 30 * first["anchor"], abs=1e-3)
    assert "anchored to" in (runs["anchored"].model / "README.md").read_text()
    assert "teacher_fingerprint" in json.loads((runs["anchored"].folder / "run.json").read_text())


def test_a_teacher_of_another_width_will_do(settings: Settings, tmp_path: Path) -> None:
    wide = write_encoder(tmp_path / "wide", seed=3, hidden_size=48)
    BertModel.from_pretrained(wide).save_pretrained(wide)  # a classifier is refused
    assert contrast(**settings(anchor=str(tmp_path / "wide"), epochs=0.2)).model.is_dir()


def test_a_teacher_whose_vectors_are_not_finite_is_refused_by_the_text(settings: Settings, tmp_path: Path) -> None:
    write_encoder(tmp_path / "broken", seed=3)
    broken = st.SentenceTransformer(str(tmp_path / "broken"), device="cpu")
    some = [broken.tokenizer.convert_tokens_to_ids(word) for word in ("violin", "soup")]
    with torch.no_grad():
        broken[0].auto_model.get_input_embeddings().weight[some] = 3e38  # finite, its variance is not
    broken.save(str(tmp_path / "broken"))
    with pytest.raises(UserError, match=r"the teacher's vector values of '.+' are not finite"):
        contrast(**settings(anchor=str(tmp_path / "broken")))


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A teacher of another width and other weights."""
    folder = write_encoder(tmp_path / "wide", seed=3, hidden_size=48)
    BertModel.from_pretrained(folder).save_pretrained(folder)  # a classifier is refused
    return folder


def anchor_losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [row["anchor"] for row in rows if "anchor" in row]


def test_distillcse_learns_the_similarities_of_several_teachers(
    settings: Settings, files: dict[str, Path], wide: Path, tmp_path: Path
) -> None:
    given = settings(model="plain", method="distillcse", epochs=1)
    one, other = str(files["model"]), str(wide)
    runs = {
        name: contrast(**{**given, "anchor": anchor, "out": str(tmp_path / name)})
        for name, anchor in {"both": [one, other], "turned": [other, one], "one": [one], "name": one}.items()
    }
    losses = {name: anchor_losses(run.folder) for name, run in runs.items()}
    assert losses["both"] == pytest.approx(losses["turned"], rel=1e-3)
    assert losses["both"][0] != pytest.approx(losses["one"][0], rel=1e-3)
    assert losses["one"] == losses["name"]
    records = {name: json.loads((run.folder / "run.json").read_text()) for name, run in runs.items()}
    assert records["name"]["settings"]["anchor"] == records["one"]["settings"]["anchor"] == [one]
    assert records["both"]["settings"]["anchor"] == [one, other]
    assert records["both"]["teacher_fingerprint"].split("+")[0] == records["one"]["teacher_fingerprint"]
    card = (runs["both"].model / "README.md").read_text()
    assert f"anchored to `{one}` and `{other}` with weight 1" in card
    assert "InfoNCE (`distillcse`)" in card


# ---- interrupted, resumed ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [2, 6, 8])
def test_a_run_stopped_and_resumed_ends_as_the_uninterrupted_one(settings: Settings, whole: Any, step: int) -> None:
    given = settings(dev="dev")
    interrupted(given, step)
    assert not (Path(given["out"]) / "model").exists()
    run = contrast(**given, resume=True)
    assert sha256(run.model / "model.safetensors") == sha256(whole.model / "model.safetensors")
    last = f"checkpoints/checkpoint-{STEPS}/model.safetensors"
    assert sha256(run.folder / last) == sha256(whole.folder / last)
    assert run.metrics["dev"] == whole.metrics["dev"]
    ours, theirs = (json.loads((each.folder / "evidence.json").read_text()) for each in (run, whole))
    assert ours == theirs


def test_a_run_cut_off_goes_on_from_its_last_checkpoint(settings: Settings, whole: Any) -> None:
    given = settings(dev="dev")
    cut(given, 8)
    kept = last_good_checkpoint(Path(given["out"]) / "checkpoints")
    assert kept is not None
    assert kept.name == "checkpoint-6"
    run = contrast(**given, resume=True)
    assert sha256(run.model / "model.safetensors") == sha256(whole.model / "model.safetensors")
    ours, theirs = (
        [json.loads(line) for line in (each.folder / "log.jsonl").read_text().splitlines()] for each in (run, whole)
    )
    steps = [[row["step"] for row in rows if "train_runtime" not in row] for rows in (ours, theirs)]
    assert steps[0] == steps[1]


def test_an_anchored_run_resumes_as_well(settings: Settings, tmp_path: Path) -> None:
    given = settings(anchor="plain", epochs=1)
    one = contrast(**{**given, "out": str(tmp_path / "whole")})
    interrupted(given, 3)
    two = contrast(**given, resume=True)
    assert sha256(one.model / "model.safetensors") == sha256(two.model / "model.safetensors")


@pytest.mark.parametrize("chunk", [None, 4])
def test_a_shuffled_run_resumes_to_the_bit(settings: Settings, tmp_path: Path, chunk: int | None) -> None:
    given = settings(anchor="plain", method="distillcse", epochs=1, chunk=chunk, set={"group": 0.5})
    one = contrast(**{**given, "out": str(tmp_path / "whole")})
    interrupted(given, 3)
    two = contrast(**given, resume=True)
    assert sha256(one.model / "model.safetensors") == sha256(two.model / "model.safetensors")
    assert anchor_losses(two.folder) == anchor_losses(one.folder)
    other = contrast(**{**given, "out": str(tmp_path / "other"), "set": {"group": 0.2}})
    assert sha256(one.model / "model.safetensors") != sha256(other.model / "model.safetensors")


def test_an_unsupervised_run_resumes_as_well(settings: Settings, tmp_path: Path) -> None:
    given = settings(model="plain", pairs="texts", unsupervised=True, chunk=4)
    one = contrast(**{**given, "out": str(tmp_path / "whole")})
    interrupted(given, 8)
    two = contrast(**given, resume=True)
    assert sha256(one.model / "model.safetensors") == sha256(two.model / "model.safetensors")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_in_hand(settings: Settings, number: signal.Signals) -> None:
    given = settings()
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 4, lambda _: os.kill(os.getpid(), number))
        with pytest.raises(Interrupted):
            contrast(**given)
    kept = last_good_checkpoint(Path(given["out"]) / "checkpoints")
    assert kept is not None
    assert kept.name in ("checkpoint-4", "checkpoint-5")  # Python handles a signal between two instructions


def test_a_finished_run_returns_its_result(whole: Any, files: dict[str, Path]) -> None:
    before = snapshot(whole.folder)
    record = json.loads((whole.folder / "run.json").read_text())["settings"]
    again = contrast(**record, resume=True)
    assert (again.model, again.metrics) == (whole.model, whole.metrics)
    assert snapshot(whole.folder) == before


def test_other_data_and_other_settings_are_refused_on_resume(
    settings: Settings, files: dict[str, Path], tmp_path: Path
) -> None:
    rows = shutil.copy(files["triples"], tmp_path / "rows.csv")
    given = settings(pairs=str(rows))
    interrupted(given, 3)
    with pytest.raises(UserError, match="scale"):
        contrast(**given, scale=5.0, resume=True)
    text = rows.read_text()
    rows.write_text(text.replace("word1", "word2"))
    with pytest.raises(UserError, match="data fingerprint has changed"):
        contrast(**given, resume=True)


def test_a_damaged_checkpoint_is_passed_over(settings: Settings, whole: Any) -> None:
    given = settings(dev="dev")
    cut(given, 8)
    path = Path(given["out"]) / "checkpoints/checkpoint-6/model.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    run = contrast(**given, resume=True)
    assert sha256(run.model / "model.safetensors") == sha256(whole.model / "model.safetensors")


def test_a_checkpoint_of_an_earlier_version_is_refused_with_the_way_out(settings: Settings) -> None:
    given = settings()
    interrupted(given, 3)
    (checkpoint,) = (Path(given["out"]) / "checkpoints").iterdir()
    weights = trained_weights(checkpoint / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "queue" not in name}, checkpoint / "model.safetensors")
    (checkpoint / SEAL).write_text(json.dumps(contents(checkpoint)))
    with pytest.raises(UserError, match=r"those of an earlier one.*contrast --from .*run.json --out FOLDER"):
        contrast(**given, resume=True)


def test_with_a_queue_and_perturbation_it_trains_another_model(settings: Settings, whole: Any, tmp_path: Path) -> None:
    weights = []
    for name, changes in {"queue": {"set": {"queue": 12}}, "perturbed": {"perturb": "l2-per-token"}}.items():
        run = contrast(**settings(model="plain", epochs=1, out=str(tmp_path / name), **changes))
        weights.append(load_file(run.model / "model.safetensors"))
    plain = contrast(**settings(model="plain", epochs=1, out=str(tmp_path / "bare")))
    weights.append(load_file(plain.model / "model.safetensors"))
    for n, m in ((0, 2), (1, 2), (0, 1)):
        assert any(not weights[n][key].allclose(weights[m][key], atol=1e-3) for key in weights[n])
    record = json.loads((tmp_path / "queue/run.json").read_text())
    assert record["queue"] == {"size": 12, "full_at": 2, "terms": ["contrast"]}
    assert record["stages"] == [{"name": "contrast", "weights": {"contrast": 1.0}, "share": 1.0, "fresh": False}]


def test_word_vectors_are_trained_too_with_an_anchor_and_perturbing_or_chunking_them_is_refused(
    settings: Settings, files: dict[str, Path], tmp_path: Path
) -> None:
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    torch.manual_seed(0)
    table = modules.StaticEmbedding(Tokenizer.from_file(str(files["plain"] / "tokenizer.json")), embedding_dim=8)
    st.SentenceTransformer(modules=[table], device="cpu").save(str(tmp_path / "words"))
    before = load_file(next((tmp_path / "words").rglob("model.safetensors")))
    for name, changes in {"bare": {}, "anchored": {"anchor": "plain"}, "texts": {"pairs": "pairs"}}.items():
        run = contrast(**settings(model=str(tmp_path / "words"), out=str(tmp_path / name), epochs=4, **changes))
        after = load_file(next(run.model.rglob("model.safetensors")))
        assert any(not after[key].equal(value) for key, value in before.items())
        log = [json.loads(line) for line in (run.folder / "log.jsonl").read_text().splitlines()]
        losses = [row["loss"] for row in log if "loss" in row]
        assert np.mean(losses[-6:]) < np.mean(losses[:6])
    for changes, option in (({"chunk": 4}, "--chunk"), ({"perturb": "none"}, "--perturb")):
        with pytest.raises(UserError, match=f"a transformer for {option}, .*word vectors; leave it out"):
            contrast(**settings(model=str(tmp_path / "words"), out=str(tmp_path / "other"), **changes))


# ---- refused -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accumulate": 2}, "--chunk"),
        ({"batch_size": 1}, "--batch-size: expected a whole number from 2"),
        ({"schedule": "stages"}, "linear, constant"),
        ({"chunk": 0}, "--chunk: expected a whole number from 1"),
        ({"chunk": 4, "perturb": "none"}, "--chunk or --perturb"),
        ({"set": {"scale": 5.0}}, "--scale alone, got --set scale= too"),
        ({"set": {"temperature": 5.0}}, "'simcse' has no setting 'temperature'"),
        ({"method": "distillcse"}, r"--method distillcse: expected a teacher .*; give --anchor MODEL"),
        ({"method": "disco"}, "--method: expected one of simcse, distillcse, got 'disco'"),
        ({"set": {"group": 0.1}}, "'simcse' has no setting 'group'"),
        ({"anchor": []}, "--anchor: expected .*or several; got none"),
        ({"scale": 0.0}, "--scale: expected a number above 0"),
        ({"anchor_weight": 0.0}, "--anchor-weight: expected a number above 0"),
        ({"epochs": 0}, "--epochs: expected a number above 0"),
        ({"checks": 0}, "--checks: expected a whole number from 1"),
        ({"precision": "fp8"}, "precision"),
        ({"report_to": "carrier pigeon"}, "report"),
        ({"max_length": 41}, "max_length from 3 to 40, got 41"),
        ({"max_length": 2}, "max_length from 3 to 40, got 2"),
        ({"pairs": "none.csv"}, "check the path"),
        ({"dev": "none.csv"}, "none.csv"),
        ({"sts": "none"}, "folder with the STS sets"),
        ({"model": "./none"}, "found nothing"),
        ({"anchor": "./none"}, "found nothing"),
        ({"columns": ["anchor", "centre"]}, "'centre'"),
        ({"anchor_wieght": 1}, "got 'anchor_wieght'; did you mean 'anchor_weight'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(
    settings: Settings, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        contrast(**settings(**changes))
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_finite_and_a_missing_tokenizer_are_refused(
    settings: Settings, files: dict[str, Path], tmp_path: Path
) -> None:
    model = model_of(files["plain"])
    with torch.no_grad():
        next(model.parameters())[7] = float("nan")
    model.save(str(tmp_path / "broken"))
    with pytest.raises(UserError, match="NaN or infinity in"):
        contrast(**settings(model=str(tmp_path / "broken")))
    shutil.copytree(files["plain"], tmp_path / "mute")
    for path in (tmp_path / "mute").glob("tokenizer*"):
        path.unlink()
    with pytest.raises(UserError, match=r"tokenizer|loaded"):
        contrast(**settings(model=str(tmp_path / "mute")))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_no_longer_finite_ends_the_run_before_it_is_saved(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, calls = SimCSE.contrast, []

    def broken(self: SimCSE, vectors: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return before(self, vectors, keys) * (float("nan") if len(calls) == 5 + DRY else 1.0)

    monkeypatch.setattr(SimCSE, "contrast", broken)
    given = settings()
    with pytest.raises(UserError, match="no longer finite at step 5"):
        contrast(**given)
    kept = last_good_checkpoint(Path(given["out"]) / "checkpoints")
    assert kept is not None
    assert kept.name == "checkpoint-3"


def test_texts_that_are_cut_are_noted_and_do_not_stop_the_run(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    run = contrast(**settings(max_length=5, epochs=0.2))
    assert "are cut at 5 tokens" in caplog.text
    assert run.model.is_dir()


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("simcse", "'simcse' learns texts that belong together: contrastill contrast trains it"),
        ("distilbert", "'distilbert' learns masked words, without labels: contrastill pretrain takes it"),
    ],
)
def test_distill_sends_the_method_to_the_command_that_trains_it(
    workshop: Workshop, tmp_path: Path, method: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        distill(**workshop.settings(tmp_path / "run", method=method, data=str(tmp_path / "never-read.csv")))
    assert not (tmp_path / "run").exists()


def test_without_the_library_the_error_says_what_to_install(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r"contrastill\[embeddings\]"):
        contrast(**settings())


def test_bfloat16_trains_too(settings: Settings) -> None:
    run = contrast(**settings(precision="bf16", epochs=0.5))
    assert model_of(run.model)[0].auto_model.dtype == torch.float32


# ---- pairs held out -------------------------------------------------------------------------------------------------


def linked(count: int) -> list[dict[str, str]]:
    """Pairs of which every third has its first text in common with the one before, every fourth its second."""
    rows = [{"anchor": f"first {n}", "positive": f"second {n}"} for n in range(count)]
    for n in range(1, count):
        rows[n] |= {"anchor": rows[n - 1]["anchor"]} if n % 3 == 0 else {}
        rows[n] |= {"positive": rows[n - 1]["positive"]} if n % 4 == 0 else {}
    return rows


@pytest.mark.parametrize(("count", "share", "held"), [(159, 0.1, 0), (160, 0.1, 32), (2000, 0, 0), (9000, 0.1, 500)])
def test_pairs_are_held_out_where_there_are_enough(count: int, share: float, held: int) -> None:
    rows = Dataset.from_list([{"anchor": f"first {n}", "positive": f"second {n}"} for n in range(count)])
    train, dev, said = hold_out_pairs(rows, share, 0)
    assert (len(train), len(dev or ())) == (count - held, held)
    assert said.startswith(f"{held} of {count:,} pairs, held out" if held else "no pairs held out")
    both = {(row["anchor"], row["positive"]) for part in (train, dev or ()) for row in part}
    assert len(both) == count


def test_no_text_of_a_pair_held_out_is_learnt_from() -> None:
    rows = linked(1000)
    train, held, _ = hold_out_pairs(Dataset.from_list(rows), 0.1, 0)
    assert held is not None
    assert 90 <= len(held) <= 100
    texts = [{text for row in part for text in row.values()} for part in (train, held)]
    assert not texts[0] & texts[1]
    assert hold_out_pairs(Dataset.from_list(rows), 0.1, 1)[1].to_list() != held.to_list()
    assert hold_out_pairs(Dataset.from_list(rows), 0.1, 0)[1].to_list() == held.to_list()


def test_of_questions_with_few_answers_the_questions_are_held_out() -> None:
    rows = [{"anchor": f"question {n // 2}", "positive": f"answer {(n // 2) % 5 + 5 * (n % 2)}"} for n in range(400)]
    train, held, said = hold_out_pairs(Dataset.from_list(rows), 0.1, 0)
    assert held is not None
    assert len(held) == 40
    assert not set(train["anchor"]) & set(held["anchor"])
    assert "no first text of theirs" in said
    same = Dataset.from_list([{"anchor": "question", "positive": f"answer {n}"} for n in range(400)])
    assert hold_out_pairs(same, 0.1, 0)[1] is None


def test_a_run_ranks_the_pairs_that_were_held_out(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = random.Random(3)
    rows = [{"anchor": topic(rng, name), "positive": topic(rng, name)} for name in [*CLASSES] * 70]
    write_csv(tmp_path / "many.csv", rows)
    given = settings(pairs=str(tmp_path / "many.csv"), epochs=0.2)
    with caplog.at_level("INFO"):
        interrupted(given, 2)
        run = contrast(**given, resume=True)
    metrics = run.metrics
    assert metrics["held_out"] >= 32
    assert 200 < metrics["train_rows"] + metrics["held_out"] <= 210  # what was made twice is left out
    assert f"{metrics['held_out']} of" in caplog.text
    record = json.loads((run.folder / "run.json").read_text())
    assert record["data"]["decisions"]["dev"].startswith(f"{metrics['held_out']} of")
    evidence = json.loads((run.folder / "evidence.json").read_text())
    assert (evidence["kind"], evidence["split"], evidence["rows"]) == ("ranks", "held-out pairs", metrics["held_out"])
    assert evidence["within"][0]["ours"] == pytest.approx(metrics["retrieval"]["after"] / 100, abs=1e-4)
    assert evidence["within"][0]["theirs"] == pytest.approx(metrics["retrieval"]["before"] / 100, abs=1e-4)
    assert evidence["within"][0]["chance"] == pytest.approx(metrics["yardsticks"]["chance"], abs=1e-4)
    assert f"{metrics['held_out']} held-out pairs" in (run.model / "README.md").read_text()
