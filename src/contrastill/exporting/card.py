"""The bundle's README.md: its origin, the gate's measurements, and the lines that run it."""

from typing import Any

from contrastill.answers import answer_of
from contrastill.bundle import megabytes
from contrastill.errors import counted

__all__ = ["bundle_card", "snippet"]

RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}


def snippet(metadata: dict[str, Any], folder: str = "FOLDER") -> str:
    """Python that runs the bundle with its runtime, `tokenizers` and numpy alone."""
    runtime, file, output = metadata["runtime"], metadata["file"], metadata["output"]
    texts = '"a text", "another text"' if metadata["texts"] == 1 else '("a text", "its pair"), ("another", "its pair")'
    if metadata["prompt"]:
        texts = ", ".join(repr(metadata["prompt"] + text) for text in ("a text", "another text"))
    parts = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    read = ", ".join(f'"{name}": "{parts[name]}"' for name in metadata["inputs"])
    if runtime == "onnxruntime":
        load = f'model = onnxruntime.InferenceSession(f"{{folder}}/{file}")'
        run = f'answers = model.run(["{output}"], inputs)[0]'
    else:
        exact = ', {"INFERENCE_PRECISION_HINT": "f32"}' if metadata["precision"] == "fp32" else ""
        load = f'model = openvino.compile_model(f"{{folder}}/{file}", "CPU"{exact})'
        run = f'answers = model(inputs)["{output}"]'
    if answer_of(metadata).per_word:
        return tagging_snippet(metadata, folder, load, run)
    show = "print(answers)"
    if metadata["labels"]:
        show = 'about = json.load(open(f"{folder}/bundle.json", encoding="utf-8"))\n'
        if metadata.get("thresholds"):
            show += 'known = list(zip(about["labels"], about["thresholds"]))\n'
            show += "print([[name for (name, least), p in zip(known, row) if p > least] for row in answers])"
        else:
            show += 'print([(about["labels"][row.argmax()], row.max()) for row in answers])'
    return "\n".join(
        [
            *(["import json"] if metadata["labels"] else []),
            f"import numpy as np\nimport {runtime}",
            "from tokenizers import Tokenizer",
            "",
            f"folder = {folder!r}",
            'tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")',
            load,
            f"texts = tokenizer.encode_batch([{texts}])",
            f"read = {{{read}}}",
            "inputs = {name: np.array([getattr(text, part) for text in texts]) for name, part in read.items()}",
            run,
            show,
        ]
    )


def tagging_snippet(metadata: dict[str, Any], folder: str, load: str, run: str) -> str:
    """As `snippet`, of a tagger: `spans.py` of the bundle reads a text of any length and decodes its tags."""
    parts = {"input_ids": "part.ids", "attention_mask": "[1] * len(part.ids)", "token_type_ids": "part.types"}
    read = ", ".join(f'"{name}": np.array([{parts[name]}])' for name in metadata["inputs"])
    return f"""import json
import sys
import numpy as np
import {metadata["runtime"]}
from tokenizers import Tokenizer

folder = {folder!r}
sys.path.insert(0, folder)
from spans import Scheme, merged, read  # of this folder: numpy and tokenizers alone

about = json.load(open(f"{{folder}}/bundle.json", encoding="utf-8"))
tokenizer = Tokenizer.from_file(f"{{folder}}/tokenizer.json")
tokenizer.no_truncation()
tokenizer.no_padding()
{load}
text = "a text, of any length"
reading = read(tokenizer.encode(text), text, about["max_length"])
found = []
for part in reading.windows:
    inputs = {{{read}}}
    {run}
    found.append(answers[0][part.places])
for span in merged(reading, found).spans(Scheme(about["labels"])):
    print(text[span.start : span.end], span)"""


def bundle_card(metadata: dict[str, Any]) -> str:
    gate, size = metadata["gate"], megabytes(metadata)
    answer = answer_of(metadata)
    answers = answer.words
    length = (
        f"of up to {metadata['max_length']} tokens"
        if not answer.per_word
        else (f"of any length, in overlapping parts of {metadata['max_length']} tokens")
    )
    made = f", int8 by the recipe `{metadata['recipe']}`" if metadata["recipe"] else ""
    origin = f", a student of `{metadata['teacher']}`" if metadata["teacher"] else ""
    return f"""---
library_name: {"onnx" if metadata["runtime"] == "onnxruntime" else "openvino"}
tags: [contrastill, knowledge-distillation]
---

# {metadata["name"]}, {metadata["precision"]} for {RUNTIMES[metadata["runtime"]]}

`{metadata["name"]}`{origin}: {metadata["parameters"]:,} parameters in {size:.1f} MB{made}. One graph from tokens to
{answers}; {"pairs of texts" if metadata["texts"] == 2 else "texts"} {length}.

{quality(gate)}

```python
{snippet(metadata, "PATH OF THIS FOLDER")}
```

{abstaining(metadata)}`contrastill verify THIS-FOLDER --data DATA` checks the files and measures the quality again;
`contrastill serve THIS-FOLDER` answers over HTTP. `bundle.json` holds all of this for programs.
"""


def abstaining(metadata: dict[str, Any]) -> str:
    """The paragraph on the threshold, where there is one."""
    found = metadata.get("abstain")
    if found is None:
        return ""
    shown, rows = f"at least {found['low']:.1%}", f"{found['coverage']:.1%} of {found['rows']:,} texts"
    return (
        f"**When it may answer alone:** where the largest probability is {found['threshold']:.4f} or more. On "
        f"{found['data']} these are {rows}, {found['accuracy']:.1%} of them right; of such texts {shown} are right "
        f"with {found['level']:.0%} confidence, if they come as those did. Below it `contrastill predict` and "
        '`contrastill serve` answer with `"abstain": true`.\n\n'
    )


def quality(gate: dict[str, Any] | None) -> str:
    if gate is None:
        return "No examples were given when it was exported: the loss of quality was **not measured**."
    alike, pace = gate["agreement"], gate["latency_ms"]
    longer = "read in parts" if "types" in gate else "cut"
    rows = [
        ("", "the model in torch, float32", "this file"),
        (f"{gate['metric']} x 100", f"{100 * gate['torch']:.2f}", f"{100 * gate['bundle']:.2f}"),
    ]
    if not pace["doubt"]:
        rows.append(("one text, ms (median)", f"{pace['torch_p50']:.2f}", f"{pace['bundle_p50']:.2f}"))
    rows[2:2] = [
        (f"F1 of {kind} x 100", f"{100 * one['torch']:.2f}", f"{100 * one['bundle']:.2f}")
        for kind, one in gate.get("types", {}).items()
    ]
    if "calibration" in gate:
        before, after = (gate["calibration"][who] for who in ("torch", "bundle"))
        name = f"calibration error ({after['by_chance']:.1%} by chance)"
        rows.append((name, f"{before['error']:.1%}", f"{after['error']:.1%}"))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|---|---|")
    same = alike["equal_labels"]
    return "\n".join(
        [
            f"Measured on {gate['data']} ({gate['rows']:,} texts, {gate['cut_share']:.1%} of them {longer}, "
            f"{counted(pace['threads'], 'thread')}):",
            "",
            *lines,
            "",
            f"Answers differ by {alike['max_abs_difference']:.4f} at most"
            + (
                f"; cosine {alike['cosine_mean']:.4f} on average, {alike['cosine_min']:.4f} at least"
                if alike["cosine_mean"] is not None
                else ""
            )
            + (
                f"; {same:.2%} of the texts get the same {'entities' if 'types' in gate else 'label'}."
                if same is not None
                else "."
            ),
            *([f"Speed is not stated, as {pace['doubt']}."] if pace["doubt"] else []),
        ]
    )
