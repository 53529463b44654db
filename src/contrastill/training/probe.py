"""The linear probe that a new head starts from: a linear fit on the frozen encoder's features.

With a head of random weights, the first hundreds of steps change the encoder for the sake of a head that knows nothing.
From a fitted head they begin at the probe's score (LP-FT: Kumar et al., 2022, arXiv:2202.10054). Where the frozen
encoder tells next to nothing about the labels, as of most pairs, fitted weights are noise and large: such a fit is a
yardstick alone, and training starts from random weights (decision 11). So it does where a fit to scores, whose error
has no bound, tells something only until training turns dropout on.

Heads read the first token. Encoders of sentence embeddings say more in the mean of all tokens: where rows are few and
the mean fits better, the model gets a last layer that averages (students/pooling.py).

Shapes: N rows, D features, C outputs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from contrastill.loading import new_weights
from contrastill.screen import progress
from contrastill.students.families import FAMILIES, head_linears, head_weights, top_of
from contrastill.students.pooling import GAIN, add_mean_layer, remove_last_layer, takes_mean_layer
from contrastill.tasks import LabelledTask

__all__ = ["ROWS", "Probe", "fit_probe", "forget_probe", "head_is_new"]

ROWS = 10_000
"""Rows that a head is fitted on, at most."""
COMPARED = 4_000
"""Rows among which features and strengths are compared, at most; a fifth of them judges."""
SHAKEN = 800
"""Rows that are read with dropout, about."""
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
FEW, FEW_IN_ALL = 200, 5_000  # rows an output, and rows, below which a layer may be added
GAINED = 0.05  # of the held-out loss that such a layer must save
TOLD = 0.1  # of the held-out loss of one answer for all rows that a start for training must save
PASSED = 0.3  # of each feature through a dense layer: there tanh is all but linear
FLAT = 0.1  # of the features' median spread, the least by which one is divided
LIFT = 3.0  # over the zero below which relu and gelu cut
ACTIVATIONS: dict[Callable[[Tensor], Tensor], float] = {torch.tanh: 0.0, F.relu: LIFT, F.gelu: LIFT}

Array = np.ndarray[Any, Any]
Batches = Sequence[Mapping[str, Tensor]]


class Fit(NamedTuple):
    """A linear fit to some rows: its loss on rows left out, its strength, its weights (C, D) and biases (C,)."""

    loss: float
    strength: float
    weights: tuple[Array, Array]


@dataclass(frozen=True)
class Probe:
    """A fitted head. strength: the inverse of its ridge penalty; held_out: the least loss, over penalties, on rows left
    out of a first fit; shaken: of scores the least where dropout is on, which then chooses; blind: the loss of one
    answer for all rows, and constant: the biases (C,) that give this answer; before: the head's weights before the fit;
    added: whether a layer that averages the tokens was added."""

    rows: int
    strength: float
    held_out: float
    shaken: float | None
    blind: float
    constant: Array = field(compare=False, repr=False)
    before: Mapping[str, Tensor] = field(compare=False, repr=False)
    added: bool = False

    @property
    def tells(self) -> bool:
        """Whether training is to start from it."""
        return max(self.held_out, self.shaken or 0) < self.bound

    @property
    def bound(self) -> float:
        return (1 - TOLD) * self.blind

    def __str__(self) -> str:
        if self.shaken is not None and self.held_out < self.bound <= self.shaken:
            return (
                f"random: a linear fit to {self.rows:,} rows on the frozen encoder is lost when dropout is on (loss "
                f"{self.held_out:.3f} without it and {self.shaken:.3f} with it, of one answer for all {self.blind:.3f})"
            )
        if not self.tells:
            return (
                f"random: a linear fit to {self.rows:,} rows on the frozen encoder tells next to nothing (loss on rows "
                f"left out {self.held_out:.3f}, of one answer for all {self.blind:.3f})"
            )
        layer = ", through a layer that averages the tokens, added as the last" if self.added else ""
        return f"fitted to {self.rows:,} rows on the frozen encoder{layer}"


def head_is_new(model: PreTrainedModel) -> bool:
    """Whether the weights of the layer that gives the logits came from no file."""
    last, new = head_linears(model)[1], new_weights(model)
    return any(module is last and f"{name}.weight" in new for name, module in model.named_modules())


@torch.no_grad()
def fit_probe(
    model: PreTrainedModel,
    task: LabelledTask,
    batches: Batches,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    *,
    may_add: bool = True,
) -> Probe | None:
    """Fits the head of a model to labelled rows, and leaves its encoder as it is.

    A square dense layer between encoder and logits is set to hand its input on: what is fitted is the encoder's own
    vector. batches: of at most `ROWS` rows. may_add: whether a layer that averages the tokens may be added. None: head
    or task have no such fit, and nothing was changed.
    """
    dense, last = head_linears(model)
    if last is None or last.bias is None:
        return None
    state = model.state_dict()
    before = {name: state[name].clone() for name in head_weights(model)}
    labels = torch.cat([labels_of(batch) for batch in batches]).cpu().numpy()
    seen, means = read(model, task, [layer for layer in (dense, last) if layer is not None], batches, dtype)
    passed = activation_of(dense, seen, last) if dense is not None else None
    features = seen[last] if passed is None else hand_on(seen[dense], *passed)
    judged = by_strength(task, features, labels, seed)
    if judged is None:
        return None
    averaged = None
    if passed is not None:
        set_dense(dense, passed[1])
        few = may_add and means is not None and len(labels) < min(FEW * len(task.names), FEW_IN_ALL)
        if few and saves(by_strength(task, hand_on(means, *passed), labels, seed), judged):
            averaged = average(model, task, last, batches, labels, judged, dtype, seed)
    if averaged is not None:
        features, judged = averaged
    nothing = torch.zeros(len(labels), 1)
    blind, constant = by_strength(task, nothing, labels, seed, (1.0,)), fit(task, nothing.numpy(), labels, 1.0)
    assert blind is not None
    assert constant is not None
    made, shaken = judged[0], None
    if task.unbounded:
        made, shaken = steadiest(model, task, last, batches, judged, dtype, seed)
    fitted = fit(task, features.numpy(), labels, made.strength)
    assert fitted is not None
    last.weight.copy_(torch.from_numpy(fitted[0]))
    last.bias.copy_(torch.from_numpy(fitted[1]))
    added = averaged is not None
    return Probe(len(labels), made.strength, judged[0].loss, shaken, blind[0].loss, constant[1], before, added)


@torch.no_grad()
def forget_probe(model: PreTrainedModel, made: Probe) -> None:
    """Gives the head back the weights it had before the fit, but for the biases of one answer for all."""
    if made.added:
        remove_last_layer(model)
    model.load_state_dict(made.before, strict=False)
    head_linears(model)[1].bias.copy_(torch.from_numpy(made.constant))


def average(
    model: PreTrainedModel,
    task: LabelledTask,
    last: Any,
    batches: Batches,
    labels: Array,
    judged: Sequence[Fit],
    dtype: torch.dtype | None,
    seed: int,
) -> tuple[Tensor, list[Fit]] | None:
    """Adds a layer that averages the tokens; what the logits' layer reads then, and how that is judged. None: it saves
    too little, and is taken away."""
    add_mean_layer(model)
    features = read(model, task, [last], batches, dtype)[0][last]
    again = by_strength(task, features, labels, seed)
    if again is not None and saves(again, judged):
        return features, again
    remove_last_layer(model)
    return None


def saves(this: Sequence[Fit] | None, that: Sequence[Fit]) -> bool:
    return this is not None and this[0].loss < (1 - GAINED) * that[0].loss


def steadiest(
    model: PreTrainedModel,
    task: LabelledTask,
    last: Any,
    batches: Batches,
    fits: Sequence[Fit],
    dtype: torch.dtype | None,
    seed: int,
) -> tuple[Fit, float]:
    """The fit with the least loss when dropout is on, as in the training that follows; with that loss."""
    some = batches[:: max(1, len(batches) * len(batches[0]["labels"]) // SHAKEN)]
    labels = torch.cat([labels_of(batch) for batch in some]).cpu()
    cuda = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.manual_seed(seed)
        features = read(model, task, [last], some, dtype, dropout=True)[0][last]
    losses = [loss_of(task, one.weights, features, labels) for one in fits]
    least = int(np.argmin(losses))
    return fits[least], losses[least]


def labels_of(batch: Mapping[str, Tensor]) -> Tensor:
    """The labels of a batch's rows, or of its labelled tokens: (N, …)."""
    labels = batch["labels"]
    return labels[labels != -100] if "answered" in batch else labels


def read(
    model: PreTrainedModel,
    task: LabelledTask,
    layers: Sequence[Any],
    batches: Batches,
    dtype: torch.dtype | None,
    *,
    dropout: bool = False,
) -> tuple[dict[Any, Tensor], Tensor | None]:
    """What these layers read of every row (or labelled token), and what a layer that averages the tokens would give;
    None: the model takes no such layer. (N, D) each, float32, on the CPU. dropout: whether it is on, as in training."""
    seen: dict[Any, list[Tensor]] = {layer: [] for layer in layers}
    means: list[Tensor] = []
    mask = torch.ones(0)
    tokens: Tensor | None = None

    def begin(_: Any, __: Any, given: dict[str, Any]) -> None:
        nonlocal mask
        mask = given["attention_mask"].float().unsqueeze(-1)
        model.train(dropout)  # `predict` puts every module's mode back

    def keep(layer: Any, args: tuple[Tensor, ...]) -> None:
        x = args[0].float().cpu()
        seen[layer].append(x if tokens is None else x[tokens])

    def mean(_: Any, __: Any, output: Any) -> None:
        hidden = (output[0] if isinstance(output, tuple) else output).float()
        total = GAIN * (hidden * mask).sum(1) / mask.sum(1) + hidden[:, 0]
        means.append(F.layer_norm(total, total.shape[1:]).cpu())

    hooks = [model.register_forward_pre_hook(begin, with_kwargs=True)]
    hooks += [layer.register_forward_pre_hook(keep) for layer in layers]
    if takes_mean_layer(model) and task.per == "text":
        hooks.append(top_of(model, FAMILIES[model.config.model_type])[0].register_forward_hook(mean))
    try:
        with progress(
            sum(len(batch["labels"]) for batch in batches), f"rows, to {'try' if dropout else 'fit'} the head"
        ) as advance:
            for batch in batches:
                tokens = (batch["labels"] != -100).cpu() if "answered" in batch else None
                task.predict(model, [batch], dtype)
                advance(len(batch["labels"]))
    finally:
        for hook in hooks:
            hook.remove()
    return {layer: torch.cat(parts) for layer, parts in seen.items()}, torch.cat(means) if means else None


def activation_of(dense: Any, seen: Mapping[Any, Tensor], last: Any) -> tuple[Callable[[Tensor], Tensor], float] | None:
    """The activation between a square dense layer and the logits, and the bias above which it is all but linear; None:
    the layer is not square, or between them is something else."""
    if dense.in_features != dense.out_features or seen[dense].dim() != 2:
        return None
    output = dense(seen[dense][:64].to(dense.weight.device)).cpu()
    for activation, lift in ACTIVATIONS.items():
        if torch.allclose(activation(output), seen[last][:64], atol=0.05):  # what is seen was read under autocast
            return activation, lift
    return None


def hand_on(features: Any, activation: Callable[[Tensor], Tensor], lift: float) -> Tensor:
    """What comes out of `set_dense` and the activation."""
    return activation(PASSED * features + lift)


def set_dense(dense: Any, lift: float) -> None:
    """Makes a square layer hand its input on, made smaller and lifted."""
    dense.weight.copy_(PASSED * torch.eye(dense.in_features))
    dense.bias.fill_(lift)


def by_strength(
    task: LabelledTask, features: Tensor, labels: Array, seed: int, strengths: Sequence[float] = STRENGTHS
) -> list[Fit] | None:
    """A fit of each strength to some rows, by its loss on the rows left out, the lowest first; None: no fit, or too few
    rows."""
    some = np.random.default_rng(seed).permutation(len(labels))[:COMPARED]
    out = max(1, len(some) // 5)
    known, left = some[out:], some[:out]
    if not len(known):
        return None
    found, x = [], features.numpy()
    for strength in strengths:
        fitted = fit(task, x[known], labels[known], strength)
        if fitted is None:
            return None
        loss = loss_of(task, fitted, features[left], torch.from_numpy(labels[left]))
        found.append(Fit(loss, strength, fitted))
    return sorted(found, key=lambda one: (one.loss, one.strength))


def loss_of(task: LabelledTask, fitted: tuple[Array, Array], features: Tensor, labels: Tensor) -> float:
    logits = torch.from_numpy(features.numpy() @ fitted[0].T + fitted[1])
    return float(task.losses_of_rows(logits, labels).mean())


def fit(task: LabelledTask, features: Array, labels: Array, strength: float) -> tuple[Array, Array] | None:
    """Weights (C, D) and biases (C,) for the features as they are, fitted on their standardised values.

    A feature that hardly varies is scaled like one that does: else its weights would be huge, harmless only until the
    encoder learns and the feature moves.
    """
    mean, spread = features.mean(0), features.std(0)
    spread = np.maximum(spread, FLAT * np.median(spread)) + 1e-6
    fitted = task.fit_head((features - mean) / spread, labels, strength)
    if fitted is None:
        return None
    weights = (fitted[0] / spread).astype(np.float32)
    return weights, (fitted[1] - weights @ mean).astype(np.float32)
