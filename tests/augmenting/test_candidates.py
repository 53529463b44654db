"""Which words may take a word's place: against slow and obvious twins, and whether a model has a head."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForMaskedLM, BertModel, PreTrainedTokenizerFast

from contrastill.augmenting.candidates import Candidates
from contrastill.augmenting.run import Read, Reader, with_words
from contrastill.augmenting.words import WholeWords, commonest, dressed, folded, is_word, replaceable
from contrastill.loading import load_language_model, load_tokenizer


def words_in(text: str) -> list[str]:
    return [text[start:end] for start, end in replaceable(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The well-known dog, 7 dogs.", ["The", "well", "known", "dog", "dogs"]),
        ("I don't see John\u2019s 2nd A4 x-ray", ["see", "ray"]),
        ("'quoted' and 'so on'", ["quoted", "and", "so", "on"]),
        ("Das Café in Höhe ё кот", ["Das", "Café", "in", "Höhe", "кот"]),
        ("हिन्दी", ["हिन्दी"]),
        ("東京 tower", ["東", "京", "tower"]),
        ("a_b http://x.y #tag 3,000", ["http", "tag"]),
        ("", []),
    ],
)
def test_words_that_may_be_replaced_are_of_letters_alone(text: str, words: list[str]) -> None:
    assert words_in(text) == words
    assert all(map(is_word, words))


@pytest.mark.parametrize(
    ("word", "like", "made"),
    [("dog", "Cat", "Dog"), ("dog", "CAT", "DOG"), ("dog", "cat", "dog"), ("Dog", "cat", "Dog"), ("dog", "iPad", "dog"),
     ("dog", "I", "Dog"), ("dog", "東", "dog")],
)  # fmt: skip
def test_a_word_takes_the_capitals_of_the_one_it_replaces(word: str, like: str, made: str) -> None:
    assert dressed(word, like) == made


def test_the_commonest_words_are_at_most_the_share_asked_for() -> None:
    texts = ["the dog sees The cat", "THE dog runs"]  # the 3, dog 2, cat 1, runs 1, sees 1
    assert commonest(texts, 0.0) == set()
    assert commonest(texts, 0.37) == set()
    assert commonest(texts, 0.38) == {"the"}
    assert commonest(texts, 0.7) == {"the", "dog"}
    assert commonest(texts, 0.75) == {"the", "dog", "cat"}


def test_whole_words_of_word_pieces(masked: Path) -> None:
    tokenizer = load_tokenizer(str(masked))
    known = WholeWords.of(tokenizer, len(tokenizer))
    assert {*known.words} >= {"cat", "the", "dogs", "Dog", "кот"}
    assert not {*known.words} & {"s", "##s", "ing", "[UNK]", "[unused1]", "7", "2nd", "b", "."}
    assert [tokenizer.convert_ids_to_tokens(int(n)) for n in known.ids] == known.words
    assert known.script_of("cow") == known.scripts[known.words.index("cat")] != known.script_of("кот")
    assert known.script_of("שלום") == -1
    assert WholeWords.of(tokenizer, 8).words == ["cat", "dog"], "no word that the model has no embedding of"
    assert "Dog" not in known.without({"dog"}).words


@pytest.mark.parametrize(
    ("mark", "before", "decoder"),
    [
        ("\u0120", pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()),
        ("\u2581", pre_tokenizers.Metaspace(), decoders.Metaspace()),
    ],
)
def test_whole_words_of_other_tokenizers_begin_with_their_mark(mark: str, before: Any, decoder: Any) -> None:
    pieces = ["<unk>", f"{mark}cat", "cat", "s", f"{mark}x", f"{mark}H\u00c3\u00b6he", "東", f"{mark}7"]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = before, decoder
    known = WholeWords.of(PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>"), len(pieces))
    assert "cat" in known.words
    assert 1 in known.ids.tolist()
    assert not {2, 3, 4, 7} & {*known.ids.tolist()}
    if mark == "\u0120":
        assert "Höhe" in known.words


# ---- twins


def slow_words(tokenizer: Any) -> list[str]:
    pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    return [piece for piece in pieces if piece.isalpha() and len(piece) > 1]


def same_script(a: str, b: str) -> bool:
    return a.isascii() == b.isascii()


def slow_choice(word: str, scores: dict[str, float], count: int) -> list[str]:
    """The best-scored other words, one after the other."""
    found: list[str] = []
    for candidate in sorted(scores, key=lambda one: -scores[one]):
        taken = {folded(each) for each in found} | {folded(word)}
        if len(found) < count and folded(candidate) not in taken and same_script(word, candidate):
            found.append(candidate.capitalize() if word.istitle() else candidate)
    return found


@pytest.mark.parametrize("count", [1, 4, 100])
def test_nearest_words_are_those_of_a_loop_over_the_vocabulary(masked: Path, count: int) -> None:
    tokenizer = load_tokenizer(str(masked))
    model, _ = load_language_model(str(masked))
    table = model.get_input_embeddings().weight.detach()
    left = {"the", "goat"}
    candidates = Candidates(tokenizer, table, None, count, 8, left)
    words = ["dog", "Cat", "cats", "painted", "кот", "fishing", "the"]
    vocabulary = tokenizer.get_vocab()
    for word, found in zip(words, candidates.nearest(words), strict=True):
        vectors = [table[vocabulary[piece]].tolist() for piece in tokenizer.tokenize(word)]
        mean = [sum(parts) / len(vectors) for parts in zip(*vectors, strict=True)]
        scores = {}
        for other in slow_words(tokenizer):
            vector = table[vocabulary[other]].tolist()
            dot = sum(a * b for a, b in zip(mean, vector, strict=True))
            scores[other] = dot / math.hypot(*mean) / math.hypot(*vector)
        scores = {other: score for other, score in scores.items() if other not in left}
        assert list(found) == slow_choice(word, scores, count), word
    assert len(tokenizer.tokenize("painted")) > 1
    assert candidates.nearest(["зебра", "dog"])[0] == (), "the vocabulary cannot spell it"
    assert set(candidates.near) == {*words, "зебра"}


@pytest.mark.parametrize("pair", [False, True])
def test_likeliest_words_are_those_of_one_masked_text_at_a_time(masked: Path, pair: bool) -> None:
    tokenizer = load_tokenizer(str(masked))
    model, head = load_language_model(str(masked))
    assert head
    model.eval()
    twin = AutoModelForMaskedLM.from_pretrained(masked).eval()
    candidates = Candidates(tokenizer, model.get_input_embeddings().weight.detach(), model, 5, 3)
    texts = ["The dog sees a Cat.", "a mouse paints the horse and the cow", "fish"]
    rows = [(text, "not the bird") if pair else (text,) for text in texts]
    read = Reader(tokenizer, 32).rows(rows)
    asked = [(row, n) for row in read for n in range(len(row.words)) if row.words[n].token >= 0]
    found = candidates.in_context([masked_of(tokenizer, row, n) for row, n in asked])
    assert len(asked) == (21 if pair else 12)
    for (row, n), words in zip(asked, found, strict=True):
        ids = torch.tensor([row.ids])
        ids[0, row.words[n].token] = tokenizer.mask_token_id
        with torch.no_grad():
            types = torch.tensor([row.types])
            logits = twin(input_ids=ids, token_type_ids=types).logits[0, row.words[n].token]
        scores = {word: float(logits[tokenizer.get_vocab()[word]]) for word in slow_words(tokenizer)}
        assert list(words) == slow_choice(row.word(n), scores, 5), row.word(n)


def test_the_head_is_given_the_masked_tokens_alone(masked: Path) -> None:
    """The scores of the whole vocabulary, for every token, are most of the work and of the memory."""
    tokenizer = load_tokenizer(str(masked))
    model, _ = load_language_model(str(masked))
    candidates = Candidates(tokenizer, model.get_input_embeddings().weight.detach(), model, 5, 3)
    shapes: list[Any] = []
    head: Any = model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape)))
    [row] = Reader(tokenizer, 32).rows([("The dog sees a cat",)])
    candidates.in_context([masked_of(tokenizer, row, n) for n in (0, 1, 2)])
    assert shapes == [(3, 1, len(tokenizer))]


def masked_of(tokenizer: Any, row: Read, number: int) -> Any:
    from contrastill.augmenting.candidates import Masked

    ids = [*row.ids]
    ids[row.words[number].token] = tokenizer.mask_token_id
    return Masked(row.word(number), ids, row.types, row.words[number].token)


# ---- texts as they are read


def test_a_word_knows_its_token_and_words_beyond_the_length_are_counted(masked: Path) -> None:
    tokenizer = load_tokenizer(str(masked))
    [row] = Reader(tokenizer, 8).rows([("The dogs, painted zebra cat fish bird",)])
    assert [row.word(n) for n in range(len(row.words))] == ["The", "dogs", "painted", "zebra"]
    assert [word.token for word in row.words] == [1, 2, -1, -1]
    assert row.beyond == 3, "cat, fish, bird"
    [whole] = Reader(tokenizer, 32).rows([("zebra cat",)])
    assert [word.token for word in whole.words] == [-1, 2], "an unknown word is no token of its own"


def test_all_but_the_replaced_words_stays_as_it_is(masked: Path) -> None:
    [row] = Reader(load_tokenizer(str(masked)), 32).rows([("  The dog,\tthe cat!", "a  cow ")])
    assert [row.word(n) for n in range(len(row.words))] == ["The", "dog", "the", "cat", "cow"]
    assert with_words(row, {1: "horse", 3: "x", 4: "bird"}) == ("  The horse,\tthe x!", "a  bird ")
    assert with_words(row, {}) == row.texts


# ---- the head


def test_a_model_has_a_head_if_its_weights_have_one(
    masked: Path, encoder: Path, classifier: Path, tmp_path: Path, write_model: Callable[..., Path]
) -> None:
    assert load_language_model(str(masked))[1]
    assert not load_language_model(str(encoder))[1]
    assert not load_language_model(str(classifier))[1]
    named = write_model(tmp_path / "named", BertModel)
    config = json.loads((named / "config.json").read_text())
    (named / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    assert not load_language_model(str(named))[1], "config.json names a head that the file lacks"


def test_a_head_that_lacks_a_part_is_none(masked: Path, tmp_path: Path) -> None:
    model = AutoModelForMaskedLM.from_pretrained(masked)
    state = {name: value for name, value in model.state_dict().items() if "transform.dense.bias" not in name}
    model.save_pretrained(tmp_path / "part", state_dict=state)
    load_tokenizer(str(masked)).save_pretrained(tmp_path / "part")
    assert not load_language_model(str(tmp_path / "part"))[1]
