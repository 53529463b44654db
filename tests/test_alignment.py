"""Places of tokens, and what a student's token takes of its teacher's, against plain loops over the text."""

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from contrastill.alignment import PARTS, carried, carried_pairs, overlaps, places
from contrastill.losses.attention import LEAST

TEXTS = [
    "Hello, world!  two  spaces",
    "naïve café — e\u0301te\u0301 and x\u0302y",
    "family 👩‍👧 flag 🇩🇪 thumbs 👍🏽 end",
    "混ぜた text と 日本語、한국어 ไทย",
    "مرحبا بالعالم Ωmega ﬁne ﷺ",
    " leading and trailing \t",
    "👍",
]
PAIR = ("soup é 👩‍👧", "日本 and é")


def trained(kind: Any, trainer: Any, pre: Any, normalizer: Any = None, pair: str = "<s> $A </s> $B </s>") -> Tokenizer:
    made = Tokenizer(kind)
    made.pre_tokenizer = pre
    if normalizer is not None:
        made.normalizer = normalizer
    made.train_from_iterator([*TEXTS, *PAIR] * 3, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair=pair, special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return made


SPECIAL: dict[str, Any] = {"special_tokens": ["<unk>", "<s>", "</s>"], "show_progress": False}


def wordpiece() -> Tokenizer:
    lowered = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    trainer = trainers.WordPieceTrainer(vocab_size=70, **SPECIAL)
    return trained(models.WordPiece(unk_token="<unk>"), trainer, pre_tokenizers.BertPreTokenizer(), lowered)


def unigram() -> Tokenizer:
    trainer = trainers.UnigramTrainer(vocab_size=90, unk_token="<unk>", max_piece_length=4, **SPECIAL)
    pair = "<s> $A </s> </s> $B </s>"
    return trained(models.Unigram(), trainer, pre_tokenizers.Metaspace(), normalizers.NFKC(), pair)


def in_bytes() -> Tokenizer:
    """Several tokens a character."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=262, initial_alphabet=alphabet, **SPECIAL)
    made = trained(models.BPE(), trainer, pre_tokenizers.ByteLevel(add_prefix_space=False))
    return made


KINDS = {"wordpiece": wordpiece, "unigram": unigram, "bytes": in_bytes}


def read(tokenizer: Tokenizer, *texts: str) -> Any:
    return tokenizer.encode(*texts)


def placed(encoding: Any, *texts: str) -> Any:
    return torch.from_numpy(places(encoding.offsets, encoding.sequence_ids, texts))


def shares(encoding: Any, *texts: str) -> list[set[tuple[Any, ...]]]:
    """Of each token the parts of characters that it shows, one by one; of a special token, which one it is."""
    tokens = list(zip(encoding.offsets, encoding.sequence_ids, strict=True))
    found: list[set[tuple[Any, ...]]] = []
    seen = specials = 0
    for n, ((start, end), owner) in enumerate(tokens):
        if owner is None:
            found.append({("special", seen, specials)})
            specials += 1
            continue
        seen, specials = owner + 1, 0
        span = trimmed(texts[owner], start, end)
        first, last = n, n
        while first and tokens[first - 1][1] == owner and trimmed(texts[owner], *tokens[first - 1][0]) == span:
            first -= 1
        while last + 1 < len(tokens) and tokens[last + 1][1] == owner:
            if trimmed(texts[owner], *tokens[last + 1][0]) != span:
                break
            last += 1
        parts = [(owner, place) for place in range(PARTS * span[0], PARTS * span[1])]
        count, own = last - first + 1, n - first
        found.append(set(parts[len(parts) * own // count : len(parts) * (own + 1) // count]))
    return found


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    if all(text[n].isspace() for n in range(start, end)):
        return start, end
    while text[start].isspace():
        start += 1
    while text[end - 1].isspace():
        end -= 1
    return start, end


@pytest.mark.parametrize("texts", [*((text,) for text in TEXTS), PAIR], ids=range(len(TEXTS) + 1))
@pytest.mark.parametrize("theirs", KINDS)
@pytest.mark.parametrize("ours", KINDS)
def test_a_token_takes_the_mean_of_those_that_show_its_characters(ours: str, theirs: str, texts: Any) -> None:
    student, teacher = read(KINDS[ours](), *texts), read(KINDS[theirs](), *texts)
    hidden = torch.randn(len(teacher.ids), 5, generator=torch.Generator().manual_seed(0))
    overlap = overlaps(placed(student, *texts)[None], placed(teacher, *texts)[None])
    got = carried(hidden[None], overlap)[0]
    of_teacher = shares(teacher, *texts)
    for n, mine in enumerate(shares(student, *texts)):
        met = [hidden[m] for m, other in enumerate(of_teacher) if mine & other]
        assert bool(overlap[0, n].any()) == bool(met)
        expected = torch.stack(met).mean(0) if met else torch.zeros(5)
        torch.testing.assert_close(got[n], expected)


@pytest.mark.parametrize("texts", [*((text,) for text in TEXTS), PAIR], ids=range(len(TEXTS) + 1))
@pytest.mark.parametrize(("ours", "theirs"), [("wordpiece", "unigram"), ("unigram", "bytes"), ("bytes", "wordpiece")])
def test_a_pair_takes_the_mean_of_those_pairs_that_may_look_at_each_other(ours: str, theirs: str, texts: Any) -> None:
    student, teacher = shares(read(KINDS[ours](), *texts), *texts), shares(read(KINDS[theirs](), *texts), *texts)
    overlap = torch.tensor([[[bool(mine & other) for other in teacher] for mine in student]])
    size = len(teacher)
    scores = torch.randn(1, 2, size, size, generator=torch.Generator().manual_seed(0))
    scores[0, 1, 0, 0] = -1e9  # of a single head: it is a score
    far = [(a, b) for a in range(size) for b in range(size) if abs(a - b) > 2]
    for a, b in far:  # a local layer's
        scores[0, :, a, b] = -1e4
    got = carried_pairs(scores, overlap)[0]
    assert got.shape == (2, len(student), len(student))
    for n, mine in enumerate(student):
        for m, other in enumerate(student):
            pairs = [
                (a, b)
                for a in range(size)
                for b in range(size)
                if mine & teacher[a] and other & teacher[b] and (a, b) not in far
            ]
            for head in range(2):
                met = [scores[0, head, a, b] for a, b in pairs]
                if met:
                    torch.testing.assert_close(got[head, n, m], torch.stack(met).mean())
                else:
                    assert got[head, n, m] <= LEAST


@pytest.mark.parametrize("texts", [*((text,) for text in TEXTS), PAIR], ids=range(len(TEXTS) + 1))
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_tokenizer_takes_each_token_for_itself(kind: str, texts: Any) -> None:
    encoding = read(KINDS[kind](), *texts)
    place = placed(encoding, *texts)
    shows = place[:, 0] < place[:, 1]
    overlap = overlaps(place[None], place[None])[0]
    assert shows[0]
    assert shows[-1]
    assert shows.float().mean() > 0.7
    if kind != "unigram":  # whose first sign for a blank shows the character behind it too
        assert torch.equal(overlap[shows][:, shows], torch.eye(int(shows.sum()), dtype=torch.bool))
        hidden = torch.randn(1, len(place), 3)
        assert torch.equal(carried(hidden, overlap[None])[0][shows], hidden[0][shows])
        scores = torch.randn(1, 2, len(place), len(place))
        assert torch.equal(
            carried_pairs(scores, overlap[None])[0][:, shows][:, :, shows], scores[0][:, shows][:, :, shows]
        )


def test_bytes_of_a_character_share_it_in_order() -> None:
    text = "é👍"
    offsets = [(0, 1), (0, 1), (1, 2), (1, 2), (1, 2), (1, 2)]
    got = places(offsets, [0] * 6, [text])
    assert got.tolist() == [[0, 6], [6, 12], [12, 15], [15, 18], [18, 21], [21, 24]]


def test_specials_have_partners_by_their_order_before_between_and_behind() -> None:
    one = places([(0, 0), (0, 1), (0, 0), (0, 1), (0, 0)], [None, 0, None, 1, None], ["a", "b"])
    other = places([(0, 0), (0, 1), (0, 0), (0, 0), (0, 1), (0, 0)], [None, 0, None, None, 1, None], ["a", "b"])
    overlap = overlaps(torch.from_numpy(one)[None], torch.from_numpy(other)[None])[0]
    assert overlap.nonzero().tolist() == [[0, 0], [1, 1], [2, 2], [3, 4], [4, 5]]


def test_padding_meets_nothing() -> None:
    place = torch.tensor([[[-1, 0], [0, 12], [0, 0]]])
    assert overlaps(place, place)[0].int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_half_precision_is_copied_exactly_under_autocast() -> None:
    place = torch.from_numpy(places([(0, 1), (1, 2), (2, 3)], [0, 0, 0], ["abc"]))[None]
    hidden = torch.randn(1, 3, 4).half()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(carried(hidden, overlaps(place, place)), hidden.float())
        scores = torch.randn(1, 2, 3, 3).half()
        assert torch.equal(carried_pairs(scores, overlaps(place, place)), scores.float())
