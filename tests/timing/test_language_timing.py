"""`contrastill bench` of language models: a text is a prompt, and tokens are written after it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaForSequenceClassification

sys.path.insert(0, str(Path(__file__).parent.parent / "language"))
from tiny_language import gpt2, llama, problems, save, tokenizer, write

from contrastill.data.prompts import load_prompts
from contrastill.errors import UserError
from contrastill.loading import writes
from contrastill.report import write_report
from contrastill.report.next_steps import next_steps
from contrastill.report.run import read_run
from contrastill.settings import Bench
from contrastill.timing import bench, compare, variants
from contrastill.timing import process as process_module
from contrastill.timing.worker import Writer

NEW = 4


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns of no length, by workers that have imported the libraries already."""
    import subprocess

    import warm

    def started(command: Any, **options: Any) -> Any:
        return (warm.Popen if "contrastill.timing.worker" in command else subprocess.Popen)(command, **options)

    monkeypatch.setattr(compare, "TURN", 0.0)
    monkeypatch.setattr(process_module, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": started}))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root = tmp_path_factory.mktemp("writers")
    return {"large": save(llama(32, 2, 1), root / "large"), "other": save(gpt2(), root / "other")}


def test_a_row_says_how_many_tokens_were_written(models: dict[str, str]) -> None:
    found = bench(
        model=list(models.values()), length=[6], batch=[1, 3], precision=["fp32"], new_tokens=NEW, seconds=0.01
    )
    rows = [(row["model"], row["runtime"], row["new_tokens"], row["batch"]) for row in found["rows"]]
    assert rows == [(name, "torch", NEW, batch) for batch in (1, 3) for name in models]
    for row in found["rows"]:
        assert row["p50_ms"] > 0
        assert row["throughput_per_s"] > 0
        assert row["tokens"] == 6
        assert row["gflops"] > 0
    assert found["left_out"] == [
        f"{name}, {runtime}: a language model, which is timed in PyTorch alone"
        for name in models
        for runtime in ("onnxruntime", "openvino")
    ]
    assert f"--new-tokens {NEW}" in found["command"]


def test_what_is_timed_writes_the_likeliest_tokens(models: dict[str, str]) -> None:
    """Beside a loop without a cache; a text is padded on the left."""
    writer = Writer(models["large"], "fp32", NEW)
    written = writer.on_texts(["1+2=", "12+34="])().ids
    model, reader = llama(32, 2, 1), tokenizer()
    for text, ids in zip(["1+2=", "12+34="], written.tolist(), strict=True):
        read = reader(text)["input_ids"]
        for token in ids:
            with torch.no_grad():
                assert model(torch.tensor([read])).logits[0, -1].argmax() == token
            read.append(token)
    assert writer.lengths(["1+2=", "12+34="]) == [4, 6]


def test_prompt_and_answer_fit_the_models_positions(models: dict[str, str]) -> None:
    found = bench(model=[models["large"]], length=[60, 61], batch=[1], precision=["fp32"], new_tokens=NEW, seconds=0.01)
    assert [row.get("error") for row in found["rows"]] == [None, "reads at most 60 tokens, not 61"]
    with pytest.raises(UserError, match="at most 64 tokens together, not 64 new ones"):
        Writer(models["large"], "fp32", 64)
    with pytest.raises(UserError, match="a prompt, got pairs"):
        Writer(models["large"], "fp32", NEW).encode([("a", "b")])


@pytest.mark.parametrize("kind", ["prompts", "conversations"])
def test_a_run_is_timed_on_its_own_prompts(models: dict[str, str], tmp_path: Path, kind: str) -> None:
    run, rows = tmp_path / "run", problems(30)
    save(llama(16, 1, 2), run / "student")
    if kind == "conversations":
        reader = tokenizer()
        reader.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
        reader.save_pretrained(run / "student")
    data = write(tmp_path / "data", train=told(rows[:20], kind), dev=told(rows[20:], kind))
    record = {
        "command": "distill",
        "settings": {"data": data, "teacher": models["large"], "method": "gkd", "seed": 0},
        "status": "finished",
        "data": load_prompts(data).describe(),
    }
    (run / "run.json").write_text(json.dumps(record))
    assert record["data"]["kind"] == kind
    assert set(variants.texts_of(Bench(run=str(run)), [])) == {row["prompt"] for row in rows[20:]}
    assert [step.command.split()[1] for step in next_steps(read_run(run))] == ["bench"]
    if kind == "prompts":
        return  # the rest is the same
    found = bench(run=str(run), precision=["fp32"], batch=[1], new_tokens=NEW, seconds=0.01)
    assert [(row["model"], row["length"], row["new_tokens"]) for row in found["rows"]] == [
        ("teacher", "data", NEW),
        ("student", "data", NEW),
    ]
    assert f"torch, {NEW} new tokens" in write_report(run).read_text()


def told(rows: list[dict[str, str]], kind: str) -> list[dict[str, Any]]:
    """The rows as they are, or as conversations."""
    if kind == "prompts":
        return list(rows)
    who = ("user", "prompt"), ("assistant", "answer")
    return [{"messages": [{"role": role, "content": row[name]} for role, name in who]} for row in rows]


def test_a_language_model_is_told_by_the_class_that_its_config_names(models: dict[str, str], tmp_path: Path) -> None:
    assert all(map(writes, models.values()))
    config = llama().config
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    assert not writes(str(tmp_path))
    (Path(save(llama(), tmp_path / "embedder")) / "modules.json").write_text("[]")
    assert not writes(str(tmp_path / "embedder"))
    assert not writes(variants.random_model("random:1/16/2/32", tmp_path / "encoder"))
