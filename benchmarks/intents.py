"""A language model that writes the name of an intent beside an encoder that classifies: quality, time, size.

    python benchmarks/intents.py LM_RUN ENCODER_RUN FOLDER

LM_RUN and ENCODER_RUN are folders of finished runs, on FOLDER of `benchmarks/intents_as_text.py` and on the data it
was made of. Quality is from their metrics.json (dev; exact match is accuracy). Time is of one question, in PyTorch with
one thread, in turns, over 100 questions of dev: the language model writes until its end token.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from contrastill.machine import describe_machine

RESULT = Path(__file__).parent / "results" / "intents.json"
COUNT = 100  # questions that are timed, behind three that are not


def writer(run: Path) -> Callable[[str], Any]:
    tokenizer = AutoTokenizer.from_pretrained(run / "student")
    model = AutoModelForCausalLM.from_pretrained(run / "student").eval()

    def answer(prompt: str) -> str:
        read = tokenizer(prompt, return_tensors="pt")
        written = model.generate(**read, do_sample=False, max_new_tokens=14, pad_token_id=tokenizer.pad_token_id)
        return str(tokenizer.decode(written[0, read["input_ids"].shape[1] :], skip_special_tokens=True))

    return answer


def classifier(run: Path) -> Callable[[str], Any]:
    tokenizer = AutoTokenizer.from_pretrained(run / "student")
    model = AutoModelForSequenceClassification.from_pretrained(run / "student").eval()
    return lambda text: model(**tokenizer(text, return_tensors="pt")).logits.argmax().item()


def quality(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    student = metrics["student"]
    metric = metrics["metric"]
    about = {key: student[key] for key in ("parameters", "size_mb")}
    dev = student["dev"]
    return {"accuracy": dev["metrics"][metric], "interval": dev["interval"], **about, "seconds": metrics["seconds"]}


@torch.inference_mode()
def main() -> None:
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    lm, encoder, data = map(Path, sys.argv[1:])
    rows = [json.loads(line) for line in (data / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    names = {row["answer"] for row in rows}
    answers = {"language model": writer(lm), "encoder": classifier(encoder)}
    taken: dict[str, list[float]] = {name: [] for name in answers}
    unnamed = 0
    for n, row in enumerate(rows[:: len(rows) // (COUNT + 3)][: COUNT + 3]):
        for name, answer in answers.items():
            text = row["prompt"] if name == "language model" else row["prompt"].rpartition("\n")[0]
            begun = time.perf_counter()
            said = answer(text)
            taken[name].append(1000 * (time.perf_counter() - begun))
            unnamed += n >= 3 and name == "language model" and said not in names
    found = {
        name: quality(run) | {"ms": statistics.median(taken[name][3:])}
        for name, run in {"language model": lm, "encoder": encoder}.items()
    }
    found["language model"]["unnamed"] = unnamed / COUNT
    about = {"command": "python benchmarks/intents.py LM_RUN ENCODER_RUN FOLDER", "machine": describe_machine()}
    RESULT.write_text(json.dumps({**about, "rows": found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
