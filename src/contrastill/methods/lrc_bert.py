from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.encoder import Encoding, pool_layer
from contrastill.methods.base import Method, Stage, gather
from contrastill.methods.queue import Queue
from contrastill.methods.settings import Comparison, Granularity, LayerMap, Number, Temperature, Weight
from contrastill.tasks.base import Task


class LRCBert(Method):
    """LRC-BERT: Latent-representation Contrastive Knowledge Distillation. Fu et al., AAAI 2021. arXiv:2012.07335.

    Each student layer is pulled towards the matching teacher layer (by cosine) and pushed away from the teacher's
    layers for other texts (COS-NCE). The second stage adds the soft labels and the labels.

    granularity: part of a layer to compare: "tokens" (each real token), "cls", or "mean" (of the real tokens).
    temperature: temperature of the soft labels.
    negatives: number of other texts to push each text away from; 0: all of the batch and the queue.
    queue: number of past texts kept as further negatives; 0: none. For small batches.
    layer_map: matching teacher layers: "uniform" (evenly spaced), "skip" (the same without the last) or "last".
    compare: comparison of layers: "cos_nce"; for ablations "hidden" (squared distance), "cosine" (without negatives) or
        "centred" (cosine to the teacher less a third of the negatives' mean).
    contrast: weight of that comparison; 0: there is no first stage.
    soft: weight of the soft labels in the second stage.
    hard: weight of the labels in the second stage.
    """

    name = "lrc_bert"
    needs = {"hidden", "logits"}
    across_batch = True
    queued = frozenset({"cos_nce"})
    stages: Sequence[Stage] = (  # the paper's shares are 0.8 and 0.2; ours were measured (docs/decisions/0003)
        Stage("representation", {"cos_nce": 1.0}, share=0.5),
        Stage("joint", {"cos_nce": 1.0, "soft": 1.0, "hard": 3.0}, share=0.5),
    )

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        granularity: Granularity = "tokens",
        temperature: Temperature = 1.1,
        negatives: Number = 0,
        queue: Number = 0,
        layer_map: LayerMap = "uniform",
        compare: Comparison = "cos_nce",
        contrast: Weight = 1.0,
        soft: Weight = 1.0,
        hard: Weight = 3.0,
    ) -> None:
        (first, joint), layers, answers = self.stages, {compare: contrast}, {"soft": soft, "hard": hard}
        self.stages = replace(first, weights=layers), replace(joint, weights=layers | answers)
        if not contrast:
            self.stages, self.needs = (replace(joint, weights=answers, share=1.0),), {"logits"}
        super().__init__(student, teacher, task)
        self.compare = compare
        self.granularity, self.temperature, self.negatives = granularity, temperature, negatives
        self.pairs = self.layers(layer_map) if contrast else ()
        self.project = nn.ModuleList(self.bridge(pair) for pair in self.pairs)
        self.queue = Queue(queue if contrast else 0, len(self.pairs), self.teacher.width)

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {
            **(self.of_layers(student, teacher, batch) if self.pairs else {}),
            **self.on_task(soft=lambda: self.soft(student, teacher, self.temperature)),
            **self.on_task(hard=lambda: self.hard(student, batch)),
        }

    def of_layers(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        candidates, keys = self.queue.with_batch(*self.of_batch(teacher, batch))
        allowed = losses.negatives_of(batch["text_key"], keys, self.negatives or None)
        compared = []
        for n, (project, (i, j)) in enumerate(zip(self.project, self.pairs, strict=True)):
            x, _ = pool_layer(student.hidden[i], student.mask, self.granularity)
            y, mask = pool_layer(teacher.hidden[j], teacher.mask, self.granularity)
            compared.append(self.compared(project(x), y, candidates[:, n], allowed, mask))
        return {self.compare: torch.stack(compared).sum()}

    def compared(self, x: Tensor, y: Tensor, negatives: Tensor, allowed: Tensor, mask: Tensor) -> Tensor:
        """The distance of one pair of layers: of the arguments of `losses.cos_nce`, ()."""
        if self.compare == "hidden":
            return losses.hidden_mse(x, y, mask)
        if self.compare == "cos_nce":
            return losses.cos_nce(x, y, negatives, allowed, mask)
        return losses.centred_cosine(x, y, negatives, allowed & (self.compare == "centred"), mask)

    @torch.no_grad()
    def of_batch(self, teacher: Encoding, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The whole batch as candidates: (processes * B, mapped layers, D_T), and their text keys."""
        views = [
            losses.unit_mean(*pool_layer(teacher.hidden[j], teacher.mask, self.granularity)) for _, j in self.pairs
        ]
        return gather(torch.stack(views, dim=1)), gather(batch["text_key"])

    def after_step(self, teacher: Encoding, batch: Mapping[str, Tensor]) -> None:
        if self.queue.size:
            self.queue.push(*self.of_batch(teacher, batch))
