"""Prompts with answers: what is read, exactly; what is left out and counted; what is refused."""

import gzip
import json
import lzma
import math

import pandas as pd
import pytest
from datasets import Dataset, DatasetDict

from contrastill.data import sources
from contrastill.data.load import text_key
from contrastill.data.prompts import load_prompts, row_key
from contrastill.errors import UserError

ROWS = [(f" What is {n}?\n", f"\t{n} \u00e9\U0001f44d ") for n in range(40)]
NO = {"dev_share": 0}


def write(path, rows, header=("prompt", "answer")):
    frame = pd.DataFrame(rows, columns=list(header), dtype=object)
    name = path.name.removesuffix(".gz").removesuffix(".xz")
    if name.endswith(".parquet"):
        frame.to_parquet(path)
        return path
    text = {
        "csv": lambda: frame.to_csv(index=False),
        "tsv": lambda: frame.to_csv(index=False, sep="\t"),
        "jsonl": lambda: "".join(json.dumps(row) + "\n" for row in frame.to_dict("records")),
    }[name.rsplit(".")[-1]]()
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        file.write(text)
    return path


def write_objects(path, objects):
    path.write_text("".join(json.dumps(each) + "\n" for each in objects), encoding="utf-8")
    return path


def pairs(split):
    return list(zip(split["prompt"][:], split["answer"][:], strict=True))


def talk(*contents, last="assistant"):
    roles = ["user", "assistant"] * len(contents)
    said = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    return [*said[:-1], {"role": last, "content": contents[-1]}]


TALKS = [talk(f" q{n} ", f" a{n}\n") for n in range(30)]

# ---- what is read


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.xz"])
def test_every_kind_of_file_gives_the_texts_exactly(tmp_path, suffix):
    data = load_prompts(write(tmp_path / f"rows{suffix}", ROWS), **NO)
    assert pairs(data.train) == ROWS
    assert (data.name, data.chat, list(data.splits)) == ("rows", False, ["train"])
    assert data.train["example_id"][:2] == ["train-0", "train-1"]


def test_a_tab_separated_file_keeps_the_white_space_it_can_hold(tmp_path):
    rows = [(" a ", "b "), ("c", "  d")]
    assert pairs(load_prompts(write(tmp_path / "rows.tsv", rows), **NO).train) == rows


def test_encoding_and_delimiter_are_those_of_the_other_loaders(tmp_path):
    (tmp_path / "rows.csv").write_bytes("prompt;answer\nd\u00e9j\u00e0;vu\n".encode("cp1252"))
    data = load_prompts(tmp_path / "rows.csv", encoding="cp1252", delimiter=";", **NO)
    assert pairs(data.train) == [("d\u00e9j\u00e0", "vu")]
    with pytest.raises(UserError, match="--delimiter"):
        load_prompts(write(tmp_path / "rows.jsonl", ROWS), delimiter=";", **NO)


def test_rows_in_memory_and_several_splits_are_read_by_their_names():
    table = Dataset.from_dict({"question": ["q1", "q2"], "answer": ["a1", "a2"]})
    data = load_prompts(DatasetDict(train=table, validation=table.select([1]), test=table.select([0])))
    assert {name: pairs(split) for name, split in data.splits.items()} == {
        "train": [("q1", "a1"), ("q2", "a2")],
        "dev": [("q2", "a2")],
        "test": [("q1", "a1")],
    }


def test_a_folder_has_its_splits_and_other_files_take_their_place(tmp_path):
    for split in ("train", "dev", "test"):
        write(tmp_path / f"{split}.csv", [(f"{split} q", "a")])
    other = write(tmp_path / "other.jsonl", [("other q", "a")])
    data = load_prompts(tmp_path, test=other)
    assert [split["prompt"][0] for split in data.splits.values()] == ["train q", "dev q", "other q"]
    assert "--test is in its place" in data.decisions["files left aside"]


def test_a_folder_without_a_train_file_is_refused(tmp_path):
    write(tmp_path / "test.csv", ROWS)
    with pytest.raises(UserError, match="expected training rows, got test only"):
        load_prompts(tmp_path)


def test_a_hub_data_set_whose_test_answers_are_hidden_loses_its_test_split(monkeypatch):
    table = Dataset.from_dict({"prompt": ["q1", "q2"], "answer": ["a1", "a2"]})
    hidden = Dataset.from_dict({"prompt": ["q3"], "answer": [None]}, features=table.features)
    monkeypatch.setattr(sources.datasets, "load_dataset", lambda name, config: {"train": table, "test": hidden})
    data = load_prompts("org/name", **NO)
    assert list(data.splits) == ["train"]
    assert "has no answers and was left out" in data.decisions["rows"]
    assert data.decisions["files"] == "train: train"


# ---- columns


@pytest.mark.parametrize(
    "header",
    [("Instruction", "response"), ("input", "Output"), ("query", "completion"), ("source", "target")],
    ids=lambda header: "/".join(header),
)
def test_usual_names_need_not_be_given(tmp_path, header):
    data = load_prompts(write(tmp_path / "rows.csv", ROWS, header), **NO)
    assert pairs(data.train) == ROWS
    assert data.decisions["columns"] == f"prompt {header[0]!r}, answer {header[1]!r} (by name)"


def test_a_column_of_where_a_row_is_from_is_no_prompt(tmp_path):
    data = load_prompts(write(tmp_path / "rows.csv", [("wiki", "q", "a")], ("source", "prompt", "answer")), **NO)
    assert pairs(data.train) == [("q", "a")]
    assert data.decisions["columns left aside"] == "'source'"


def test_options_win_over_usual_names(tmp_path):
    path = write(tmp_path / "rows.csv", [("p", "a", "x", "y")], ("prompt", "answer", "mine", "yours"))
    assert pairs(load_prompts(path, prompt="mine", answer="yours", **NO).train) == [("x", "y")]
    assert pairs(load_prompts(path, prompt="mine", **NO).train) == [("x", "a")]
    with pytest.raises(UserError, match="expected different columns"):
        load_prompts(path, prompt="mine", answer="mine")
    with pytest.raises(UserError, match=r"'promt' \(--prompt\).*did you mean 'prompt'"):
        load_prompts(path, prompt="promt")


@pytest.mark.parametrize("header", [("instruction", "input", "output"), ("prompt", "answer", "response")])
def test_several_usual_names_are_refused(tmp_path, header):
    with pytest.raises(UserError, match=r"expected one column of prompts.*pass --prompt COLUMN and --answer COLUMN"):
        load_prompts(write(tmp_path / "rows.csv", [("a", "b", "c")], header))


def test_no_usual_name_is_refused_and_the_columns_are_listed(tmp_path):
    with pytest.raises(UserError, match=r"has the columns 'left', 'right'.*--messages COLUMN"):
        load_prompts(write(tmp_path / "rows.csv", ROWS, ("left", "right")))


def test_further_texts_are_left_aside_only_if_the_prompt_is_named(tmp_path):
    rows = [(f"question {n}", f"some more context number {n}", "a") for n in range(9)]
    path = write(tmp_path / "rows.csv", rows, ("prompt", "context", "answer"))
    with pytest.raises(UserError, match="texts in 'prompt' and in 'context'; pass --prompt prompt"):
        load_prompts(path)
    assert load_prompts(path, prompt="prompt", **NO).decisions["columns left aside"] == "'context'"


def test_dev_must_have_the_columns_of_train(tmp_path):
    dev = write(tmp_path / "dev.csv", ROWS, ("question", "answer"))
    with pytest.raises(UserError, match=r"dev\.csv: expected a column 'prompt', as the training rows have"):
        load_prompts(write(tmp_path / "rows.csv", ROWS), dev=dev)


# ---- broken rows


def test_an_empty_answer_is_kept_and_counted(tmp_path):
    data = load_prompts(write(tmp_path / "rows.csv", [*ROWS, ("q", ""), ("", "a")]), **NO)
    assert pairs(data.train)[-2:] == [("q", ""), ("", "a")]
    assert "1 row with an empty answer, kept" in data.decisions["rows"]
    assert data.describe()["splits"]["train"]["empty_answers"] == 1


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"prompt": "q"}, "no answer"),
        ({"prompt": "q", "answer": None}, "no answer"),
        ({"prompt": "q", "answer": math.nan}, "no answer"),
        ({"prompt": None, "answer": "a"}, "no prompt"),
        ({"prompt": "", "answer": ""}, "neither prompt nor answer"),
        ({"prompt": " \n", "answer": " "}, "neither prompt nor answer"),
        ({"prompt": "q", "answer": "half \ud83d"}, "a text that is not valid Unicode"),
    ],
)
def test_broken_rows_are_left_out_and_counted_if_few_and_refused_if_many(tmp_path, row, fault):
    good = [{"prompt": prompt, "answer": answer} for prompt, answer in ROWS]
    few = write_objects(tmp_path / "few.jsonl", [*good[:5], row, *good[5:]])
    data = load_prompts(few, **NO)
    assert pairs(data.train) == ROWS
    assert f"left out 1 row with {fault}, the first on line 6" in data.decisions["rows"]
    assert data.train["example_id"][5] == "train-6", "rows keep their number in the source"
    many = write_objects(tmp_path / "many.jsonl", [*good[:20], row, row])
    with pytest.raises(UserError, match=f"22 rows, got 2 rows with {fault}, the first on line 21; correct or remove"):
        load_prompts(many, **NO)


def test_kinds_of_broken_rows_are_counted_together(tmp_path):
    rows = [{"prompt": "q", "answer": "a"}] * 30 + [{"prompt": "q"}, {"answer": "a"}]
    with pytest.raises(UserError, match=r"got 1 row with no answer, the first on line 31; 1 row with no prompt"):
        load_prompts(write_objects(tmp_path / "rows.jsonl", rows), **NO)


@pytest.mark.parametrize("cell", [4, 4.5, True, ["a"], {"text": "a"}])
def test_cells_that_are_no_texts_are_refused(tmp_path, cell):
    with pytest.raises(UserError, match=r"expected texts in column 'answer', got .* on line 1; write it as a text"):
        load_prompts(write_objects(tmp_path / "rows.jsonl", [{"prompt": "q", "answer": cell}]), **NO)


# ---- conversations


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_last_message_is_the_answer(tmp_path, suffix):
    said = [*TALKS, [{"role": "system", "content": "be brief"}, *talk("a", "b", "c", "d")]]
    data = load_prompts(write(tmp_path / f"rows{suffix}", [(each,) for each in said], ("messages",)), **NO)
    assert data.chat
    assert pairs(data.train) == [(each[:-1], each[-1]["content"]) for each in said]
    assert data.describe()["kind"] == "conversations"


def test_keys_of_messages_that_are_empty_in_every_row_do_no_harm():
    rows = [{"messages": [{**each, "name": None} for each in said]} for said in TALKS]
    assert len(load_prompts(rows, **NO).train) == len(TALKS)


def test_messages_are_taken_where_prompts_lack_answers_and_by_name():
    rows = [{"messages": said, "prompt": "q"} for said in TALKS]
    assert load_prompts(rows, **NO).chat
    both = [{**row, "answer": "a"} for row in rows]
    with pytest.raises(UserError, match="or one of messages"):
        load_prompts(both)
    assert load_prompts(both, messages="messages", **NO).chat
    assert not load_prompts(both, prompt="prompt", **NO).chat
    with pytest.raises(UserError, match="got both; leave one out"):
        load_prompts(both, messages="messages", answer="answer")


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        (talk("q", "a", last="user"), "a last message that is not of the role assistant"),
        (talk("a", last="assistant"), "no message before the assistant's"),
        ([{"role": "human", "content": "q"}, {"role": "gpt", "content": "a"}], "a role that is none of system"),
        ([{"from": "user", "value": "q"}], "a message without role and content"),
        (["q", "a"], "a message without role and content"),
        ([{"role": "user", "content": None}, *talk("q", "a")], "a message whose content is no text"),
        ([{"role": "user", "content": "q", "image": "x.png"}, *talk("q", "a")], "a message with more than role"),
        (talk(" ", ""), "neither prompt nor answer"),
        (talk("\ud83d", "a"), "a text that is not valid Unicode"),
        ([], "no messages"),
        (None, "no messages"),
        (math.nan, "no messages"),
    ],
)
def test_broken_conversations_are_left_out_if_few_and_refused_if_many(said, fault):
    rows = [{"messages": each} for each in [*TALKS, said]]
    data = load_prompts(rows, **NO)
    assert len(data.train) == len(TALKS)
    assert f"left out 1 row with {fault}" in data.decisions["rows"]
    assert "the first on row 31" in data.decisions["rows"]
    with pytest.raises(UserError, match=f"got 1 row with {fault}"):
        load_prompts(rows[-9:], **NO)


def test_conversations_written_as_texts_are_refused(tmp_path):
    path = write(tmp_path / "rows.csv", [(json.dumps(TALKS[0]),)], ("messages",))
    with pytest.raises(UserError, match=r"expected lists of messages.*conversations as \.jsonl or \.parquet"):
        load_prompts(path)


# ---- splits


def test_dev_is_held_out_by_prompt_and_by_seed():
    rows = [{"prompt": f"q{n % 50}", "answer": f"a{n}"} for n in range(150)]
    data = load_prompts(rows, dev_share=0.2, seed=1)
    dev = set(data.dev["prompt"][:])
    assert len(dev) == 10
    assert len(data.dev) == 30
    assert not dev & set(data.train["prompt"][:])
    assert sorted(pairs(data.train) + pairs(data.dev)) == sorted((row["prompt"], row["answer"]) for row in rows)
    assert data.decisions["dev"] == "30 of 150 rows of train, held out by prompt"
    assert data.fingerprint() == load_prompts(rows, dev_share=0.2, seed=1).fingerprint()
    assert dev != set(load_prompts(rows, dev_share=0.2, seed=2).dev["prompt"][:])


def test_conversations_are_held_out_too_and_dev_follows_the_usual_share():
    data = load_prompts([{"messages": each} for each in TALKS])
    assert (len(data.train), len(data.dev)) == (23, 7)


def test_limit_keeps_training_rows_in_their_order_and_leaves_dev_alone():
    rows = [{"prompt": f"q{n:02}", "answer": "a"} for n in range(40)]
    whole, some = load_prompts(rows), load_prompts(rows, limit=7)
    assert pairs(some.dev) == pairs(whole.dev)
    kept = some.train["prompt"][:]
    assert len(kept) == 7
    assert kept == sorted(kept)
    assert set(kept) < set(whole.train["prompt"][:])
    assert len(load_prompts(rows, limit=1000).train) == len(whole.train)


@pytest.mark.parametrize(("options", "said"), [({"limit": 0}, "limit"), ({"dev_share": 0.9}, "dev share")])
def test_numbers_out_of_range_are_refused(options, said):
    with pytest.raises(UserError, match=said):
        load_prompts([{"prompt": "q", "answer": "a"}], **options)


def test_one_row_is_enough_without_dev_and_too_few_with_it():
    rows = [{"prompt": "q", "answer": "a"}]
    assert len(load_prompts(rows, **NO).train) == 1
    with pytest.raises(UserError, match="held out, got one in 3 rows; pass --dev FILE, or --dev-share 0"):
        load_prompts(rows * 3)


# ---- facts


def test_duplicates_and_overlaps_are_counted_by_row_and_by_prompt():
    train = [("q1", "a"), ("q1", "a"), ("q1", "b"), ("q2", "")]
    dev = [("q1", "c"), ("q3", "c")]
    rows = {
        name: [{"prompt": p, "answer": a} for p, a in split] for name, split in (("train", train), ("validation", dev))
    }
    assert load_prompts(rows).describe()["splits"] == {
        "train": {"rows": 4, "prompts": 2, "empty_answers": 1, "duplicates": 1},
        "dev": {"rows": 2, "prompts": 2, "empty_answers": 0, "duplicates": 0, "also_in_train": 1},
    }


def test_a_fingerprint_is_of_every_text_and_split():
    rows = [{"prompt": "q", "answer": "a"}, {"prompt": "r", "answer": "b"}]
    first = load_prompts(rows, **NO).fingerprint()
    assert first == load_prompts([dict(row) for row in rows], **NO).fingerprint()
    assert first != load_prompts(rows[::-1], **NO).fingerprint()
    assert first != load_prompts([rows[0], {**rows[1], "answer": "b "}], **NO).fingerprint()
    assert first != load_prompts(rows, dev=rows).fingerprint()


def test_what_was_decided_is_logged(caplog):
    with caplog.at_level("INFO", logger="contrastill.data.prompts"):
        data = load_prompts([{"prompt": "q", "answer": ""}], **NO)
    assert caplog.messages == [data.report()]
    assert "an empty answer" in data.report()


def test_a_row_is_known_by_its_texts():
    assert row_key("q", "a") == text_key("q", "a")
    assert row_key([{"role": "user", "content": "q"}], "a") != row_key([{"role": "system", "content": "q"}], "a")
    assert row_key("q", "") != row_key("", "q")
