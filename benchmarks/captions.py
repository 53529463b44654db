"""Makes captions to go on with: the first four words of each are the prompt, the others its answer.

    python benchmarks/captions.py MULTI30K FOLDER

MULTI30K has train.captions.tsv and val.captions.tsv, all captions of an image in each line; the first one is taken.
FOLDER/many has 4,000 to learn from (for the teacher), FOLDER/few the first 2,000 of them; both have the same 200 for
dev.
"""

import json
import sys
from pathlib import Path

PROMPT = 4  # words
SPLITS = {"train": ("train", 4000), "dev": ("val", 200)}


def captions(file: Path, count: int) -> list[dict[str, str]]:
    """The first captions of a file that have two words or more behind their prompt."""
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        words = line.split("\t")[0].split()
        if len(words) >= PROMPT + 2 and len(rows) < count:
            rows.append({"prompt": " ".join(words[:PROMPT]), "answer": " " + " ".join(words[PROMPT:])})
    return rows


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    found = {split: captions(source / f"{name}.captions.tsv", count) for split, (name, count) in SPLITS.items()}
    for name, train in (("many", found["train"]), ("few", found["train"][:2000])):
        (target / name).mkdir(parents=True, exist_ok=True)
        for split, rows in {**found, "train": train}.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (target / name / f"{split}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
