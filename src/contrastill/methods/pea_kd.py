from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill.encoder import QKV, Encoding, pool_layer
from contrastill.errors import UserError
from contrastill.methods.base import Stage, batch_mean
from contrastill.methods.pkd import PKD
from contrastill.methods.settings import LayerMap, Share, Temperature, Weight
from contrastill.tasks.base import Task


class PeaKD(PKD):
    """Pea-KD: shared layers, and the teacher's mistakes first. Cho et al., PLOS ONE 2022. arXiv:2009.14822.

    A student of 2 L layers has the weights of L: layer L + i has those of layer i, with queries and keys swapped
    (shuffled parameter sharing). `finish` gives it copies of them, so that it is saved as any other model. The first
    stage learns in which of four classes the teacher's answer to a text falls: right or wrong, confident or not
    (pre-training with the teacher's predictions, PTP); its head is dropped. The second stage is BERT-PKD.

    confident_right: probability above which a right answer of the teacher counts as confident.
    confident_wrong: probability above which a wrong one does.
    temperature: temperature T of the soft labels.
    alpha: weight of the kd term; the label loss has 1 - alpha.
    beta: weight of the patient term.
    layer_map: matching teacher layers of the 2 L: "skip" (evenly spaced, without the last), "uniform" (with it) or
        "last".
    share: whether the upper half of the layers has the weights of the lower half; false: PTP and BERT-PKD alone.
    """

    name = "pea_kd"
    stages = (
        Stage("predictions", {"ptp": 1.0}, share=0.3),
        Stage("distil", {"kd": 0.7, "hard": 0.3, "patient": 100.0}, share=0.7, fresh=True),
    )

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        confident_right: Share = 0.9,
        confident_wrong: Share = 0.7,
        temperature: Temperature = 10.0,
        alpha: Share = 0.7,
        beta: Weight = 100.0,
        layer_map: LayerMap = "skip",
        share: bool = True,
    ) -> None:
        super().__init__(student, teacher, task, temperature=temperature, alpha=alpha, beta=beta, layer_map=layer_map)
        first, second = type(self).stages
        self.stages = (first, replace(second, weights=self.stages[0].weights))
        self.stage = first
        self.confident_right, self.confident_wrong = confident_right, confident_wrong
        self.verdict = nn.Linear(self.student.width, 4)
        self.shares = share
        if share:
            self.decided = {"layers": tie(self.student.model)}

    @classmethod
    def serves(cls, task: Task | type[Task]) -> bool:
        return super().serves(task) and task.one_class

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        first_token = pool_layer(student.hidden[-1], student.mask, "cls")[0][:, 0]
        verdicts = verdicts_of(teacher.logits, batch["labels"], self.confident_right, self.confident_wrong)
        errors = F.cross_entropy(self.verdict(first_token).float(), verdicts, reduction="none")
        return {"ptp": batch_mean(errors, batch["labels"] != -100), **super().losses(student, teacher, batch)}

    def finish(self) -> None:
        if self.shares:
            untie(self.student.model)


def verdicts_of(teacher: Tensor, labels: Tensor, confident_right: float, confident_wrong: float) -> Tensor:
    """(B, C), (B,) -> (B,) int: 0: the teacher is right, with a probability above `confident_right`; 1: right, but not
    so; 2: wrong, with one above `confident_wrong`; 3: wrong, but not so. Of a row without a label it means nothing."""
    confidence, answers = teacher.float().softmax(1).max(1)
    right = answers == labels
    sure = torch.where(right, confidence > confident_right, confidence > confident_wrong)
    return 2 * (~right).long() + (~sure).long()


# ---- layers that share their weights


def tie(model: PreTrainedModel) -> str:
    """Makes the parameters of layer L + i of a model of 2 L layers those of layer i, with queries and keys swapped; in
    words.

    Raises:
        UserError: an odd number of layers, or layers that have no two matrices to swap.
    """
    stored = sum(parameter.numel() for parameter in model.parameters())
    layers = layers_of(model)
    half = len(layers) // 2
    for lower, upper in zip(layers[:half], layers[half:], strict=True):
        swapped = dict(zip(query_and_key(model, lower), reversed(query_and_key(model, lower)), strict=True))
        for module, path, name in places_of(upper):
            source = lower.get_submodule(swapped.get(path, path))
            setattr(module, name, getattr(source, name))
    different = sum(parameter.numel() for parameter in model.parameters())
    return (
        f"the upper {half} of {2 * half} have the weights of the lower {half}, with queries and keys swapped: of "
        f"{stored:,} numbers that are saved {different:,} are different"
    )


def untie(model: PreTrainedModel) -> None:
    """Gives each place of a model's layers a tensor of its own, with the same numbers."""
    seen: set[int] = set()
    for layer in layers_of(model):
        for module, _, name in places_of(layer):
            parameter = getattr(module, name)
            if id(parameter) in seen:
                setattr(module, name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
            seen.add(id(parameter))


def layers_of(model: PreTrainedModel) -> Any:
    """The list of a model's layers.

    Raises:
        UserError: an odd number of layers, or all layers are one module.
    """
    depth, kind = int(model.config.num_hidden_layers), model.config.model_type
    if depth % 2:
        raise UserError(
            "method 'pea_kd' gives the upper half of the student's layers the weights of the lower half: expected an "
            f"even number of layers, got {depth}; choose --student {depth + 1}L, or --set share=false"
        )
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            return module
    raise UserError(
        f"method 'pea_kd' expected a student with weights of its own for each layer, got {kind!r}, whose layers share "
        "theirs already; choose a shape without +shared, or --set share=false"
    )


def query_and_key(model: PreTrainedModel, layer: nn.Module) -> tuple[str, str]:
    """The paths of a layer's queries and keys.

    Raises:
        UserError: it has no two linear maps of one size for them.
    """
    linears = {path: part for path, part in layer.named_modules() if isinstance(part, nn.Linear)}
    found = [[path for path in linears if path.rpartition(".")[2] in names] for names in QKV[:2]]
    if [len(paths) for paths in found] == [1, 1]:
        query, key = found[0][0], found[1][0]
        if linears[query].weight.shape == linears[key].weight.shape:
            return query, key
    raise UserError(
        "method 'pea_kd' swaps queries and keys: expected a student with a matrix for each, of the same size, got "
        f"{model.config.model_type!r}, which has them in one, or in sizes of their own; choose a student like BERT, "
        "RoBERTa, DistilBERT or MPNet, or --set share=false"
    )


def places_of(layer: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Each parameter's place in a layer: the module, its path, and the parameter's name in it."""
    for path, module in layer.named_modules():
        for name, _ in list(module.named_parameters(recurse=False)):
            yield module, path, name
