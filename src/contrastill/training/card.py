"""The model card beside a trained model."""

from dataclasses import dataclass

from contrastill.report.words import METRICS
from contrastill.results import YARDSTICKS, RunResult, Scores, Split
from contrastill.settings import Contrast, EmbeddingDistillation, Pretraining
from contrastill.shapes import AS_IS
from contrastill.tasks import LabelledTask

__all__ = ["Origin", "embedding_card", "encoder_card", "language_card", "model_card", "pairs_card", "scores_table"]


@dataclass(frozen=True)
class Origin:
    """Origin of a model: what it was made of, and the command."""

    command: str
    name: str  # of the model among the scores: "student" or "model"
    shape: str  # the student's, or the model that was fine-tuned
    seed: int
    teacher: str | None = None
    method: str = "finetune"


def model_card(origin: Origin, task: LabelledTask, result: RunResult) -> str:
    """README.md of the model's folder: its scores beside its teacher's, and how to load and repeat it."""
    ours, data = origin.name, result.task
    if origin.teacher is not None:
        made = f"A `{origin.shape}` student of `{origin.teacher}`, distilled with `{origin.method}` by Contrastill"
    else:
        made = f"`{origin.shape}`, fine-tuned by Contrastill"
    kind, options = ("token", ', aggregation_strategy="first"') if task.per == "token" else ("text", "")
    return f"""---
library_name: transformers
pipeline_tag: {kind}-classification
tags: [contrastill, knowledge-distillation]
---

# {data} {ours}

{made}, on {result.figures["train_rows"]:,} training texts of `{data}` ({task.describe()}), seed {origin.seed}.

{scores_table(result, ours)}
{divided_by(result.models[ours])}
Intervals: 95 %, percentile bootstrap over the examples. All settings, versions and fingerprints are in the run's
`run.json`; `contrastill {origin.command} --from run.json --out FOLDER` repeats it.

```python
from transformers import pipeline
classify = pipeline("{kind}-classification", model="PATH OF THIS FOLDER"{options})
```
"""


def scores_table(result: RunResult, ours: str) -> str:
    """The scores of a model beside those of its baseline and its teacher, and their sizes, in markdown."""
    columns, rows = [name for name in (ours, "baseline", "teacher") if name in result.models], list[str]()
    models = [result.models[name] for name in columns]
    for split in (split for split in ("dev", "test") if split in models[0].splits):
        for name in models[0].splits[split].metrics:
            cells = [cell(model.splits.get(split), name, result.metric) for model in models]
            rows.append(f"| {split} {name} | " + " | ".join(cells) + " |")
    for key, label in (("parameters", "parameters"), ("size_mb", "MB (float32)")):
        sizes = [f"{model.figures[key]:,.0f}" if key in model.figures else "" for model in models]
        rows.append(f"| {label} | " + " | ".join(sizes) + " |")
    said = [f"\nbaseline: {YARDSTICKS['baseline']}."] if "baseline" in columns else []
    return "\n".join([f"|  | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *rows, *said])


def cell(split: Split | None, metric: str, first: str | None) -> str:
    """A score with its interval in a card's table; "" where the model has none."""
    if split is None or metric not in split.metrics:
        return ""
    ends = split.ends(metric, first)
    return f"{split.metrics[metric]:.4f}" + (" ({:.4f} to {:.4f})".format(*ends) if ends else "")


def divided_by(model: Scores) -> str:
    """The sentence on the temperatures of a model with these scores, where they are not 1."""
    splits = model.splits.values()
    if all(one == 1 for split in splits for one in split.more.get("calibration", {}).get("temperatures", [])):
        return ""
    return (
        "\nProbabilities were fitted to dev: divide the logits by `temperatures` in `config.json` before the softmax\n"
        "(sigmoid of several labels), which Contrastill does and `transformers` does not.\n"
    )


def embedding_card(settings: EmbeddingDistillation, result: RunResult) -> str:
    """README.md of a sentence-embedding student."""
    student, teacher = (result.models[name].figures for name in ("student", "teacher"))
    teachers, texts = settings.teacher or [str(settings.teacher_outputs)], result.figures["train_rows"]
    made = f"`{settings.start}` as it is, a" if settings.student == AS_IS else f"A `{settings.student}`"
    rows = [
        f"| {label} | {student[key]:,.0f} | {f'{teacher[key]:,.0f}' if key in teacher else ''} |"
        for key, label in (("parameters", "parameters"), ("size_mb", "MB (float32)"), ("width", "numbers a vector"))
    ]
    ours, theirs = (
        {**({"dev": 100 * model["spearman"]} if "spearman" in model else {}), **result.sts.get(name, {})}
        for name, model in (("student", student), ("teacher", teacher))
    )
    rows += [f"| {name} | {ours[name]:.2f} | {f'{theirs[name]:.2f}' if name in theirs else ''} |" for name in ours]
    table = "\n".join(["|  | student | teacher |", "|---|---|---|", *rows])
    note = "\nScores: Spearman x 100 of the cosine, all pairs of a set at once.\n" if ours else ""
    space = {
        "compact": "Vectors have the angles of the teacher's space; their first N numbers serve by themselves "
        "(`truncate_dim=N`).",
        "keep": "Vectors lie in the teacher's space: they search an index that the teacher built.",
        "drop": "Vectors lie in a space of their own.",
    }[settings.projection]
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [sentence-transformers, contrastill, knowledge-distillation]
---

# A small sentence-embedding model

{made} student of {" and ".join(f"`{name}`" for name in teachers)}, distilled with
`{settings.method}` by Contrastill on {texts:,} texts without labels (passes: {settings.epochs:g}), seed
{settings.seed}. {space}

{table}
{note}
All settings, versions and fingerprints are in the run's `run.json`; `contrastill distill --from run.json --out FOLDER`
repeats it.

```python
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("PATH OF THIS FOLDER")
vectors = model.encode(["a text", "another"])
```
"""


def encoder_card(settings: Pretraining, result: RunResult) -> str:
    """README.md of a general student."""
    student, teacher = (result.models[name].figures for name in ("student", "teacher"))
    texts, made = result.figures["train_rows"], f"A `{settings.student}` student of"
    if settings.student == AS_IS:
        made = f"`{settings.start}`, as a student of"
    return f"""---
library_name: transformers
tags: [contrastill, knowledge-distillation]
---

# A general student encoder

{made} `{settings.teacher}`: {student["parameters"]:,} parameters of
{teacher["parameters"]:,}. It learnt the teacher's layers (`{settings.method}`, its terms that need no task) by
Contrastill on {texts:,} texts without labels (passes: {settings.epochs:g}), seed {settings.seed}.
It has no head: a task's student starts from it.

```console
contrastill distill --teacher TEACHER --data DATA --student {settings.student} --start THIS-FOLDER --out runs/s
```

All settings, versions and fingerprints are in the run's `run.json`; `contrastill pretrain --from run.json --out FOLDER`
repeats it.
"""


def language_card(origin: Origin, result: RunResult) -> str:
    """README.md of a language model: its scores beside its teacher's, how to load and repeat it."""
    if origin.teacher is not None:
        made = f"A `{origin.shape}` student of `{origin.teacher}`, distilled with `{origin.method}` by Contrastill"
    else:
        made = f"`{origin.shape}`, fine-tuned by Contrastill"
    splits = result.models[origin.name].splits.values()
    scored = {metric: METRICS[metric] for split in splits for metric in split.metrics}
    said = "\n".join(f"- {name}: {what}" for name, what in scored.items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [contrastill, knowledge-distillation]
---

# A language model

{made}, on {result.figures["train_rows"]:,} prompts with answers of `{result.task}`, seed {origin.seed}.

{scores_table(result, origin.name)}

{said}

Intervals: 95 %, percentile bootstrap over the rows. All settings, versions and fingerprints are in the run's
`run.json`; `contrastill {origin.command} --from run.json --out FOLDER` repeats it.

```python
from transformers import pipeline
write = pipeline("text-generation", model="PATH OF THIS FOLDER")
```
"""


def pairs_card(asked: Contrast, result: RunResult) -> str:
    """README.md of the model's folder: what it was made of and how, its scores before and after, how to load it."""
    held = result.figures.get("held_out")
    which = f"{held} held-out pairs" if held else "training rows"
    words = {"dev": f"dev: {asked.dev}", "retrieval": f"{which} whose second text is the nearest, %"}
    rows = [(words[name], change["before"], change["after"]) for name, change in result.changes.items()]
    sts = [(name, before, result.sts["after"][name]) for name, before in result.sts.get("before", {}).items()]
    rows = [*rows, *sts] if "dev" in result.changes else [*sts, *rows]
    table = [f"| {name} | {before:.2f} | {after:.2f} |" for name, before, after in rows]
    if table:
        head = "Spearman x 100, or %" if "retrieval" in result.changes else "Spearman x 100"
        table = ["", f"| {head} | before | after |", "|---|---|---|", *table, ""]
    kind = "texts without labels (SimCSE)" if asked.unsupervised else "rows of texts that belong together"
    anchors = " and ".join(f"`{name}`" for name in asked.anchor or ())
    anchor = f", anchored to {anchors} with weight {asked.anchor_weight:g}" if anchors else ""
    newline, figures = "\n", result.figures
    return f"""---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags: [contrastill, sentence-transformers, feature-extraction]
---

# Sentence embeddings

`{asked.model}`, trained contrastively by Contrastill on {figures["train_rows"]:,} {kind} of `{asked.pairs}`:
InfoNCE (`{asked.method}`), scale {asked.scale:g}, {figures["steps"]:,} steps of {figures["batch_rows"]} rows, seed
{asked.seed}{anchor}.
{newline.join(table)}
{figures["parameters"]:,.0f} parameters, {figures["size_mb"]:,.0f} MB (float32). All settings, versions and fingerprints
are in the run's `run.json`; `contrastill contrast --from run.json --out FOLDER` repeats it.

```python
from sentence_transformers import SentenceTransformer
vectors = SentenceTransformer("PATH OF THIS FOLDER").encode(["a text", "another one"])
```
"""
