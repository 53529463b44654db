import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from contrastill.errors import UserError
from contrastill.evaluation.speed import measure, size


def bert(depth: int, width: int, cls: type = BertForSequenceClassification):
    return cls(
        BertConfig(
            vocab_size=200,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=2,
            intermediate_size=2 * width,
        )
    )


def inputs(rows: int, length: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 200, (rows, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.zeros(rows, dtype=torch.long)}


ONE = [inputs(1, length) for length in range(3, 13)]
BATCHES = [inputs(8, 16), inputs(3, 9)]


def test_measure_times_every_input_of_both_models_equally_often():
    speeds = measure({"student": bert(1, 16), "teacher": bert(4, 128)}, ONE, BATCHES, seconds=0.05)
    assert list(speeds) == ["student", "teacher"]
    student, teacher = speeds.values()
    assert len(student.latencies_ms) == len(teacher.latencies_ms) > 0
    assert len(student.latencies_ms) % len(ONE) == 0
    assert len(student.throughputs_per_s) == len(teacher.throughputs_per_s) > 0
    assert student.latency_ms_p50 < teacher.latency_ms_p50
    assert student.throughput_per_s > teacher.throughput_per_s


def test_the_summary_is_that_of_the_raw_timings_and_goes_into_json():
    speed = measure({"model": bert(1, 16)}, ONE, BATCHES, seconds=0.05)["model"]
    record = json.loads(json.dumps(dataclasses.asdict(speed)))
    for q in (50, 95, 99):
        assert record[f"latency_ms_p{q}"] == pytest.approx(np.percentile(record["latencies_ms"], q))
    assert record["throughput_per_s"] == pytest.approx(np.median(record["throughputs_per_s"]))


def test_a_budget_of_nothing_still_measures_every_input_once():
    speed = measure({"model": bert(1, 16)}, ONE, BATCHES, seconds=0)["model"]
    assert (len(speed.latencies_ms), len(speed.throughputs_per_s)) == (len(ONE), 1)


def test_threads_are_pinned_for_the_measurement_recorded_and_put_back():
    before, seen = torch.get_num_threads(), set()
    model = bert(1, 16).train()
    model.register_forward_pre_hook(lambda module, args: seen.add((torch.get_num_threads(), module.training)))
    assert measure({"model": model}, ONE, BATCHES, threads=1, seconds=0)["model"].threads == 1
    assert seen == {(1, False)}
    assert torch.get_num_threads() == before
    assert model.training
    assert measure({"model": model}, ONE, BATCHES, seconds=0)["model"].threads == before


def test_measure_runs_in_the_given_dtype():
    model, seen = bert(1, 16), set()
    model.classifier.register_forward_hook(lambda module, args, output: seen.add(output.dtype))
    measure({"model": model}, ONE, BATCHES, seconds=0, dtype=torch.bfloat16)
    assert seen == {torch.bfloat16}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, ONE, BATCHES), "at least one of models"),
        (({"model": None}, [], BATCHES), "at least one of batch_of_one"),
        (({"model": None}, ONE, []), "at least one of batches"),
        (({"model": None}, BATCHES, BATCHES), "single row"),
    ],
)
def test_measure_refuses_what_it_cannot_time_before_it_starts(arguments, message):
    with pytest.raises(UserError, match=message):
        measure(*arguments)


def test_measure_refuses_no_threads():
    with pytest.raises(UserError, match="1 or more, got 0"):
        measure({"model": bert(1, 16)}, ONE, BATCHES, threads=0)


@pytest.mark.parametrize("cls", [BertForSequenceClassification, BertForMaskedLM])  # the second ties its decoder
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_size_is_that_of_the_saved_file_with_tied_weights_once(cls, dtype, tmp_path):
    model = bert(2, 64, cls).to(dtype)
    model.save_pretrained(tmp_path)
    file_mb = (tmp_path / "model.safetensors").stat().st_size / 1e6
    assert size(model)["size_mb"] == pytest.approx(file_mb, abs=0.01)  # the file's header
    assert size(model)["parameters"] == model.num_parameters()
