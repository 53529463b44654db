"""Speed and size of models, timed side by side on the same inputs, threads and minutes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from contrastill.errors import UserError
from contrastill.evaluation.inference import inference, model_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Speed", "measure", "size"]

TURN = 8
"""Inputs a model is timed on before the next model's turn."""


@dataclass(frozen=True)
class Speed:
    """One model's speed. The raw timings stay with it, for the run's JSON (`dataclasses.asdict`)."""

    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    throughput_per_s: float
    """Examples a second: the median over passes."""
    threads: int
    latencies_ms: tuple[float, ...]
    """Every timed call of one input."""
    throughputs_per_s: tuple[float, ...]
    """Every timed pass over the batches."""


def measure(
    models: Mapping[str, PreTrainedModel],
    batch_of_one: Sequence[Mapping[str, Tensor]],
    batches: Sequence[Mapping[str, Tensor]],
    *,
    threads: int | None = None,
    seconds: float = 3.0,
    dtype: torch.dtype | None = None,
) -> dict[str, Speed]:
    """Latency on `batch_of_one`, throughput over `batches`: give real texts, padded as they would be served.

    A first pass over the inputs is thrown away, so that no shape is timed when it is first seen. Then whole passes
    (hence at least one, however slow the model), until they have taken `seconds` for each model, for latency and again
    for throughput. Models take turns every few inputs: what else the machine does falls on all alike. `dtype` runs
    under autocast, as `predict` does. Tokenisation and the copy to the device are outside the clock.
    """
    for name, inputs in (("models", models), ("batch_of_one", batch_of_one), ("batches", batches)):
        if not inputs:
            raise UserError(f"expected at least one of {name} to measure, got none")
    if any(len(one["input_ids"]) != 1 for one in batch_of_one):
        raise UserError("expected inputs of a single row in batch_of_one, got a larger batch; pass it in batches")
    if threads is not None and threads < 1:
        raise UserError(f"expected threads of 1 or more, got {threads}; leave it out for PyTorch's own choice")

    examples = sum(len(batch["input_ids"]) for batch in batches)
    before = torch.get_num_threads()
    threads = threads or before
    try:
        torch.set_num_threads(threads)
        with ExitStack() as stack:
            for model in models.values():
                stack.enter_context(inference(model, dtype))
            single = _timings({name: _calls(model, batch_of_one) for name, model in models.items()}, seconds)
            batched = _timings({name: _calls(model, batches) for name, model in models.items()}, seconds)
    finally:
        torch.set_num_threads(before)

    speeds = {}
    for name in models:
        latencies = 1000 * single[name].ravel()
        throughputs = examples / batched[name].sum(axis=1)
        p50, p95, p99 = np.percentile(latencies, [50, 95, 99]).tolist()
        median = float(np.median(throughputs))
        speeds[name] = Speed(p50, p95, p99, median, threads, tuple(latencies.tolist()), tuple(throughputs.tolist()))
    return speeds


def _calls(model: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]]) -> list[Callable[[], None]]:
    """One call for each batch; it returns when the device is done."""
    device = model.device

    def call(inputs: dict[str, Tensor]) -> None:
        model(**inputs)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    return [partial(call, model_inputs(batch, device)) for batch in batches]


def _timings(calls: dict[str, list[Callable[[], None]]], seconds: float) -> dict[str, np.ndarray]:
    """Seconds (passes, inputs) for each model."""
    count = len(next(iter(calls.values())))
    order = list(calls)

    def one_pass() -> dict[str, list[float]]:
        times: dict[str, list[float]] = {name: [] for name in order}
        for first in range(0, count, TURN):
            for name in order:
                turn = calls[name][first : first + TURN]
                turn[0]()  # not timed: the model before has emptied the caches, which a served model keeps warm
                for call in turn:
                    start = perf_counter()
                    call()
                    times[name].append(perf_counter() - start)
            order.reverse()
        return times

    one_pass()
    stop = perf_counter() + seconds * len(calls)
    passes = [one_pass()]
    while perf_counter() < stop:
        passes.append(one_pass())
    return {name: np.array([times[name] for times in passes]) for name in calls}


def size(model: PreTrainedModel) -> dict[str, float]:
    """Parameters, tied ones once, and the megabytes (10^6 bytes) of the weights as `save_pretrained` writes them."""
    saved = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "size_mb": sum(tensor.numel() * tensor.element_size() for tensor in saved.values()) / 1e6,
    }
