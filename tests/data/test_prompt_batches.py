"""Prompts and answers as token ids: where a row is split, how it ends, what is cut; and the batches of them."""

import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from contrastill.data.prompt_batches import collate_prompts, encode_prompts, end_ids
from contrastill.data.prompts import load_prompts, row_key
from contrastill.errors import UserError

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
)
BEGINS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>"]
END, START, TURN, FIRST, LAST = range(5)
TEXTS = [
    ("What is 2+2?", "4"),
    (" two  spaces\n", "na\u00efve caf\u00e9 \U0001f469\u200d\U0001f467"),
    ("\u6df7\u305c\u305f text", "\u0645\u0631\u062d\u0628\u0627 "),
    ("user assistant system", ""),
    ("one token", "a"),
]


def bytes_tokenizer(single="$A", **options):
    """Byte-level BPE: any text, several tokens a character."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    made.train_from_iterator(["".join(row) for row in TEXTS] * 3, trainer)
    made.decoder = decoders.ByteLevel()
    if single != "$A":
        known = [(token, n) for n, token in enumerate(SPECIAL)]
        made.post_processor = processors.TemplateProcessing(single=single, special_tokens=known)
    options = {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "additional_special_tokens": SPECIAL, **options}
    return PreTrainedTokenizerFast(tokenizer_object=made, **options)


BYTES = bytes_tokenizer(chat_template=CHATML + BEGINS)


def words_tokenizer(**options):
    """Known words alone: others are dropped, so that a text may have no tokens."""
    made = Tokenizer(models.WordLevel({"</s>": 0, **{f"w{n}": n for n in range(1, 50)}}, unk_token="w1"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, **{"eos_token": "</s>", "pad_token": "</s>", **options})


def rows_of(pairs):
    return load_prompts([{"prompt": p, "answer": a} for p, a in pairs], dev_share=0).train


def talks_of(talks):
    return load_prompts([{"messages": talk} for talk in talks], dev_share=0).train


def said(*contents, roles=("user", "assistant")):
    turns = itertools.cycle(roles)
    return [{"role": role, "content": content} for role, content in zip(turns, contents, strict=False)]


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def plain(tokenizer, rows, length=500, **options):
    return [(row["prompt"], row["answer"]) for row in encode_prompts(rows, tokenizer, length, **options).rows]


def of_words(*counts, length=20):
    """Rows of so many words, (prompt, answer), told apart by their words."""
    words = (f"w{n}" for n in itertools.cycle(range(2, 50)))
    pairs = [tuple(" ".join(itertools.islice(words, n)) for n in row) for row in counts]
    return encode_prompts(rows_of(pairs), words_tokenizer(), length)


# ---- texts


def test_a_row_is_split_between_prompt_and_answer_and_ends_once():
    twin = [(ids(BYTES, prompt), [*ids(BYTES, answer), TURN]) for prompt, answer in TEXTS]
    found = plain(BYTES, rows_of(TEXTS))
    assert found == twin
    assert found[3][1] == [TURN], "an empty answer is its end token"
    for (prompt, answer), (a, b) in zip(TEXTS, found, strict=True):
        assert BYTES.decode(a) == prompt
        assert BYTES.decode(b[:-1]) == answer


@pytest.mark.parametrize(
    ("single", "lead"),
    [("$A", []), ("<s> $A", [FIRST]), ("<s> $A </s>", [FIRST]), ("$A </s>", []), ("<s> <|im_start|> $A", [FIRST, 1])],
)
def test_the_tokenizer_begins_a_prompt_and_ends_none_and_adds_nothing_to_an_answer(single, lead):
    tokenizer = bytes_tokenizer(single, eos_token="</s>")
    found = plain(tokenizer, rows_of([("", "first"), *TEXTS]) if lead else rows_of(TEXTS))
    twin = [([*lead, *ids(BYTES, p)], [*ids(BYTES, a), LAST]) for p, a in ([("", "first")] if lead else []) + TEXTS]
    assert found == twin


def test_a_prompt_that_ends_with_the_end_token_keeps_it_and_an_answer_has_it_once():
    tokenizer = bytes_tokenizer("<s> $A </s>", eos_token="</s>")
    found = plain(tokenizer, rows_of([("a</s>", "b</s>"), ("a", "</s>")]))
    assert found[0] == ([FIRST, *ids(BYTES, "a"), LAST], [*ids(BYTES, "b"), LAST])
    assert found[1][1] == [LAST]


def test_begin_end_and_pad_may_be_one_token():
    every = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")
    tokenizer = bytes_tokenizer("<|endoftext|> $A", **every)
    encoded = encode_prompts(rows_of([("a", "b"), ("", "bb")]), tokenizer, 9)
    batch = collate_prompts(encoded.rows[:], tokenizer.pad_token_id)
    a, b = ids(BYTES, "a")[0], ids(BYTES, "b")[0]
    assert batch["prompt"].tolist() == [[END, a], [END, END]]
    assert batch["prompt_mask"].tolist() == [[True, True], [False, True]]
    assert batch["answer"][0, :2].tolist() == [b, END]
    assert batch["answer_mask"].sum(1).tolist() == [2, len(ids(BYTES, "bb")) + 1]


def test_a_prompt_without_tokens_is_refused():
    with pytest.raises(UserError, match="got 1 of 2 prompts without"):
        encode_prompts(rows_of([("w2", "w3"), ("", "w3")]), words_tokenizer(), 9)


def test_rows_read_in_chunks_are_those_read_at_once(monkeypatch):
    tokenizer = bytes_tokenizer("<s> $A", eos_token="</s>")
    rows = rows_of([("", "x"), *TEXTS])
    whole, chats = plain(tokenizer, rows), plain(BYTES, rows, chat=True)
    monkeypatch.setattr("contrastill.data.prompt_batches.CHUNK", 2)
    assert plain(tokenizer, rows) == whole
    assert plain(BYTES, rows, chat=True) == chats


# ---- length


def test_an_answer_is_cut_at_its_end_and_counted_and_has_no_end_token_then():
    encoded = of_words((3, 4), (3, 5), (3, 9), (7, 1), length=8)
    assert encoded.cut == 0.75
    assert [row["answer"][-1] == 0 for row in encoded.rows] == [True, False, False, False]
    assert encoded.lengths.tolist() == [8, 8, 8, 8]
    assert encoded.answer_lengths.tolist() == [5, 5, 5, 1]
    whole = of_words((3, 4), (3, 5), (3, 9), (7, 1), length=100)
    for cut, row in zip(encoded.rows, whole.rows, strict=True):
        assert cut["prompt"] == row["prompt"]
        assert cut["answer"] == row["answer"][: 8 - len(row["prompt"])]
    assert whole.cut == 0


def test_a_prompt_is_never_cut():
    with pytest.raises(UserError, match=r"at most 7 tokens.*got 2 of 3 that are longer, up to 9; raise --max-length"):
        of_words((8, 1), (7, 1), (9, 1), length=8)
    with pytest.raises(UserError, match=r"at most 9,998 tokens.*got 1 of 1 that are longer, up to 10,000"):
        of_words((10_000, 1), length=9_999)
    assert of_words((10_000, 1), length=10_002).lengths.tolist() == [10_002]


def test_lengths_without_room_or_beyond_the_tokenizer_are_refused():
    with pytest.raises(UserError, match="at least 2"):
        of_words((1, 1), length=1)
    with pytest.raises(UserError, match=r"at most 16 \(the tokenizer's limit\)"):
        encode_prompts(rows_of([("w2", "w3")]), words_tokenizer(model_max_length=16), 17)


# ---- templates


def test_a_chat_is_split_behind_the_generation_prompt_and_ends_with_the_turn():
    talks = [said("Hi", "caf\u00e9"), [{"role": "system", "content": "s"}, *said("a", "b", "c", "\n d ")]]
    for (prompt, answer), talk in zip(plain(BYTES, talks_of(talks)), talks, strict=True):
        options = {"tokenize": True, "return_dict": False}
        asked = BYTES.apply_chat_template(talk[:-1], add_generation_prompt=True, **options)
        whole = BYTES.apply_chat_template(talk, **options)
        assert prompt == asked
        assert prompt + answer + ids(BYTES, "\n") == whole, "the line feed behind the turn is written by no model"
        assert answer == [*ids(BYTES, talk[-1]["content"]), TURN]


def test_plain_rows_are_written_by_the_template_if_asked():
    talks = [said(prompt, answer) for prompt, answer in TEXTS]
    assert plain(BYTES, rows_of(TEXTS), chat=True) == plain(BYTES, talks_of(talks))
    assert plain(BYTES, talks_of(talks), chat=True) == plain(BYTES, talks_of(talks))
    assert plain(BYTES, rows_of(TEXTS), chat=True)[3][1] == [TURN]


@pytest.mark.parametrize("named", [SPECIAL, []], ids=["named", "known to the tokenizer's file alone"])
def test_an_end_of_turn_that_is_not_the_end_token_is_the_only_end_and_is_reported(named):
    options = dict.fromkeys(("eos_token", "pad_token"), "<|endoftext|>")
    tokenizer = bytes_tokenizer(**options, additional_special_tokens=named, chat_template=CHATML + BEGINS)
    encoded = encode_prompts(talks_of([said("q", "a")]), tokenizer, 99)
    assert encoded.rows[0]["answer"] == [*ids(BYTES, "a"), TURN]
    assert encoded.ends == (END, TURN)
    assert encode_prompts(rows_of([("q", "a")]), tokenizer, 99).ends == (END,)


@pytest.mark.parametrize(
    ("template", "answer"),
    [
        (
            "{% for m in messages %}{{ '[' + m['content'] + ']' if loop.index is odd else m['content'] }}{% endfor %}",
            "a",
        ),
        (
            "{% for m in messages %}<|im_start|>{{ m['content'] }}\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>{% endif %}",
            "a\n",
        ),
        ("{% for m in messages %}{{ m['content'] + ('</s>' if loop.index is even else ':') }}{% endfor %}", "a</s>"),
    ],
    ids=["no end, no generation prompt", "no end", "end token"],
)
def test_templates_without_an_end_of_turn_get_the_end_token(template, answer):
    tokenizer = bytes_tokenizer(eos_token="</s>", chat_template=template)
    (found,) = plain(tokenizer, talks_of([said("q", "a")]))
    assert found[1] == [*ids(BYTES, answer.removesuffix("</s>")), LAST]


def test_a_template_without_a_generation_prompt_is_refused_where_it_begins_answers():
    tokenizer = bytes_tokenizer(chat_template=CHATML)
    with pytest.raises(UserError, match=r"row train-0: .*add_generation_prompt.*sets '<\|im_start\|>assistant"):
        encode_prompts(talks_of([said("q", "a")]), tokenizer, 99)


def test_words_that_a_template_sets_before_an_answer_are_learnt():
    thinking = CHATML.replace("{{ message['content'] }}", "{{ thought }}{{ message['content'] }}").replace(
        "<|im_start|>", "{% set thought = 'hm ' if message['role'] == 'assistant' else '' %}<|im_start|>", 1
    )
    tokenizer = bytes_tokenizer(chat_template=thinking + BEGINS)
    (found,) = plain(tokenizer, talks_of([said("q", "a")]))
    assert BYTES.decode(found[1]) == "hm a<|im_end|>"


def test_a_template_that_rewrites_earlier_messages_is_refused():
    last_alone = "{{ messages[-1]['content'] }}{% if add_generation_prompt %}:{% endif %}"
    with pytest.raises(UserError, match=r"row train-0: .*continues its own prompt, got 'two' in the whole.*'one:'"):
        encode_prompts(talks_of([said("one", "two")]), bytes_tokenizer(chat_template=last_alone), 99)
    counting = "{{ messages | length }} {{ messages[-1]['content'] }}"
    with pytest.raises(UserError, match=r"continues its own prompt, got '2 two' in the whole.*'1 one' \(token 0\)"):
        encode_prompts(talks_of([said("one", "two")]), bytes_tokenizer(chat_template=counting), 99)
    shorter = "{% if add_generation_prompt %}a very long prompt{% else %}a{% endif %}"
    with pytest.raises(UserError, match="continues its own prompt, got '' in the whole"):
        encode_prompts(talks_of([said("one", "")]), bytes_tokenizer(chat_template=shorter), 99)


def test_a_template_whose_answer_melts_into_its_prompt_is_refused():
    template = "{% for m in messages %}{{ m['content'] }}{% if add_generation_prompt or not loop.last %} tw{% endif %}"
    tokenizer = bytes_tokenizer(chat_template=template + "{% endfor %}")
    assert ids(BYTES, " two") != ids(BYTES, " tw") + ids(BYTES, "o"), "the test needs a token across the border"
    with pytest.raises(UserError, match="continues its own prompt"):
        encode_prompts(talks_of([said("q", "o")]), tokenizer, 99)


def test_a_template_that_refuses_the_roles_says_where():
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
    talks = [said("q", "a"), [{"role": "system", "content": "s"}, *said("q", "a")]]
    with pytest.raises(UserError, match=r"row train-1: .*roles system, user \(no system role\)"):
        encode_prompts(talks_of(talks), bytes_tokenizer(chat_template=strict + BEGINS), 99)


def test_a_tokenizer_without_a_template_is_refused():
    with pytest.raises(UserError, match="with a chat template, got one without"):
        encode_prompts(rows_of(TEXTS), bytes_tokenizer(), 99, chat=True)


# ---- ends


def model_ending(ids):
    return SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=ids))


def test_answers_end_with_the_tokenizers_end_token_or_the_models_others():
    assert end_ids(BYTES) == (TURN,)
    assert end_ids(BYTES, model_ending(TURN)) == (TURN,)
    assert end_ids(BYTES, model_ending([END, TURN, END])) == (TURN, END)
    assert end_ids(BYTES, model_ending(None)) == (TURN,)
    assert end_ids(words_tokenizer(eos_token=None), model_ending(7)) == (7,)
    with pytest.raises(UserError, match="with an end token"):
        end_ids(words_tokenizer(eos_token=None))


# ---- rows


def test_rows_are_read_one_by_one_in_slices_and_in_turn():
    encoded = of_words((1, 2), (2, 0), (3, 1))
    rows = list(encoded.rows)
    assert len(encoded.rows) == 3
    assert [set(row) for row in rows] == [{"prompt", "answer", "key"}] * 3
    assert encoded.rows[1:] == rows[1:]
    assert encoded.rows[::-1] == rows[::-1]
    assert encoded.rows[-1] == encoded.rows[np.int64(2)] == rows[2]
    assert all(type(n) is int for row in rows for n in (*row["prompt"], *row["answer"], row["key"]))
    with pytest.raises(IndexError):
        encoded.rows[3]


def test_lengths_are_those_of_the_rows_and_facts_are_told():
    encoded = of_words((1, 2), (2, 0), (9, 20))
    lengths = np.array([(len(row["prompt"]), len(row["answer"])) for row in encoded.rows])
    assert encoded.prompt_lengths.tolist() == lengths[:, 0].tolist()
    assert encoded.answer_lengths.tolist() == lengths[:, 1].tolist()
    assert encoded.lengths.tolist() == lengths.sum(1).tolist() == [4, 3, 20]
    assert encoded.describe() == {
        "rows": 3,
        "prompt_tokens": 12,
        "answer_tokens": 15,
        "longest_prompt": 9,
        "longest_answer": 11,
        "cut": pytest.approx(1 / 3),
    }


def test_a_row_is_known_by_its_texts_whatever_reads_them():
    keys = [row_key(*row) for row in TEXTS]
    for options in ({}, {"chat": True}):
        assert [row["key"] for row in encode_prompts(rows_of(TEXTS), BYTES, 99, **options).rows] == keys


# ---- batches


def slow_batch(rows, pad):
    batch = {name: [] for name in ("prompt", "prompt_mask", "answer", "answer_mask")}
    for name in ("prompt", "answer"):
        width = max(len(row[name]) for row in rows)
        for row in rows:
            ids, fill = list(row[name]), [pad] * (width - len(row[name]))
            real, none = [True] * len(ids), [False] * len(fill)
            batch[name].append(fill + ids if name == "prompt" else ids + fill)
            batch[f"{name}_mask"].append(none + real if name == "prompt" else real + none)
    return {name: torch.tensor(value) for name, value in batch.items()} | {
        "key": torch.tensor([row["key"] for row in rows])
    }


@pytest.mark.parametrize("pad", [0, 2, 49])
@pytest.mark.parametrize("which", [slice(None), slice(1), slice(1, 3), slice(None, None, -1)], ids=str)
def test_prompts_end_and_answers_begin_at_the_border(pad, which):
    rows = of_words((1, 2), (5, 0), (3, 7), (2, 2)).rows[which]
    found, twin = collate_prompts(rows, pad), slow_batch(rows, pad)
    assert set(found) == set(twin)
    for name, value in twin.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name


def test_padding_and_order_of_rows_change_no_row():
    rows = of_words((1, 2), (5, 0), (3, 7), (2, 2)).rows[:]
    batch = collate_prompts(rows, 0)
    for n, row in enumerate(rows):
        alone = collate_prompts([row], 49)
        for name in ("prompt", "answer"):
            mask = batch[f"{name}_mask"][n]
            assert batch[name][n][mask].tolist() == alone[name][0].tolist() == row[name]
            assert alone[f"{name}_mask"].all()


def test_rows_go_to_the_workers_of_a_loader():
    rows = pickle.loads(pickle.dumps(of_words((1, 2), (5, 0), (3, 7)).rows))
    batches = list(DataLoader(rows, 2, collate_fn=lambda some: collate_prompts(some, 0)))
    assert [tuple(batch["prompt"].shape) for batch in batches] == [(2, 5), (1, 3)]


def test_a_data_set_of_the_users_own_is_encoded_too():
    rows = Dataset.from_dict({"example_id": ["x"], "prompt": ["w2 w3"], "answer": ["w4"]})
    assert plain(words_tokenizer(), rows) == [([2, 3], [4, 0])]
