"""`SentenceTransformer.encode` over a file of sentences: sentences a second, loading left out.

python sentence_transformers_encode.py --teacher DIR --sentences FILE --bf16 --batch-size 32 --out FILE.json
"""

import argparse
import json
import time
from importlib.metadata import version
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sentences = args.sentences.read_text().splitlines()
    model = SentenceTransformer(
        args.teacher, device="cpu", model_kwargs={"dtype": torch.bfloat16 if args.bf16 else torch.float32}
    )
    model.encode(sentences[:64], batch_size=args.batch_size)
    start = time.perf_counter()
    model.encode(sentences, batch_size=args.batch_size, convert_to_numpy=False, convert_to_tensor=True)
    seconds = time.perf_counter() - start
    versions = {name: version(name) for name in ("sentence-transformers", "torch", "transformers")}
    args.out.write_text(json.dumps({"sentences_per_s": len(sentences) / seconds, "versions": versions}))


if __name__ == "__main__":
    main()
