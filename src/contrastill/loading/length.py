"""The limit in tokens at which texts are cut."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.errors import UserError
from contrastill.loading.place import run_settings

__all__ = ["SCORED", "TRAINED", "Length", "check_length", "input_length", "positions"]

TRAINED, SCORED = 128, 512  # tokens that are read at most, where neither the user nor a run says how many

BEHIND_PADDING = {  # families whose positions begin behind the padding index
    "camembert", "data2vec-text", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm",
    "xlm-roberta", "xlm-roberta-xl", "xmod",
}  # fmt: skip


@dataclass(frozen=True)
class Length:
    """A limit in tokens, and why it is that."""

    tokens: int
    why: str

    def __str__(self) -> str:
        return f"{self.tokens} tokens ({self.why})"

    def cutting(self, share: float, longer: str = "are cut") -> str:
        """The sentence of a record: the limit, the share of texts beyond it, and what happens to them."""
        return f"{self}; {share:.1%} of the texts {longer}"


def input_length(
    asked: int | None, name: str, tokenizer: Tokenizer, config: Any, bound: int = TRAINED, *others: Tokenizer
) -> Length:
    """The length at which texts are cut for the model `name`.

    That is `asked`, else the length of the run that made the model, else the smaller of the model's own limit (of its
    tokenizer, for a sentence-embedding model its `max_seq_length`, and its positions) and `bound`.

    others: tokenizers of models that read the same texts; the smallest limit counts.

    Raises:
        UserError: the length leaves no room for text, or is more than the model can read.
    """
    if asked is not None:
        for each in (tokenizer, *others):
            check_length(asked, each)
        return Length(asked, "as asked for")
    limits = [each.model_max_length for each in (tokenizer, *others)]
    own = min(*limits, positions(config) or limits[0])
    run = run_settings(name).get("max_length")
    if isinstance(run, int) and not isinstance(run, bool) and 0 < run <= own:
        return Length(run, "as in the run that made the model")
    return Length(int(own), "the model's own limit") if own <= bound else Length(bound, "the default")


def check_length(max_length: int, tokenizer: Tokenizer) -> None:
    least = tokenizer.num_special_tokens_to_add() + 1
    if not least <= max_length <= tokenizer.model_max_length:
        raise UserError(f"expected a max_length from {least} to {tokenizer.model_max_length}, got {max_length}")


def positions(config: Any) -> int | None:
    """The tokens a model has positions for; None: any number."""
    room = getattr(config, "max_position_embeddings", None)
    if room is not None and config.model_type in BEHIND_PADDING:
        padding = 1 if config.model_type == "mpnet" else config.pad_token_id  # MPNet's is fixed
        room -= (1 if padding is None else padding) + 1
    return room
