"""A tokenizer whose tokens lie within words."""

import copy
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Regex, pre_tokenizers
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.loading.models import load_tokenizer
from contrastill.spans import NO_SPACES

__all__ = ["split_words"]

BETWEEN = rf"{NO_SPACES}|[^\p{{L}}\p{{N}}\p{{M}}\s\x{{2581}}]"  # but not the sign for a blank, which begins a word
SAMPLE = "浙商银行》，(Höhe) a-b 東京タワー"


def split_words(tokenizer: Tokenizer) -> Tokenizer | None:
    """A copy whose tokens lie within words: it splits around punctuation, and around each character of a script
    without spaces. None: this tokenizer would not be the same when it is loaded again."""
    made: Any = copy.deepcopy(tokenizer)
    backend = made._tokenizer
    split = pre_tokenizers.Split(Regex(BETWEEN), "isolated")
    known = [] if backend.pre_tokenizer is None else [backend.pre_tokenizer]
    in_bytes = "ByteLevel" in str(backend.pre_tokenizer)  # behind it there are no characters left to look at
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, *known] if in_bytes else [*known, split])
    with TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        again = load_tokenizer(folder)
    return made if again(SAMPLE)["input_ids"] == made(SAMPLE)["input_ids"] else None
