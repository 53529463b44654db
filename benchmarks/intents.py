"""Language models that write the name of an intent beside an encoder that classifies: quality, time, size.

    python benchmarks/intents.py FOLDER NAME=RUN NAME=RUN …

RUN is the folder of a finished run, of a language model on FOLDER of `benchmarks/intents_as_text.py`, or of an encoder
on the data that it was made of. Quality is from its metrics.json (dev; exact match is accuracy). Time is of one
question, in PyTorch with one thread, in turns, over 100 questions of dev: a language model writes until its end token.
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

from contrastill.cli.options import pairs_of
from contrastill.machine import describe_machine

RESULT = Path(__file__).parent / "results" / "intents.json"
COUNT = 100  # questions that are timed, behind three that are not


def writer(model: Path) -> Callable[[str], Any]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    writes = AutoModelForCausalLM.from_pretrained(model).eval()

    def answer(prompt: str) -> str:
        read = tokenizer(prompt, return_tensors="pt")
        written = writes.generate(**read, do_sample=False, max_new_tokens=14, pad_token_id=tokenizer.pad_token_id)
        return str(tokenizer.decode(written[0, read["input_ids"].shape[1] :], skip_special_tokens=True))

    return answer


def classifier(model: Path) -> Callable[[str], Any]:
    tokenizer = AutoTokenizer.from_pretrained(model)
    reads = AutoModelForSequenceClassification.from_pretrained(model).eval()
    return lambda text: reads(**tokenizer(text, return_tensors="pt")).logits.argmax().item()


def quality(metrics: dict[str, Any]) -> dict[str, Any]:
    model = metrics.get("student") or metrics["model"]
    about = {key: model[key] for key in ("parameters", "size_mb")}
    dev = {"accuracy": model["dev"]["metrics"][metrics["metric"]], "interval": model["dev"]["interval"]}
    return {**dev, **about, "seconds": metrics["seconds"]}


@torch.inference_mode()
def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    data, runs = Path(sys.argv[1]), {name: Path(run) for name, run in pairs_of(sys.argv[2:], "run").items()}
    rows = [json.loads(line) for line in (data / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    known = {row["answer"] for row in rows}
    found: dict[str, dict[str, Any]] = {}
    answers: dict[str, Callable[[str], Any]] = {}
    for name, run in runs.items():
        metrics = json.loads((run / "metrics.json").read_text())
        found[name] = quality(metrics)
        model = next(run / kind for kind in ("student", "model") if (run / kind).is_dir())
        answers[name] = writer(model) if metrics["metric"] == "exact_match" else classifier(model)
        if metrics["metric"] == "exact_match":
            found[name]["unnamed"] = 0
    taken: dict[str, list[float]] = {name: [] for name in answers}
    for n, row in enumerate(rows[:: len(rows) // (COUNT + 3)][: COUNT + 3]):
        for name, answer in answers.items():
            writes = "unnamed" in found[name]
            text = row["prompt"] if writes else row["prompt"].rpartition("\n")[0]
            begun = time.perf_counter()
            said = answer(text)
            taken[name].append(1000 * (time.perf_counter() - begun))
            if writes and n >= 3:
                found[name]["unnamed"] += said not in known
    for name, times in taken.items():
        found[name]["ms"] = statistics.median(times[3:])
        if "unnamed" in found[name]:
            found[name]["unnamed"] /= COUNT
    about = {"command": "python benchmarks/intents.py FOLDER NAME=RUN …", "machine": describe_machine()}
    RESULT.write_text(json.dumps({**about, "rows": found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
