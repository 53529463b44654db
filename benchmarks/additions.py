"""Makes additions as text, and two language models with random weights that learn them.

    python benchmarks/additions.py FOLDER

A problem is two numbers of two digits; the answer's lowest digit comes first, so that carrying is local: 47+85= is 231.
FOLDER/many has 8,500 problems to learn from, FOLDER/few 300 of them; both have the same 500 for dev and 1,000 for test.
FOLDER/large (187 thousand parameters) and FOLDER/small (21 thousand) are Llamas with a token for each character.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<end>"
WORDS = {word: n for n, word in enumerate([*"0123456789+=", END])}


def problem(number: int) -> dict[str, str]:
    first, second = divmod(number, 100)
    return {"prompt": f"{first:02d}+{second:02d}=", "answer": f"{first + second:03d}"[::-1]}


def make_data(folder: Path) -> None:
    rows = [problem(n) for n in torch.randperm(10_000, generator=torch.Generator().manual_seed(0)).tolist()]
    scored = {"test": rows[:1000], "dev": rows[1000:1500]}
    for name, train in (("many", rows[1500:]), ("few", rows[1500:1800])):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for split, some in {"train": train, **scored}.items():
            lines = "".join(json.dumps(row) + "\n" for row in some)
            (folder / name / f"{split}.jsonl").write_text(lines, encoding="utf-8")


def make_model(folder: Path, width: int) -> None:
    made = Tokenizer(models.WordLevel(WORDS, unk_token=END))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END, model_max_length=32)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=WORDS[END],
        pad_token_id=WORDS[END],
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    make_data(folder)
    make_model(folder / "large", 96)
    make_model(folder / "small", 32)
    print(f"{folder}: many, few, large, small")


if __name__ == "__main__":
    main()
