"""Text of one or two causal language models: exact, in batches, with key-value caches.

Randomness is one uniform number a place (`uniform`): an answer depends on its prompt, its numbers and the models alone,
not on the other rows, on padding, or on the number of tokens drafted at once.
"""

from contrastill.sampling.cache import Reader
from contrastill.sampling.decoding import Decoding
from contrastill.sampling.numbers import uniform
from contrastill.sampling.speculative import interleave
from contrastill.sampling.text import Text, sample

__all__ = ["Decoding", "Reader", "Text", "interleave", "sample", "uniform"]
