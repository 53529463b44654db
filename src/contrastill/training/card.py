"""The model card beside a trained model."""

from typing import Any

from contrastill.data import TaskData
from contrastill.settings import Distillation, Settings

__all__ = ["model_card"]


def model_card(settings: Settings, data: TaskData, metrics: dict[str, Any]) -> str:
    """README.md of the model's folder: what it is, its scores beside its teacher's, how to load and repeat it."""
    distilled = isinstance(settings, Distillation)
    asked: Any = settings
    rows_seen = metrics["train_rows"]
    ours = "student" if distilled else "model"
    columns = [ours] + (["teacher"] if distilled and "teacher" in metrics else [])
    rows = []
    for split in ("dev", "test"):
        for name in metrics[ours].get(split, {}).get("metrics", {}):
            cells = []
            for column in columns:
                scores = metrics[column][split]
                cell = f"{scores['metrics'][name]:.4f}"
                if name == metrics["metric"]:
                    low, high = scores["interval"]
                    cell += f" ({low:.4f} to {high:.4f})"
                cells.append(cell)
            rows.append(f"| {split} {name} | " + " | ".join(cells) + " |")
    for key, label in (("parameters", "parameters"), ("size_mb", "MB (float32)")):
        rows.append(f"| {label} | " + " | ".join(f"{metrics[column][key]:,.0f}" for column in columns) + " |")
    table = "\n".join([f"|  | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|", *rows])
    if distilled:
        origin = f"A `{asked.student}` student of `{asked.teacher}`, distilled with `{asked.method}` by Contrastill"
    else:
        origin = f"`{asked.model}`, fine-tuned by Contrastill"
    labels = ", ".join(data.task.labels[:20]) + (", …" if len(data.task.labels) > 20 else "")
    task = f"classes: {labels}" if data.task.labels else "one score"
    return f"""---
library_name: transformers
pipeline_tag: text-classification
tags: [contrastill, knowledge-distillation]
---

# {data.task.name} {ours}

{origin}, on {rows_seen:,} training texts of `{data.task.name}` ({task}), seed {settings.seed}.

{table}

Intervals: 95 %, percentile bootstrap over the examples. All settings, versions and fingerprints are in the run's
`run.json`; `contrastill {"distill" if distilled else "finetune"} --from run.json --out FOLDER` repeats it.

```python
from transformers import pipeline
classify = pipeline("text-classification", model="PATH OF THIS FOLDER")
```
"""
