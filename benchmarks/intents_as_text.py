"""Makes BANKING77 a task of text: the question is the prompt, the name of its intent the answer.

    python benchmarks/intents_as_text.py demo/banking77 FOLDER

FOLDER has train.jsonl and dev.jsonl, of the rows that `contrastill distill --data demo/banking77` trains and scores on.
"""

import json
import sys
from pathlib import Path

from contrastill.data.load import load_task


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data, target = load_task(sys.argv[1]), Path(sys.argv[2])
    names = data.schema.labels
    target.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev"):
        rows = data.splits[split]
        answers = (f" {names[label].replace('_', ' ')}" for label in rows["label"])
        lines = [
            json.dumps({"prompt": f"{text}\nintent:", "answer": answer}, ensure_ascii=False) + "\n"
            for text, answer in zip(rows["text"], answers, strict=True)
        ]
        (target / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
