"""Golden trajectories: six optimiser steps of every method on fixed weights and data, against numbers kept in the tree.

They change only when a method's mathematics does. Then, and only after saying in the change's message why, write anew:

    CONTRASTILL_REGENERATE=1 python -m pytest tests/methods/test_golden.py

and look at the difference of golden.json: rows of other methods must not have moved.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from method_rows import CASES, IDS

GOLDEN = Path(__file__).with_name("golden.json")
STEPS = 6


def fix_weights(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))


def trajectory(case, tiny_method, tiny_batch):
    """The loss and every term of each step, stages included; two batches in turn, so that a queue sees old texts."""
    method = tiny_method(*case)
    for name, part in method.named_children():
        if name.startswith(("project", "verdict")):  # the models' own weights are drawn by the fixtures
            fix_weights(part, seed=7)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05, momentum=0.9)
    steps = []
    torch.manual_seed(0)  # the draw of negatives
    for step in range(STEPS):
        method.set_stage(step, STEPS)
        optimizer.zero_grad()
        result = method(**tiny_batch(seed=1 + step % 2))
        result["loss"].backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
        optimizer.step()
        steps.append({name: round(value.item(), 7) for name, value in result.items()})
    return steps


@pytest.fixture(scope="session")
def golden():
    """What is kept; when regenerating, what is to be kept, written once all methods have run."""
    if not os.environ.get("CONTRASTILL_REGENERATE"):
        yield json.loads(GOLDEN.read_text())
        return
    written = {}
    yield written
    rows = ",\n".join(
        f'  "{row}": [\n' + ",\n".join("    " + json.dumps(step) for step in written[row]) + "\n  ]"
        for row in IDS
        if row in written
    )
    GOLDEN.write_text("{\n" + rows + "\n}\n")


@pytest.mark.parametrize(("case", "row"), list(zip(CASES, IDS, strict=True)), ids=IDS)
def test_six_steps_give_the_losses_kept_in_golden_json(case, row, golden, tiny_method, tiny_batch):
    steps = trajectory(case, tiny_method, tiny_batch)
    if os.environ.get("CONTRASTILL_REGENERATE"):
        golden[row] = steps
    assert len(steps) == len(golden[row]) == STEPS
    for number, (step, kept) in enumerate(zip(steps, golden[row], strict=True)):
        assert step == pytest.approx(kept, rel=1e-4), f"step {number}"


def test_golden_json_has_exactly_the_rows_under_test_and_no_two_alike(golden):
    if os.environ.get("CONTRASTILL_REGENERATE"):
        pytest.skip("golden.json is being written")
    assert list(golden) == IDS
    losses = {row: tuple(step["loss"] for step in steps) for row, steps in golden.items()}
    assert len(set(losses.values())) == len(losses)
    assert all(len(set(trajectory)) == STEPS for trajectory in losses.values())
