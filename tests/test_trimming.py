"""A trimmed vocabulary: the texts that it was trimmed for are read and answered as before, whatever the tokenizer."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    ModernBertDecoderConfig,
    ModernBertDecoderForCausalLM,
    PreTrainedTokenizerFast,
)

from contrastill.errors import UserError
from contrastill.vocabulary import cut_model, trim

SYLLABLES = [
    "ba",
    "ne",
    "low",
    "er",
    "est",
    "ing",
    "tra",
    "fik",
    "stau",
    "ung",
    "é",
    "ß",
    "A5",
    "10",
    "日本",
    "ко",
    "##e",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    word = lambda: "".join(rng.choices(SYLLABLES, k=rng.randint(1, 4)))  # noqa: E731
    odd = [
        "  two  spaces",
        "tab\tand\nline",
        " no\u00a0break\u200b",
        "🙂 lost",
        "a<mask>b",
        "",
        "x" * 120,
        "lo\u0301w",
        "¤¤ ¤er",
    ]
    return [" ".join(word() for _ in range(rng.randint(1, 9))) for _ in range(count)] + [o + word() for o in odd]


TAUGHT, CORPUS, OTHERS = texts(300, 0), texts(60, 1), texts(60, 2)


def wordpiece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return taught(made, trainers.WordPieceTrainer, 300)


def unigram(**changes: Any) -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made = taught(made, trainers.UnigramTrainer, 300, unk_token="<unk>")
    return changed(made, **changes) if changes else made


def unigram_of_bytes() -> Tokenizer:
    """As SentencePiece's: byte pieces in the vocabulary."""
    known = json.loads(unigram().to_str())["model"]["vocab"]
    return unigram(byte_fallback=True, vocab=[*known, *([f"<0x{n:02X}>", -15.0] for n in range(256))])


def unigram_of_whole_texts() -> Tokenizer:
    made = unigram()
    made.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    return made


def bytes_bpe(**changes: Any) -> Tokenizer:
    """GPT-2's, RoBERTa's, ModernBERT's."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made = taught(made, trainers.BpeTrainer, 500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    return changed(made, **changes) if changes else made


def bpe_of_words() -> Tokenizer:
    """Pieces that no merge makes are words as they stand."""
    known = json.loads(bytes_bpe().to_str())["model"]["vocab"]
    extra = {word: len(known) + n for n, word in enumerate(["Ġstauung", "ĠA5", "Ġbane"]) if word not in known}
    return bytes_bpe(ignore_merges=True, vocab=known | extra)


def bpe_with_marks() -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    marks = {"continuing_subword_prefix": "##", "end_of_word_suffix": "</w>"}
    return taught(made, trainers.BpeTrainer, 400, **marks)


def sentencepiece_bpe() -> Tokenizer:
    """Llama's and Gemma's: every pair that makes a piece is a merge, a text is one word, other characters are bytes."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made = taught(made, trainers.BpeTrainer, 400, limit_alphabet=30)
    model = json.loads(made.to_str())["model"]
    known: dict[str, int] = model["vocab"]
    known |= {f"<0x{n:02X}>": len(known) + n for n in range(256)}
    pairs = [(piece[:n], piece[n:]) for piece in known for n in range(1, len(piece))]
    pairs = [pair for pair in pairs if {*pair} <= known.keys()]
    return changed(made, vocab=known, merges=sorted(pairs, key=lambda pair: known[pair[0] + pair[1]]))


def taught(tokenizer: Tokenizer, kind: Any, size: int, **options: Any) -> Tokenizer:
    tokenizer.train_from_iterator(TAUGHT, kind(vocab_size=size, special_tokens=SPECIAL, show_progress=False, **options))
    return tokenizer


def changed(tokenizer: Tokenizer, **model: Any) -> Tokenizer:
    state = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps(state | {"model": state["model"] | model}))


KINDS: dict[str, Callable[[], Tokenizer]] = {
    kind.__name__: kind
    for kind in (wordpiece, unigram, unigram_of_bytes, unigram_of_whole_texts, bytes_bpe, bpe_of_words, bpe_with_marks,
                 sentencepiece_bpe)
}  # fmt: skip


def template(tokenizer: Tokenizer) -> Any:
    return processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>",
        special_tokens=[(one, tokenizer.token_to_id(one)) for one in ("<s>", "</s>")],
    )  # fmt: skip


def hugging_face(backend: Tokenizer, kind: Any = PreTrainedTokenizerFast) -> Any:
    if backend.post_processor is None:
        backend.post_processor = template(backend)
    names = {f"{name}_token": token for name, token in zip(("bos", "pad", "eos", "unk", "mask"), SPECIAL, strict=True)}
    return kind(tokenizer_object=backend, cls_token="<s>", sep_token="</s>", model_max_length=64, **names)


def model_of(tokenizer: Any, kind: str = "xlm-roberta", **changes: Any) -> Any:
    torch.manual_seed(0)
    given = {
        "vocab_size": len(tokenizer) + 7, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 80, "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "initializer_range": 0.5,
    }  # fmt: skip
    return AutoModel.from_config(transformers.AutoConfig.for_model(kind, **given | changes)).eval()


def answers(model: Any, tokenizer: Any, some: list[str]) -> torch.Tensor:
    with torch.inference_mode():
        return model(**tokenizer(some, padding=True, truncation=True, return_tensors="pt")).last_hidden_state


def check_same(before: Any, after: Any, some: list[str]) -> None:
    """The same pieces, under numbers in the same order."""
    old, new = before.get_vocab(), after.get_vocab()
    place = {old[piece]: n for piece, n in new.items()}
    assert sorted(new.values()) == list(range(len(new))) == [place[n] for n in sorted(place)]
    for text in some:
        assert after(text)["input_ids"] == [place[n] for n in before(text)["input_ids"]], repr(text)


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_of_the_corpus_is_read_and_answered_as_before(kind, tmp_path):
    tokenizer = hugging_face(KINDS[kind]())
    model = model_of(tokenizer)
    expected = answers(model, tokenizer, CORPUS)
    rows, size = len(tokenizer) + 7, model.num_parameters()
    smaller, told = trim(model, tokenizer, CORPUS, OTHERS)
    check_same(tokenizer, smaller, CORPUS)
    assert (told.before, told.after, told.texts) == (len(tokenizer), len(smaller), len(OTHERS))
    assert told.after < told.before
    assert told.parameters_saved == 16 * (rows - told.after) == size - model.num_parameters()
    assert 0 < told.split_otherwise < 1 < told.longer
    torch.testing.assert_close(answers(model, smaller, CORPUS), expected)

    model.save_pretrained(tmp_path)
    smaller.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    check_same(tokenizer, again, CORPUS)
    torch.testing.assert_close(answers(AutoModel.from_pretrained(tmp_path), again, CORPUS), expected)
    assert {one.name for one in tmp_path.iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_a_few_texts_are_enough_to_be_read_as_before(kind, seed):
    some = texts(3, 10 + seed)[: 2 + seed]
    tokenizer = hugging_face(KINDS[kind]())
    smaller, told = trim(model_of(tokenizer), tokenizer, some, [])
    check_same(tokenizer, smaller, some)
    assert str(told).endswith("saved")  # nothing of other texts
    once_more, told = trim(model_of(smaller), smaller, some, [])
    assert told.after == told.before
    check_same(smaller, once_more, [*some, *OTHERS])


def test_new_words_are_spelt_not_unknown():
    for kind in KINDS.values():
        tokenizer = hugging_face(kind())
        smaller, told = trim(model_of(tokenizer), tokenizer, ["ba"], ["lowest baneing"])
        assert told.unknown_after == 0, kind
        spelt = "".join(smaller.tokenize("lowest"))
        assert "".join(character for character in spelt if character.isascii() and character.isalpha()) in (
            "lowest",
            "lowestw",
        )


def test_the_worst_piece_of_a_unigram_stays_as_it_sets_the_price_of_an_unknown_character():
    """In place of azb, c stands a, bc as soon as the unknown z between costs less."""
    scores = {"a": -0.1, "bc": -0.1, "azb": -15.0, "c": -15.0, "worst": -30.0}
    made = Tokenizer(models.Unigram([*((one, 0.0) for one in SPECIAL), *scores.items()], unk_id=3, byte_fallback=False))
    made.add_special_tokens(SPECIAL)
    tokenizer, some = hugging_face(made), ["azbc", "abc"]
    assert [tokenizer.tokenize(text) for text in some] == [["azb", "c"], ["a", "bc"]]
    smaller, _ = trim(model_of(tokenizer), tokenizer, some, [])
    check_same(tokenizer, smaller, some)
    assert "worst" in smaller.get_vocab()


def test_ways_of_equal_score_stay_as_they_were():
    vocabulary = [*((one, 0.0) for one in SPECIAL), *((one, -2.0) for one in "abcd"), ("ab", -3.0), ("bc", -3.0)]
    vocabulary += [("abc", -5.0), ("bcd", -5.0), ("cd", -3.0), ("da", -4.0), ("dab", -5.0)]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    made.add_special_tokens(SPECIAL)
    tokenizer, rng = hugging_face(made), random.Random(3)
    for _ in range(40):
        some = ["".join(rng.choices("abcd", k=rng.randint(1, 12))) for _ in range(2)]
        check_same(tokenizer, trim(model_of(tokenizer), tokenizer, some, [])[0], some)


def test_a_word_that_was_unknown_stays_unknown():
    """ "abé": "ab" is taken, then nothing fits; without "ab" there would be a way: "a", "##bé"."""
    pieces = [*SPECIAL, "a", "##b", "ab", "##bé", "xa", "a##"]
    made = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(pieces)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(SPECIAL)
    tokenizer, some = hugging_face(made), ["abé", "xabé"]
    assert tokenizer.tokenize("abé") == ["<unk>"]
    smaller, _ = trim(model_of(tokenizer), tokenizer, some, [])
    check_same(tokenizer, smaller, some)


def moved_padding(kind: str, **changes: Any) -> tuple[Any, Any, Any]:
    """A tokenizer whose special tokens stand last, before and after it is trimmed, and its model."""
    backend = bytes_bpe()
    state = json.loads(backend.to_str())
    known = sorted(state["model"]["vocab"], key=lambda piece: (piece in SPECIAL, state["model"]["vocab"][piece]))
    state["model"]["vocab"] = {piece: n for n, piece in enumerate(known)}
    state["added_tokens"] = [one | {"id": known.index(one["content"])} for one in state["added_tokens"]]
    tokenizer = hugging_face(Tokenizer.from_str(json.dumps(state)))
    tokenizer.backend_tokenizer.enable_padding(pad_id=tokenizer.pad_token_id, pad_token="<pad>")
    model = model_of(tokenizer, kind, **changes)
    expected = answers(model, tokenizer, CORPUS)
    smaller, _ = trim(model, tokenizer, CORPUS, [])
    torch.testing.assert_close(answers(model, smaller, CORPUS), expected)
    return tokenizer, smaller, model


def test_a_padding_token_that_moves_is_known_by_its_new_number_everywhere(tmp_path):
    tokenizer, smaller, model = moved_padding("bert")
    pad = smaller.pad_token_id
    assert pad < tokenizer.pad_token_id
    assert pad == model.config.pad_token_id == model.get_input_embeddings().padding_idx
    assert json.loads(smaller.backend_tokenizer.to_str())["padding"]["pad_id"] == pad
    assert model.config.eos_token_id == smaller.eos_token_id != tokenizer.eos_token_id
    assert smaller.convert_tokens_to_ids("<mask>") == smaller.mask_token_id
    model.save_pretrained(tmp_path)
    smaller.save_pretrained(tmp_path)
    again, read = AutoModel.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    torch.testing.assert_close(answers(again, read, CORPUS), answers(model, smaller, CORPUS))


def test_where_positions_begin_behind_the_padding_token_it_keeps_its_place():
    tokenizer, smaller, model = moved_padding("roberta", max_position_embeddings=700)
    assert smaller.pad_token_id == tokenizer.pad_token_id == model.config.pad_token_id


def test_a_number_that_names_no_token_of_the_table_stays():
    config = ModernBertDecoderConfig(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        pad_token_id=0, bos_token_id=1, eos_token_id=40, sep_token_id=59,
    )  # fmt: skip
    model = ModernBertDecoderForCausalLM(config)
    cut_model(model, [0, 1, *range(30, 60)])
    named = (config.cls_token_id, config.bos_token_id, config.eos_token_id, config.sep_token_id, config.vocab_size)
    assert named == (50281, 1, 12, 31, 32)


def test_a_tied_output_layer_is_cut_with_its_table(tmp_path):
    tokenizer = hugging_face(unigram())
    config = model_of(tokenizer, "bert").config
    model = transformers.BertForMaskedLM(config).eval()
    head = model.get_output_embeddings()
    torch.nn.init.normal_(head.bias)
    read = lambda: model(**tokenizer(CORPUS[:4], padding=True, return_tensors="pt")).logits  # noqa: E731
    with torch.inference_mode():
        before = read()
        old, tokenizer = tokenizer, trim(model, tokenizer, CORPUS, [])[0]
        rows = [old.get_vocab()[piece] for piece in sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)]
        torch.testing.assert_close(read(), before[..., rows])
    assert head.weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    again = transformers.BertForMaskedLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again.get_output_embeddings().bias, head.bias)


@pytest.mark.parametrize(
    "processor",
    [
        lambda t: processors.BertProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>"))),
        lambda t: processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>"))),
        lambda t: processors.Sequence([processors.ByteLevel(trim_offsets=False), template(t)]),
    ],
    ids=["bert", "roberta", "sequence"],
)
def test_every_post_processor_marks_by_the_new_numbers(processor):
    backend = bytes_bpe()
    backend.add_special_tokens([AddedToken("<cls2>"), AddedToken("<sep2>")])  # behind all pieces
    state = json.loads(backend.to_str())
    backend.post_processor = processor(backend)
    text = json.dumps(json.loads(backend.to_str())).replace('"<s>"', '"<cls2>"').replace('"</s>"', '"<sep2>"')
    state["post_processor"] = json.loads(
        json.dumps(json.loads(text)["post_processor"])
        .replace(f'"<sep2>", {backend.token_to_id("</s>")}', f'"<sep2>", {backend.token_to_id("<sep2>")}')
        .replace(f'"<cls2>", {backend.token_to_id("<s>")}', f'"<cls2>", {backend.token_to_id("<cls2>")}')
        .replace(f'"ids": [{backend.token_to_id("<s>")}]', f'"ids": [{backend.token_to_id("<cls2>")}]')
        .replace(f'"ids": [{backend.token_to_id("</s>")}]', f'"ids": [{backend.token_to_id("<sep2>")}]')
    )
    tokenizer = hugging_face(Tokenizer.from_str(json.dumps(state)))
    assert tokenizer.convert_ids_to_tokens(tokenizer("ba")["input_ids"])[0] == "<cls2>"
    smaller, _ = trim(model_of(tokenizer, "bert"), tokenizer, CORPUS, [])
    check_same(tokenizer, smaller, CORPUS)
    pair = smaller(CORPUS[0], CORPUS[1])["input_ids"]
    assert smaller.convert_ids_to_tokens(pair) == tokenizer.convert_ids_to_tokens(
        tokenizer(CORPUS[0], CORPUS[1])["input_ids"]
    )


def test_added_tokens_and_those_of_special_spelling_stay(tmp_path):
    backend = bpe_with_marks()
    backend.add_tokens([AddedToken("  odd\u200b", normalized=False), AddedToken("low", single_word=True)])
    tokenizer, some = hugging_face(backend), ["x  odd\u200by low lowest slow", "lowlow"]
    smaller, _ = trim(model_of(tokenizer), tokenizer, some, [])
    check_same(tokenizer, smaller, [*some, "low", "  odd\u200b"])
    smaller.save_pretrained(tmp_path)
    check_same(tokenizer, AutoTokenizer.from_pretrained(tmp_path), some)


@pytest.mark.parametrize("kind", ["XLMRobertaTokenizer", "BertTokenizer", "RobertaTokenizer", "CamembertTokenizer"])
def test_tokenizers_of_transformers_that_build_themselves_anew_are_saved_and_opened(kind, tmp_path):
    made = {"XLMRobertaTokenizer": unigram, "CamembertTokenizer": unigram, "BertTokenizer": wordpiece}
    backend = made.get(kind, bytes_bpe)()
    state = json.loads(backend.to_str())["model"]
    given = {"merges": [tuple(pair) for pair in state["merges"]]} if "merges" in state else {}
    vocabulary = state["vocab"] if isinstance(state["vocab"], dict) else [tuple(one) for one in state["vocab"]]
    names = {
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    }
    tokenizer = getattr(transformers, kind)(vocab=vocabulary, **given, **names)
    tokenizer.save_pretrained(tmp_path / "whole")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "whole")
    assert type(tokenizer).__name__ == kind
    smaller, told = trim(model_of(tokenizer), tokenizer, CORPUS, [])
    assert told.after < told.before
    smaller.save_pretrained(tmp_path / "trimmed")
    again = AutoTokenizer.from_pretrained(tmp_path / "trimmed")
    assert type(again) is type(tokenizer)
    check_same(tokenizer, again, CORPUS)
    assert sorted(one.name for one in (tmp_path / "trimmed").iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


def test_what_cannot_be_trimmed_is_refused(tmp_path: Path):
    tokenizer = hugging_face(changed(bytes_bpe(), dropout=0.1))
    with pytest.raises(UserError, match=r"always gives a text the same tokens .*, got one with dropout 0.1"):
        trim(model_of(tokenizer), tokenizer, CORPUS, [])
    words = Tokenizer(models.WordLevel({piece: n for n, piece in enumerate(SPECIAL)}, unk_token="<unk>"))
    words.add_special_tokens(SPECIAL)
    words.pre_tokenizer = pre_tokenizers.Split(Regex(" "), "removed")
    tokenizer = hugging_face(words)
    with pytest.raises(UserError, match="got WordLevel, which cannot spell a word that it lacks"):
        trim(model_of(tokenizer), tokenizer, CORPUS, [])
    tokenizer = hugging_face(unigram())
    with pytest.raises(UserError, match="belongs to another model"):
        trim(model_of(tokenizer, vocab_size=20), tokenizer, CORPUS, [])
    with pytest.raises(UserError, match="with which the model pads, to trim its vocabulary, got one without"):
        trim(model_of(tokenizer, "bert", pad_token_id=len(tokenizer) + 3), tokenizer, CORPUS, [])
