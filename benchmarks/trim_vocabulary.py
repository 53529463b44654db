"""A multilingual model with the vocabulary of the texts of one task: what it saves, and what it costs on other texts.

    python benchmarks/trim_vocabulary.py --model multilingual-e5-small --data MOBIE/conll
                                            -> benchmarks/results/trim_vocabulary.json

Texts: the sentences of train.conll2003, dev and test (tokens joined by blanks). The vocabulary is that of train. Of dev
and test: sentences split otherwise, unknown tokens, tokens a text; on all three the cosine of the trimmed model's
vectors (the mean of a text's tokens) with the whole model's.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from multilabel import sentences
from transformers import PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.loading import load_encoder, load_tokenizer
from contrastill.machine import describe_machine
from contrastill.vocabulary import trim

LENGTH = 128  # tokens


@torch.inference_mode()
def vectors(model: PreTrainedModel, tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """(N, D) unit vectors."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    found = torch.empty(len(texts), model.config.hidden_size)
    for n in range(0, len(order), 32):
        some = order[n : n + 32]
        batch = tokenizer(
            [texts[row] for row in some], padding=True, truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        mask = batch["attention_mask"].unsqueeze(2)
        found[some] = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
    return F.normalize(found, dim=1)


def cosines(one: torch.Tensor, other: torch.Tensor) -> dict[str, float]:
    found = (one * other).sum(1)
    return {"mean": float(found.mean()), "least": float(found.min()), "1 %": float(found.quantile(0.01))}


def megabytes(model: PreTrainedModel, tokenizer: Tokenizer) -> dict[str, float]:
    """Of the files of the saved model, weights in float32."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {file.name: file.stat().st_size / 1e6 for file in sorted(Path(folder).iterdir())}


def described(model: PreTrainedModel, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "pieces": len(tokenizer),
        "parameters": model.num_parameters(),
        "megabytes": megabytes(model, tokenizer),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with train, dev and test.conll2003")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "trim_vocabulary.json")
    args = parser.parse_args()
    texts = {
        split: [row["text"] for row in sentences(args.data / f"{split}.conll2003")]
        for split in ("train", "dev", "test")
    }
    tokenizer, model = load_tokenizer(args.model), load_encoder(args.model).eval()
    whole = described(model, tokenizer)
    before = {split: vectors(model, tokenizer, some) for split, some in texts.items()}
    start = time.perf_counter()
    smaller, told = trim(model, tokenizer, texts["train"], texts["dev"])
    seconds = time.perf_counter() - start
    splits = {}
    for split, some in texts.items():
        pieces = [
            [each.convert_ids_to_tokens(each(text)["input_ids"]) for text in some] for each in (tokenizer, smaller)
        ]
        ids = [[each(text)["input_ids"] for text in some] for each in (tokenizer, smaller)]
        unknown = [each.unk_token_id for each in (tokenizer, smaller)]
        counts = [sum(map(len, rows)) for rows in pieces]
        splits[split] = {
            "texts": len(some),
            "split_otherwise": float(np.mean([a != b for a, b in zip(*pieces, strict=True)])),
            "tokens_a_text": [count / len(some) for count in counts],
            "unknown_tokens": [sum(row.count(n) for row in rows) for rows, n in zip(ids, unknown, strict=True)],
            "cosine": cosines(before[split], vectors(model, smaller, some)),
        }
        print(split, json.dumps(splits[split]), flush=True)
    found = {
        "command": f"python benchmarks/trim_vocabulary.py --model {Path(args.model).name} --data MOBIE/conll",
        "machine": describe_machine(),
        "model": Path(args.model).name,
        "whole": whole,
        "trimmed": described(model, smaller),
        "seconds_to_trim": round(seconds, 1),
        "report_on_dev": asdict(told),
        "splits": splits,
    }
    args.out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps({name: found[name] for name in ("whole", "trimmed", "seconds_to_trim")}, indent=1))


if __name__ == "__main__":
    main()
