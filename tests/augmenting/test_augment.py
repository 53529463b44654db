"""`contrastill augment`: what it writes, that it goes on after a kill with the same file, and what it refuses."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from short_texts import NOUNS, VERBS, write_rows
from transformers import BertModel
from typer.testing import CliRunner

import contrastill
from contrastill import UserError
from contrastill.augmenting import Augmented
from contrastill.augmenting import run as running
from contrastill.augmenting.store import Store
from contrastill.cli import app
from contrastill.data.load import load_task


def augmented(data: Path, model: Path, out: Path, **settings: Any) -> Augmented:
    usual: dict[str, Any] = {"copies": 4, "candidates": 5, "common": 0}
    return contrastill.augment(**(usual | {"data": data, "model": model, "out": out} | settings))


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def train_texts(data: Path) -> list[str]:
    train = load_task(data).train
    assert train is not None
    return list(train["text"])


# ---- what is written


@pytest.mark.parametrize("by", ["masked-lm", "nearest"])
def test_copies_of_the_training_texts_have_other_words_and_no_label(
    data: Path, masked: Path, tmp_path: Path, by: str
) -> None:
    made = augmented(data, masked, tmp_path / "more.csv", by=by)
    head, *rows = rows_of(tmp_path / "more.csv")
    assert head == ["text"]
    texts = [text for (text,) in rows]
    originals = {text for text, _ in rows_of(data)[1:]}
    assert len(texts) == made.written == 4 * made.rows - made.repeated > 400
    assert not originals & {*texts}
    assert len({*texts}) == len(texts)
    ends = {text.partition(",")[2] for text in train_texts(data)}
    assert {text.partition(",")[2] for text in texts} <= {end.replace("number", one) for end in ends for one in (
        *NOUNS, *VERBS, "number", "the", "and", "not", "dogs", "paint")}, "all but words is as it was"  # fmt: skip
    assert made.by == by
    assert 0.3 < made.replaced < 0.5


def test_rows_held_out_for_dev_are_not_read(data: Path, encoder: Path, tmp_path: Path) -> None:
    """Their numbers are in no copy."""
    augmented(data, encoder, tmp_path / "more.csv", copies=1)
    loaded = load_task(data)
    assert loaded.dev is not None
    held = {text.rpartition(" ")[2] for text in loaded.dev["text"]}
    written = {text.rpartition(" ")[2] for (text,) in rows_of(tmp_path / "more.csv")[1:]}
    assert len(held) == 40
    assert not written & held
    assert len(written) > 90


@pytest.mark.parametrize("name", ["more.csv", "more.jsonl"])
def test_pairs_keep_their_columns_and_can_be_read_as_unlabelled_rows(
    pairs: Path, masked: Path, tmp_path: Path, name: str
) -> None:
    made = augmented(pairs, masked, tmp_path / name)
    data = load_task(pairs, unlabelled=tmp_path / name)
    assert data.train is not None
    new = data.train[-made.written :]
    assert {*new["label"]} == {-100}
    assert made.rows == 30
    assert all(text.startswith("train ") for text in new["text"]), "a word that the vocabulary lacks stays"
    assert len({*new["text"]}) > 50
    assert len({*new["text_pair"]}) > 50


def test_words_of_pairs_are_chosen_in_the_context_of_both_texts(pairs: Path, masked: Path, tmp_path: Path) -> None:
    augmented(pairs, masked, tmp_path / "a.csv", candidates=1)
    rows = [(f"{a} cow cow cow", b, label) for a, b, label in rows_of(pairs / "train.csv")[1:]]
    write_rows(pairs / "train.csv", ("premise", "hypothesis", "label"), rows)
    augmented(pairs, masked, tmp_path / "b.csv", candidates=1)
    assert {row[1] for row in rows_of(tmp_path / "a.csv")} != {row[1] for row in rows_of(tmp_path / "b.csv")}


def test_the_commonest_words_stay(data: Path, masked: Path, tmp_path: Path) -> None:
    """ "the", "a" and "number" are half of all words."""
    augmented(data, masked, tmp_path / "more.csv", common=0.4, by="nearest", probability=1.0)
    for (text,) in rows_of(tmp_path / "more.csv")[1:]:
        words = text.split()
        assert (words[0], words[3], words[5]) == ("The", "a", "number")
        assert not {words[1], words[2]} & {"the", "number"}


def test_a_model_without_a_head_gives_the_nearest_words(
    data: Path, encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = augmented(data, encoder, tmp_path / "more.csv", limit=30)
    assert made.by == "nearest"
    assert "the nearest in its table of embeddings; it has no masked-LM head" in caplog.text
    with pytest.raises(UserError, match=r"--by: expected a model with a masked-LM head.*or pass --by nearest"):
        augmented(data, encoder, tmp_path / "other.csv", by="masked-lm")
    assert not (tmp_path / "other.csv").exists()


def test_words_beyond_the_length_stay_and_are_told(
    data: Path, masked: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    made = augmented(data, masked, tmp_path / "more.csv", max_length=5, probability=1.0, limit=20)
    assert made.beyond == 20 * 2
    assert "40 words are beyond 5 tokens, and stay as they are" in caplog.text
    originals = {tuple(text.split()[3:]) for text in train_texts(data)}
    assert {tuple(text.split()[3:]) for (text,) in rows_of(tmp_path / "more.csv")[1:]} <= originals


# ---- going on


class Killed(Exception):
    pass


def killed_in(chunk: int, part: int, monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> None:
    """Runs until a chunk is half written: so many bytes of it, without the note that it is there."""
    add, count = Store.add, 0

    def dying(self: Store, texts: Sequence[Sequence[str]], counts: Any) -> None:
        nonlocal count
        count += 1
        if count < chunk:
            add(self, texts, counts)
            return
        with monkeypatch.context() as patch:
            patch.setattr(Store, "note", lambda *_: None)
            add(self, texts, counts)
        with self.out.open("rb+") as file:
            file.truncate(self.done["bytes"] - part)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", dying)
        with pytest.raises(Killed):
            run()


@pytest.mark.parametrize("name", ["more.csv", "more.jsonl"])
@pytest.mark.parametrize("chunk", [1, 3])
def test_a_killed_call_goes_on_to_the_same_file(
    data: Path, masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int
) -> None:
    monkeypatch.setattr(running, "CHUNK", 16)
    whole = augmented(data, masked, tmp_path / f"whole.{name}")
    killed_in(chunk, 15, monkeypatch, lambda: augmented(data, masked, tmp_path / name))
    assert 0 < (tmp_path / name).stat().st_size < (tmp_path / f"whole.{name}").stat().st_size
    again = augmented(data, masked, tmp_path / name)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole.{name}").read_bytes()
    assert (again.stored > 0) == (chunk > 1)
    for field in ("rows", "written", "repeated", "replaced", "beyond"):
        assert getattr(again, field) == getattr(whole, field)
    assert augmented(data, masked, tmp_path / name).stored == whole.written
    assert (tmp_path / name).read_bytes() == (tmp_path / f"whole.{name}").read_bytes()


def test_another_seed_gives_other_texts(data: Path, encoder: Path, tmp_path: Path) -> None:
    contents = []
    for n, seed in enumerate((0, 0, 1)):
        augmented(data, encoder, tmp_path / f"{n}.csv", seed=seed)
        contents.append((tmp_path / f"{n}.csv").read_bytes())
    assert contents[0] == contents[1] != contents[2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "--seed: expected 0 for the texts in .*, got 1; pass --overwrite"),
        ({"copies": 3}, "--copies: expected 4"),
        ({"probability": 0.5}, "--probability: expected 0.4"),
        ({"candidates": 6}, "--candidates: expected 5"),
        ({"common": 0.45}, "--common: expected 0"),
        ({"by": "nearest"}, "--by: expected 'masked-lm'"),
        ({"limit": 30}, "--data: expected as it was"),
        ({"max_length": 5}, "--max-length: expected 64"),
    ],
)
def test_other_settings_are_refused_without_overwrite(
    data: Path, masked: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    augmented(data, masked, tmp_path / "more.csv")
    before = (tmp_path / "more.csv").read_bytes()
    with pytest.raises(UserError, match=message):
        augmented(data, masked, tmp_path / "more.csv", **change)
    assert (tmp_path / "more.csv").read_bytes() == before
    augmented(data, masked, tmp_path / "more.csv", overwrite=True, **change)
    augmented(data, masked, tmp_path / "fresh.csv", **change)
    assert (tmp_path / "more.csv").read_bytes() == (tmp_path / "fresh.csv").read_bytes() != before


def test_other_columns_are_refused(data: Path, pairs: Path, encoder: Path, tmp_path: Path) -> None:
    augmented(data, encoder, tmp_path / "more.csv")
    with pytest.raises(UserError, match=r"--text: expected \['text'\] for the texts in .*more.csv, got \['premise'"):
        augmented(pairs, encoder, tmp_path / "more.csv")


def test_other_weights_under_the_same_name_are_refused(
    data: Path, tmp_path: Path, write_model: Callable[..., Path]
) -> None:
    model = write_model(tmp_path / "model", BertModel)
    augmented(data, model, tmp_path / "more.csv")
    write_model(tmp_path / "model", BertModel, seed=1)
    with pytest.raises(UserError, match="--model: expected as it was"):
        augmented(data, model, tmp_path / "more.csv")


def test_a_file_that_was_changed_or_is_another_s_is_not_written_to(data: Path, encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "more.csv"
    augmented(data, encoder, out)
    out.write_bytes(out.read_bytes()[:-30])
    with pytest.raises(UserError, match="got a file that was changed; pass --overwrite"):
        augmented(data, encoder, out)
    (tmp_path / "own.csv").write_text("text\nmine\n")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="expected a file of `contrastill augment`"):
            augmented(data, encoder, tmp_path / "own.csv", overwrite=overwrite)
    (tmp_path / "own.settings.json").write_text('{"mode": "answers"}')  # of `contrastill label`
    with pytest.raises(UserError, match=r"expected the settings of a file of `contrastill augment`, got others"):
        augmented(data, encoder, tmp_path / "own.csv", overwrite=True)
    assert (tmp_path / "own.csv").read_text() == "text\nmine\n"


def test_ctrl_c_says_how_to_go_on(data: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CHUNK", 16)
    write, count = running.Call.write, 0

    def stopped(self: Any, *args: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        write(self, *args)

    monkeypatch.setattr(running.Call, "write", stopped)
    with pytest.raises(KeyboardInterrupt, match=r"\d+ texts are in .*more.csv; the same call goes on from there"):
        augmented(data, encoder, tmp_path / "more.csv")


# ---- the teacher's run


def test_the_data_of_the_teacher_s_run_and_how_they_were_read_are_taken_over(
    data: Path, classifier: Path, tmp_path: Path
) -> None:
    run = contrastill.finetune(
        model=classifier, data=data, out=tmp_path / "teacher", dev_share=0.4, epochs=1, checks=1, batch_size=32,
        precision="fp32", force=True,
    )  # fmt: skip
    made = augmented(data, run.folder, tmp_path / "a.csv")
    assert made.rows == 96
    again = contrastill.augment(model=run.folder / "model", copies=4, candidates=5, common=0, out=tmp_path / "b.csv")
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    assert again.rows == 96


# ---- what is refused


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "no_such_model": ({"model": "./nothing"}, "found nothing at './nothing'"),
    "no_copies": ({"copies": 0}, "--copies: expected a whole number .*got 0"),
    "a_probability_above_one": ({"probability": 2}, "--probability: expected a number .*got 2"),
    "no_probability": ({"probability": 0}, "--probability: expected"),
    "all_words_common": ({"common": 1}, "--common: expected"),
    "another_source": ({"by": "glove"}, "--by: expected"),
    "another_kind_of_file": ({"out": "more.parquet"}, r"--out: expected a file ending in \.csv or \.jsonl"),
    "no_folder": ({"out": "none/more.csv"}, "--out: expected a folder none"),
    "the_data": ({"out": "data.csv"}, "--out: expected another file than --data"),
    "no_data": ({"data": None}, "--data: expected the training texts, got none"),
    "an_empty_file": ({"data": "empty.csv"}, "empty.csv"),
    "a_header_only": ({"data": "header.csv"}, "expected rows"),
    "no_training_rows": ({"data": "tests"}, "expected training rows, got test"),
    "entities": ({"data": "tags.conll"}, "--data: expected texts with labels, or pairs, got texts with entities"),
    "another_language": ({"data": "numbers.csv", "dev_share": 0}, "expected texts with words that .* has others for"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_is_said_before_a_file_is_made(
    data: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").write_text("")
    Path("header.csv").write_text("text,label\n")
    Path("numbers.csv").write_text("text,label\n1 2 3,a\n4 5 6,b\n7 8 9,a\n")
    Path("tags.conll").write_text("EU B-ORG\nrejects O\n\nEU B-ORG\ncalls O\n\n" * 4)
    write_rows(Path("tests/test.csv"), ("text", "label"), [("a cat", "x"), ("a dog", "y")])
    before = {*tmp_path.rglob("*")}
    change, message = CASES[name]
    settings = {"data": str(data), "model": str(encoder), "out": "more.csv"} | change
    with pytest.raises(UserError, match=message):
        contrastill.augment(**settings)
    assert {*tmp_path.rglob("*")} == before


# ---- the command line


def test_the_command_prints_what_was_made(data: Path, masked: Path, tmp_path: Path) -> None:
    words = ["augment", "--data", str(data), "--model", str(masked), "--copies", "2", "--limit", "40"]
    found = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "more.csv")])
    assert found.exit_code == 0
    lines = len(rows_of(tmp_path / "more.csv")) - 1
    assert f"40 rows, {lines} texts, " in found.stdout
    assert "by masked-lm" in found.stdout
    assert "the likeliest in their context, by its masked-LM head" in " ".join(found.stderr.split())
    again = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "more.csv"), "--json"])
    made = json.loads(again.stdout)
    assert (made["rows"], made["stored"], made["written"]) == (40, lines, lines)
    refused = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "more.csv"), "--seed", "3"])
    assert refused.exit_code == 2
    assert "--seed: expected 0" in refused.stderr
