"""Random models and made-up texts, of any size, for what is measured where nothing can be downloaded.

Shapes: L tokens, D width.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Sizes:
    teacher: tuple[int, int, int, int] = (12, 768, 12, 3072)  # layers, width, heads, feed-forward
    student: str = "4L-312"
    classes: int = 77
    words: int = 30_000
    length: int = 128  # tokens of a long text
    long: int = 32_768  # texts of `length`
    mixed: int = 65_536  # texts of 8 to `length` tokens, most of them short
    trained: int = 1_024  # texts of a run on labels
    corpus: int = 32_768  # texts of a run on vectors
    queue: int = 16_384
    batches: tuple[int, ...] = (32, 256)
    steps: int = 400  # of the smaller batch; of the larger half as many
    compared: int = 50  # steps in bfloat16 and in float32
    matrix: int = 8_192
    alone: int = 65_536  # tokens of the batch on which the teacher is timed alone


TINY = Sizes((2, 32, 4, 64), "2/16/4/32", 4, 300, 16, 64, 96, 64, 96, 64, (8,), 12, 6, 256, 512)


class Workplace:
    """Random models and made-up texts, in a folder of their own."""

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self.folder, self.sizes = folder, sizes
        rng = np.random.default_rng(0)
        known = {"".join(rng.choice(list(LETTERS), 6)) for _ in range(sizes.words)}
        self.words = np.array(sorted(known))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        vocabulary = {w: n for n, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *self.words])}
        made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
        names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
        return PreTrainedTokenizerFast(
            tokenizer_object=made,
            model_max_length=512,
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
            **{f"{name}_token": token for name, token in names.items()},
        )

    def config(self, **more: Any) -> BertConfig:
        layers, width, heads, inner = self.sizes.teacher
        return BertConfig(
            vocab_size=len(self.words) + 5,
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=heads,
            intermediate_size=inner,
            **more,
        )

    @cached_property
    def teacher(self) -> Path:
        """A classifier without dropout, and so is its student: losses can be compared."""
        torch.manual_seed(0)
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        names = {n: f"class{n}" for n in range(self.sizes.classes)}
        model = BertForSequenceClassification(self.config(id2label=names, **still))
        return self.saved("teacher", model)

    @cached_property
    def embedder(self) -> Path:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Pooling, Transformer

        torch.manual_seed(1)
        bert = Transformer(str(self.saved("encoder", BertModel(self.config()))), max_seq_length=512)
        pooling = Pooling(self.sizes.teacher[1])
        SentenceTransformer(modules=[bert, pooling], device="cpu").save(str(self.folder / "embedder"))
        return self.folder / "embedder"

    def saved(self, name: str, model: Any) -> Path:
        model.save_pretrained(self.folder / name)
        self.tokenizer.save_pretrained(self.folder / name)
        return self.folder / name

    def texts(self, count: int, mixed: bool = False, seed: int = 0) -> list[str]:
        """Of `length` tokens each; or mixed: log-normal about a quarter of that."""
        rng, longest = np.random.default_rng(seed), self.sizes.length - 2
        lengths = np.full(count, longest)
        if mixed:
            lengths = np.clip(rng.lognormal(np.log(longest / 5), 0.6, count).round(), 4, longest).astype(int)
        words = rng.choice(self.words, int(lengths.sum())).tolist()
        ends = np.cumsum(lengths)
        return [" ".join(words[end - n : end]) for end, n in zip(ends.tolist(), lengths.tolist(), strict=True)]

    @cached_property
    def data(self) -> Path:
        """A task: `trained` rows for training, few for dev and test."""
        folder = self.folder / "data"
        folder.mkdir()
        few = 2 * self.sizes.classes
        for seed, (split, count) in enumerate({"train": self.sizes.trained, "dev": few, "test": few}.items()):
            texts = self.texts(count, seed=10 + seed)
            lines = [f"{text},class{n % self.sizes.classes}" for n, text in enumerate(texts)]
            (folder / f"{split}.csv").write_text("\n".join(["text,label", *lines]) + "\n")
        return folder

    @cached_property
    def corpus(self) -> Path:
        (self.folder / "corpus.txt").write_text("\n".join(self.texts(self.sizes.corpus, mixed=True, seed=5)) + "\n")
        return self.folder / "corpus.txt"


def per_token(module: nn.Module) -> int:
    """Weights of the linear layers that each token passes: those in its stack of layers."""
    stacks = [m for m in module.modules() if isinstance(m, nn.ModuleList)]
    layers = {m for stack in stacks for m in stack.modules() if isinstance(m, nn.Linear)}
    return sum(layer.weight.numel() for layer in layers)


def operations(model: nn.Module, lengths: np.ndarray) -> float:
    """Of a forward pass over texts of these lengths: 2 a weight and token, and 4 L^2 D a layer for attention."""
    config: Any = model.config
    n = np.asarray(lengths, np.float64)
    return 2 * per_token(model) * n.sum() + config.num_hidden_layers * 4 * config.hidden_size * (n**2).sum()
