"""The cache from ten thousand to a million sentences: time, memory, bytes on disk; one process and two.

    python benchmarks/scale.py --sentences FILE.txt.xz --tokenizer FOLDER     -> benchmarks/results/scale.json

Each build is a process of its own with one thread, into an empty folder; then once more over what is there. The
teacher is a random 1 x 384 encoder with mean pooling: what is measured is the machinery around it (reading, hashing,
batching, writing, the index), which a real teacher of the same width leaves as it is. Memory: the process's highest
resident size.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from contrastill.machine import describe_machine

BUILD = """
import json, re, sys, time
from pathlib import Path
from contrastill.training.cache_build import build_cache
from contrastill.processes import processes
start = time.perf_counter()
found = build_cache(teacher=sys.argv[1], texts=[sys.argv[2]], limit=int(sys.argv[3]), cache=sys.argv[4])
found["seconds"] = time.perf_counter() - start
found["peak_mb"] = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
Path(sys.argv[5] + "." + str(processes().process_index)).write_text(json.dumps(found))
"""


def make_teacher(tokenizer: str, folder: Path) -> None:
    import torch
    from sentence_transformers import SentenceTransformer, models
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    known = AutoTokenizer.from_pretrained(tokenizer)
    config = BertConfig(
        vocab_size=len(known), num_hidden_layers=1, hidden_size=384, num_attention_heads=12, intermediate_size=1536
    )
    BertModel(config).save_pretrained(folder / "bert")
    known.save_pretrained(folder / "bert")
    bert = models.Transformer(str(folder / "bert"), max_seq_length=128)
    SentenceTransformer(modules=[bert, models.Pooling(384)]).save(str(folder / "teacher"))


def build(teacher: Path, sentences: str, count: int, cache: Path, processes: int = 1) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        script, out = Path(folder) / "build.py", Path(folder) / "out"
        script.write_text(BUILD)
        launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
        command = [sys.executable, *launch, str(script), str(teacher), sentences, str(count), str(cache), str(out)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("out.*"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="of the last count but one")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scale.json")
    args = parser.parse_args()
    rows, two = [], {}
    with tempfile.TemporaryDirectory() as folder:
        make_teacher(args.tokenizer, Path(folder))
        teacher = Path(folder) / "teacher"
        for count in args.counts:
            cache = Path(folder) / f"cache{count}"
            (first,) = build(teacher, args.sentences, count, cache)
            (again,) = build(teacher, args.sentences, count, cache)
            rows.append(
                {
                    "sentences": count,
                    "seconds": first["seconds"],
                    "sentences_per_s": count / first["seconds"],
                    "peak_mb": first["peak_mb"],
                    "bytes_per_sentence": first["bytes"] / first["stored"]["vector"],
                    "teacher_forwards": first["teacher_forwards"],
                    "again": {key: again[key] for key in ("seconds", "peak_mb", "teacher_forwards")},
                }
            )
            print(rows[-1], flush=True)
        middle = args.counts[-2:][0]
        for processes in args.processes:
            found = build(teacher, args.sentences, middle, Path(folder) / f"p{processes}", processes)
            two[str(processes)] = {
                "seconds": max(one["seconds"] for one in found),
                "teacher_forwards": [one["teacher_forwards"] for one in found],
                "stored": found[0]["stored"]["vector"],
            }
        print(two, flush=True)
    seconds = [facts["seconds"] for facts in two.values()]
    result = {
        "command": "python benchmarks/scale.py --counts " + " ".join(map(str, args.counts)),
        "rows": rows,
        "processes": {"sentences": middle, **two, "ratio": seconds[0] / seconds[-1]},
        "memory_ratio": rows[-1]["peak_mb"] / rows[-2:][0]["peak_mb"],
        "machine": describe_machine(),
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
