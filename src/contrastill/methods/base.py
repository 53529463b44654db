"""Base of every distillation method: its stages, and the step from a batch to a weighted loss.

Shapes: B batch, L tokens, D width, C classes.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill import mapping
from contrastill.encoder import Encoder, Encoding, Wanted, pool_layer
from contrastill.errors import UserError
from contrastill.language import CausalLM
from contrastill.methods.settings import checking
from contrastill.ranges import suggestion
from contrastill.tasks.base import Task
from contrastill.teachers.live import FrozenEncoder

__all__ = ["TASK_TERMS", "Method", "Stage", "batch_mean", "gather", "gather_with_gradient"]

TASK_TERMS = frozenset({"soft", "kd", "hard"})
"""Terms that compare answers: the task computes them."""


@dataclass(frozen=True)
class Stage:
    """A part of a run: the weight of each loss term, the share of the run's steps, and how it begins.

    `fresh` stages begin as a run of their own: optimiser state cleared, learning rate warmed up again.
    """

    name: str
    weights: Mapping[str, float]
    share: float = 1.0
    fresh: bool = False


class Method(nn.Module):
    """A distillation method: the module that is trained. Subclasses state `needs`, `stages` and `losses()`.

    It holds the student (trained), its own projections and queues (trained, checkpointed), and the teacher (neither).
    """

    name: ClassVar[str]
    needs: Collection[str] = {"logits"}
    stages: Sequence[Stage]
    uses_teacher: bool = True
    balanced_by: str = ""  # the option that makes a stage's terms alike in size, where that is not chosen yet
    per_group: ClassVar[bool] = False  # it compares texts that belong together
    asks_live: ClassVar[bool] = False  # the teacher reads what the method makes of a batch: nothing to store
    guesses_words: ClassVar[bool] = False  # it needs the masked-LM head of its teacher
    across_batch: ClassVar[bool] = False  # a term compares the batch's examples: gathered, never accumulated
    queued: ClassVar[frozenset[str]] = frozenset()  # terms that compare with a queue too, where there is one
    pairs: Sequence[tuple[int, int]] = ()  # of compared layers, student's and teacher's
    granularity: str = "tokens"  # what of them is compared
    decided: Mapping[str, str] = {}  # what the method has made of the student, in words, for the record of a run
    _keys_to_ignore_on_save = None  # transformers' Trainer asks where a checkpoint has a tensor under one name of two

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = checking(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, student: PreTrainedModel | Encoder | CausalLM, teacher: Any, task: Task) -> None:
        super().__init__()
        if self.uses_teacher and teacher is None:
            raise UserError(f"method {self.name!r} expected a teacher, got none; pass one, or use method 'finetune'")
        if not self.serves(task):
            gives = f"does not give ({', '.join(sorted(task.outputs))})"
            lacks = f"needs {' and '.join(sorted(self.needs))}, which the task {task.name!r} {gives}"
            why = f"does not serve the task {task.name!r}" if set(self.needs) <= task.outputs else lacks
            raise UserError(f"method {self.name!r} {why}; choose another method")
        self.task = task
        self.needs = set(self.needs) & task.outputs
        self.stages = stages_on(task, self.stages)
        if not self.stages:
            raise UserError(f"method {self.name!r}, with these settings, has no term for the task {task.name!r}")
        self.student: Any = student if isinstance(student, Encoder | CausalLM) else Encoder(student)
        self.teacher: Any = None  # a `Teacher`
        if self.uses_teacher:
            self.teacher = FrozenEncoder(teacher) if isinstance(teacher, PreTrainedModel) else teacher
        self.bridges: list[tuple[nn.Linear, tuple[tuple[int, int], ...]]] = []
        self.stage = self.stages[0]
        self.register_state_dict_post_hook(drop_duplicate_tensors)
        self.register_load_state_dict_pre_hook(add_duplicate_tensors)

    @classmethod
    def serves(cls, task: Task | type[Task]) -> bool:
        """Whether the method can learn the task: the task gives all that the method needs, or all of it but answers.

        Groups of texts are learnt by methods that compare the texts of a group.
        """
        needs = set(cls.needs)
        gives = needs - {"logits"} <= task.outputs and bool(needs & task.outputs)
        return gives and cls.per_group == (task.per == "group") and bool(stages_on(task, cls.stages))

    def losses(self, student: Encoding, teacher: Encoding, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The paper's terms, unweighted: name -> (). The names are those that the stages weigh.

        Without `uses_teacher`, `teacher` is None.
        """
        raise NotImplementedError

    @property
    def wanted(self) -> Wanted:
        """The teacher outputs that the method compares, and no others: a cache must hold these."""
        compared = {j for _, j in self.pairs}
        bridged = {j for _, pairs in self.bridges for _, j in pairs}
        return Wanted(
            logits="logits" in self.needs,
            layers=tuple(sorted(compared | bridged)) if "hidden" in self.needs else (),
            granularity=self.granularity,
            attention=tuple(sorted(compared)) if "attention" in self.needs else (),
            qkv=tuple(sorted(compared)) if "qkv" in self.needs else (),
            pooled="pooled" in self.needs,
        )

    # ---- one training step

    def prepare(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What student and teacher read of a batch: called once a step, before either runs."""
        return dict(batch)

    def forward(self, **batch: Tensor) -> dict[str, Tensor]:
        """A padded batch -> {"loss": (), and each term: ()}."""
        batch = self.prepare(batch)
        teacher = self.run_teacher(batch)
        result = self.weighted_sum(self.losses(self.student(batch, self.needs), teacher, batch))
        self.after_step(teacher, batch)
        return result

    def run_teacher(self, batch: Mapping[str, Tensor]) -> Encoding:
        """The teacher's outputs for the batch; computed once a step, however often the student runs."""
        return self.teacher(batch, self.needs) if self.uses_teacher else None  # type: ignore[return-value]

    def weighted_sum(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adds "loss", the current stage's weighted sum. A term of weight 0 is left out of the sum, not multiplied."""
        weights = self.stage.weights
        if unknown := set(weights) - set(terms):
            raise UserError(
                f"stage {self.stage.name!r} of {self.name!r} weighs {sorted(unknown)}, "
                f"but the method computes {sorted(terms)}; weigh only those"
            )
        total = torch.stack([weight * terms[term] for term, weight in weights.items() if weight]).sum()
        return {"loss": total, **{term: value.detach() for term, value in terms.items()}}

    def after_step(self, teacher: Encoding, batch: Mapping[str, Tensor]) -> None:
        """Called once after each training step's losses: a method with a queue pushes here."""

    def before_step(self, batches: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        """The parts of a step's batch as they are learnt from: called once a step, before the first of them. A method
        that writes texts does so here, so that it knows how much there is to learn from in the whole step."""
        return [dict(batch) for batch in batches]

    def after_check(self, metrics: Mapping[str, float]) -> None:
        """Called with the student's dev metrics after each check: a method may steer by them."""

    def finish(self) -> None:
        """Called once training is over, before the student is saved: gives it back the form of a plain model. Its
        answers stay the same."""

    # ---- stages

    def with_shares(self, shares: Mapping[str, float]) -> None:
        """Replaces the stages' shares of the run; they must name all stages and sum to 1."""
        names = [stage.name for stage in self.stages]
        if set(shares) != set(names) or not (abs(sum(shares.values()) - 1) <= 1e-6 and min(shares.values()) >= 0):
            raise UserError(
                f"expected shares of at least 0 that sum to 1 for the stages {names} of {self.name!r}, "
                f"got {dict(shares)}" + "".join(suggestion(one, names) for one in shares if one not in names)
            )
        self.stages = tuple(replace(stage, share=shares[stage.name]) for stage in self.stages)

    def milestones(self, total: int) -> list[int]:
        """The step at which each stage ends, of a run of `total` steps."""
        whole = sum(stage.share for stage in self.stages)
        ends, done = [], 0.0
        for stage in self.stages:
            done += stage.share / whole
            ends.append(round(done * total))
        return ends

    def set_stage(self, step: int, total: int) -> Stage:
        """Sets and returns the stage in force at `step` (from 0) of `total`: a function of the step alone."""
        ends = self.milestones(total)
        self.stage = next((s for s, end in zip(self.stages, ends, strict=True) if step < end), self.stages[-1])
        return self.stage

    # ---- terms that most methods share

    def on_task(self, **terms: Callable[[], Tensor]) -> dict[str, Tensor]:
        """The terms that compare predictions, if the task has predictions."""
        return {name: term() for name, term in terms.items()} if "logits" in self.needs else {}

    def soft(self, student: Encoding, teacher: Encoding, temperature: float) -> Tensor:
        """The task's distance to the teacher's answers, without T^2: ()."""
        return self.task.soft(student.logits, teacher.logits, answered(student), temperature)

    def kd(self, student: Encoding, teacher: Encoding, temperature: float) -> Tensor:
        """As `soft`, with T^2 (Hinton): ()."""
        return self.task.kd(student.logits, teacher.logits, answered(student), temperature)

    def hard(self, student: Encoding, batch: Mapping[str, Tensor]) -> Tensor:
        """The task's loss against the labels, as `batch_mean` takes it: ()."""
        return batch_mean(*self.task.hard(student.logits, batch["labels"], answered(student)))

    def layers(self, layer_map: str) -> list[tuple[int, int]]:
        """The pairs (student layer, teacher layer) of the layer map with this name.

        A student without layers has the mean of its word vectors to compare, with that of the teacher's last layer.

        Raises:
            UserError: the map has no pairs for students and teachers of these depths.
        """
        if not self.student.depth:
            if self.granularity == "mean":
                return [(0, self.teacher.depth)]
            raise UserError(
                f"method {self.name!r} compares layers, and a static student has none; use method 'kd', or 'lrc_bert' "
                "with --set granularity=mean (a text's mean vector against that of the teacher's last layer)"
            )
        try:
            pairs = mapping.MAPS[layer_map](self.student.depth, self.teacher.depth)
        except ValueError as error:
            raise UserError(str(error)) from error
        if not pairs:
            raise UserError(
                f"layer map {layer_map!r} leaves a student of 1 layer nothing to learn from {self.name!r}'s hidden "
                "states: it drops the top layer; choose 'uniform', or a deeper student"
            )
        return pairs

    def bridge(self, *pairs: tuple[int, int], bias: bool = True) -> nn.Linear:
        """A trained projection from the student's width to the teacher's, for those pairs of layers."""
        linear = nn.Linear(self.student.width, self.teacher.width, bias=bias)
        self.bridges.append((linear, pairs))
        return linear

    @torch.no_grad()
    def fit_bridges(self, batches: Iterable[Mapping[str, Tensor]], ridge: float = 1e-3) -> None:
        """Starts each projection at the ridge regression of the teacher's layers on the student's.

        From random projections the first steps would turn the student's layers to suit those, and undo a start that is
        close to the teacher's (docs/decisions/0003).
        """
        if not self.bridges:
            return
        width = self.student.width + 1  # the last column, of ones, gives the bias
        needs = {"hidden", "pooled"} & set(self.needs)
        moments = [(torch.zeros(width, width), torch.zeros(width, self.teacher.width)) for _ in self.bridges]
        training = self.student.training
        self.student.eval()
        for batch in batches:
            student, teacher = self.student(batch, needs), self.teacher(batch, needs)
            for (gram, cross), (linear, pairs) in zip(moments, self.bridges, strict=True):
                for i, j in pairs:
                    x, y = self.bridge_inputs(student, teacher, i, j)
                    s = F.pad(x, (0, 1), value=float(linear.bias is not None)).cpu()
                    gram += s.T @ s
                    cross += s.T @ y.cpu()
        self.student.train(training)
        for (gram, cross), (linear, _) in zip(moments, self.bridges, strict=True):
            gram.diagonal().add_(ridge * gram.diagonal().mean())  # and no column of zeros is singular
            solved = torch.linalg.solve(gram.double(), cross.double()).float()
            linear.weight.copy_(solved[:-1].T)
            if linear.bias is not None:
                linear.bias.copy_(solved[-1])

    def bridge_inputs(self, student: Encoding, teacher: Encoding, i: int, j: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a bridge: (rows, D_S), (rows, D_T)."""
        x, _ = pool_layer(student.hidden[i].float(), student.mask, self.granularity)
        y, real = pool_layer(teacher.hidden[j].float(), teacher.mask, self.granularity)
        return x[real], y[real]


def answered(student: Encoding) -> Tensor:
    """(B, L) bool: the tokens whose answers count; of a task with one answer a text, the real ones."""
    return student.mask if student.answered is None else student.answered


def batch_mean(errors: Tensor, weights: Tensor) -> Tensor:
    """(B,), (B,) -> (): the weighted mean over the rows with a weight, times their share of the rows.

    So a row counts as much as it does where all have a weight, and one without a label (weight 0) as one without an
    error: where labels are rare, a mean over the labelled rows alone would let each outweigh a batch of soft labels
    (docs/decisions/0018). The sums are those of the whole batch over all processes, so that the mean of the processes'
    gradients is the gradient of the whole batch's mean.
    """
    weights = weights.float()
    sums = torch.stack([weights.sum(), (weights > 0).sum(), weights.new_tensor(len(weights))])
    if processes() > 1:
        dist.all_reduce(sums)
        sums[0] /= processes()
    total, known, rows = sums
    return (errors * weights).sum() / total.where(total > 0, 1.0) * known / rows


def stages_on(task: Task | type[Task], stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages whose terms the task has; for a task without answers, the stages that compare none."""
    answers = bool({"logits", "tokens"} & task.outputs)
    return tuple(s for s in stages if answers or not any(s.weights.get(term) for term in TASK_TERMS))


def drop_duplicate_tensors(module: nn.Module, state: dict[str, Tensor], prefix: str, metadata: Any) -> None:
    """Of a tensor with two names (T5's embeddings) a state dict, and so a checkpoint, keeps the first."""
    seen: set[int] = set()
    for name in list(state):
        place = state[name].data_ptr()
        if place and place in seen:
            del state[name]
        seen.add(place)


def add_duplicate_tensors(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Gives a state dict, before it is loaded, the names that `drop_duplicate_tensors` has left out."""
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(prefix.removesuffix("."), remove_duplicate=False):
        known = first.setdefault(id(parameter), name)
        if name not in state and known in state:
            state[name] = state[known]


def processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@torch.no_grad()
def gather(x: Tensor) -> Tensor:
    """(B, ...) -> (processes * B, ...): the whole batch's rows, in process order, without gradient."""
    if processes() == 1:
        return x
    rows = [torch.empty_like(x) for _ in range(processes())]
    dist.all_gather(rows, x.contiguous())
    return torch.cat(rows)


def gather_with_gradient(x: Tensor) -> Tensor:
    """As `gather`, but each process's rows get the gradient that all processes have for them."""
    return Gathered.apply(x) if processes() > 1 else x


class Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return gather(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        whole = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(whole)
        return whole[dist.get_rank() * ctx.rows :][: ctx.rows]
