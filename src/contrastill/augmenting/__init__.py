"""Further texts without labels, made of training texts by other words in place of some. TinyBERT, arXiv:1909.10351."""

from contrastill.augmenting.run import Augmented, augment

__all__ = ["Augmented", "augment"]
