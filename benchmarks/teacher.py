"""The teacher's pass over a corpus: ours into the cache, beside sentence-transformers' `encode` and a plain loop.

    python benchmarks/teacher.py --teacher sentence-transformers/all-mpnet-base-v2 --sentences FILE.txt.xz \\
        --peer-python peers/st/bin/python      -> benchmarks/results/teacher.json

Sentences of a mixed-length corpus a second, from text to vectors; ours writes them to disk too. Loading is left out.
`encode` runs in an environment of its own (benchmarks/peers/requirements-sentence-transformers.txt), a process a turn;
the sides take turns. The plain loop: batches of 32 as they come, padded to the longest, float32. Cosine: our stored
vectors (bfloat16 pass, float16 on disk) with the plain loop's float32 ones.
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from step import matrix_rate

from contrastill.data.collate import Collate
from contrastill.data.corpus import teacher_rows
from contrastill.data.stream import stream_texts
from contrastill.encoder import Wanted
from contrastill.loading import load_embedder
from contrastill.machine import describe_machine
from contrastill.teachers import CachedTeacher, keys_of
from contrastill.teachers.embedder import FrozenEmbedder


def ours(model: Any, texts: list[str], folder: Path) -> tuple[float, np.ndarray]:
    """Sentences a second, and the vectors as stored."""
    teacher = CachedTeacher(FrozenEmbedder(model), Wanted(pooled=True), folder)
    start = time.perf_counter()
    rows = teacher_rows(texts, model.tokenizer, 128)
    teacher.fill([rows], Collate(model.tokenizer), total=len(rows))
    seconds = time.perf_counter() - start
    (store,) = teacher.stores.values()
    return len(texts) / seconds, np.stack([store.read(int(row))[0] for row in store.find(keys_of(rows))])


@torch.inference_mode()
def plain(model: Any, texts: list[str]) -> tuple[float, np.ndarray]:
    start, found = time.perf_counter(), []
    for n in range(0, len(texts), 32):
        batch = model.tokenizer(texts[n : n + 32], padding=True, truncation=True, max_length=128, return_tensors="pt")
        found.append(model(dict(batch))["sentence_embedding"])
    return len(texts) / (time.perf_counter() - start), torch.cat(found).numpy()


def peer(python: str, teacher: str, texts: list[str], batch_size: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "sentences.txt", Path(folder) / "out.json"
        file.write_text("\n".join(texts) + "\n")
        script = Path(__file__).parent / "peers" / "sentence_transformers_encode.py"
        command = [python, str(script), "--teacher", teacher, "--sentences", str(file), "--out", str(out), "--bf16"]
        subprocess.run([*command, "--batch-size", str(batch_size)], check=True, capture_output=True)
        return json.loads(out.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--sentences", required=True)
    parser.add_argument("--peer-python", required=True, help="of the environment with sentence-transformers")
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "teacher.json")
    args = parser.parse_args()
    model = load_embedder(args.teacher)
    texts = [text for _, text in zip(range(args.count), stream_texts(args.sentences), strict=False)]
    lengths = [len(ids) for ids in model.tokenizer(texts, truncation=True, max_length=128)["input_ids"]]
    weights = sum(p.numel() for name, p in model.named_parameters() if "embeddings" not in name)
    names = ("plain loop, float32", "encode, bfloat16", "encode, bfloat16, batches of 128", "contrastill")
    turns: dict[str, list[float]] = {name: [] for name in names}
    rates: list[float] = []
    cosine = versions = None
    for turn in range(args.rounds):
        rates.append(matrix_rate())
        for name in sorted(names, reverse=bool(turn % 2)):
            if name == "contrastill":
                with tempfile.TemporaryDirectory() as folder:
                    pace, vectors = ours(model, texts, Path(folder))
            elif name.startswith("plain"):
                pace, exact = plain(model, texts[: args.count // 4])
            else:
                found = peer(args.peer_python, args.teacher, texts, 128 if "128" in name else 32)
                pace, versions = found["sentences_per_s"], found["versions"]
            turns[name].append(pace)
        a, b = vectors[: len(exact)].astype(np.float64), exact.astype(np.float64)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        print({name: round(values[-1], 1) for name, values in turns.items()}, flush=True)
    assert cosine is not None
    medians = {name: statistics.median(values) for name, values in turns.items()}
    rate = statistics.median(rates)
    result = {
        "command": f"python benchmarks/teacher.py --count {args.count} --rounds {args.rounds}",
        "teacher": Path(args.teacher).name,
        "tokens": {"mean": float(np.mean(lengths)), "p95": float(np.percentile(lengths, 95)), "most": max(lengths)},
        "sentences_per_s": medians,
        "contrastill_over": {name: medians["contrastill"] / value for name, value in medians.items()},
        "share_of_matrix_rate": {name: v * 2 * weights * np.mean(lengths) / rate for name, v in medians.items()},
        "matrix_rate_tflops": rate / 1e12,
        "cosine_with_float32": {"mean": float(cosine.mean()), "least": float(cosine.min())},
        "turns": turns,
        "peer_versions": versions,
        "machine": describe_machine(),
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps({k: result[k] for k in ("sentences_per_s", "contrastill_over", "cosine_with_float32")}, indent=2))


if __name__ == "__main__":
    main()
