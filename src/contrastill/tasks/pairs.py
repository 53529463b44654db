"""Vectors of texts that belong together."""

from contrastill.tasks.embedding import Embedding

__all__ = ["Pairs"]


class Pairs(Embedding):
    """Vectors by which texts that belong together are found: an anchor, its positive and, perhaps, a hard negative.

    columns: the texts of a row, 2 or 3. A batch of B rows is one of `columns` B texts: all anchors, then all positives,
    then all hard negatives.
    """

    name = "pairs"
    per = "group"
    metrics = ("spearman",)

    def __init__(self, columns: int = 2) -> None:
        self.columns = columns
