import copy
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from contrastill import losses
from contrastill.errors import UserError
from contrastill.language import CausalLM
from contrastill.methods.base import Stage
from contrastill.methods.language import LanguageMethod
from contrastill.methods.settings import Weight
from contrastill.ranges import Range
from contrastill.tasks.base import Task
from contrastill.teachers.language import Part

QUERY_VALUE = ["q_proj", "v_proj", "c_attn", "query_key_value", "qkv_proj", "query", "value"]
"""Names of the layers that get a module: queries and values, or those with keys where they are one layer."""


class OKD(LanguageMethod):
    """Online knowledge distillation, after its abstract. Rao et al., 2024. arXiv:2409.12512.

    A small module in the frozen teacher learns with the student: `CE(y, p_S) + KL(p_S || p_T)` for the student,
    `CE(y, p_T) + KL(p_S || p_T)` for the module, each of the other's distribution as it is. The module is a LoRA of the
    teacher's queries and values; it is dropped after training. The paper's own module and losses are not public to us.

    rank: of the module; 0: there is none, and the student learns by the reverse divergence alone.
    pace: factor of the module's steps, as its learning rate is the student's.
    module_soft: weight of the module's distance to the student.
    module_hard: weight of the given answers, which keeps the teacher a teacher.
    hard: weight of the given answers for the student.
    """

    name = "okd"
    asks_live = True
    stages = (Stage("distil", {"soft": 1.0, "hard": 1.0, "module_soft": 1.0, "module_hard": 1.0}),)

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel | None,
        task: Task,
        *,
        rank: Annotated[int, Range(at_least=0, at_most=1024)] = 8,
        pace: Annotated[float, Range(above=0, at_most=1000)] = 2.0,
        module_soft: Weight = 1.0,
        module_hard: Weight = 1.0,
        hard: Weight = 1.0,
    ) -> None:
        weights = {"soft": 1.0, "hard": hard}
        if rank:
            weights |= {"module_soft": module_soft, "module_hard": module_hard}
        self.stages = (Stage("distil", weights),)
        super().__init__(student, teacher, task)
        self.adapted: tuple[CausalLM, ...] = ()  # in a tuple: what is no part of the method is neither saved nor moved
        if rank:
            lm = CausalLM(with_module(self.teacher.model, rank, pace))
            self.adapted = (lm,)
            self.module = nn.ParameterList([p for p in lm.parameters() if p.requires_grad])

    def distributions(self, batch: Mapping[str, Tensor]) -> Part | None:
        """The teacher with its module, whose gradient is kept."""
        if not self.adapted:
            return super().distributions(batch)
        (lm,) = self.adapted
        if lm.model.device != batch["prompt"].device:
            lm.to(batch["prompt"].device)
        states = lm.states(batch)
        return lambda some: lm.head(states[some])

    def token_losses(self, student: Tensor, teacher: Tensor, target: Tensor) -> dict[str, Tensor]:
        found = {"soft": losses.reverse_kl(student, teacher)}
        if self.adapted:
            found["module_soft"] = losses.forward_kl(teacher, student)  # KL(p_S || p_T), of which p_T moves
            found["module_hard"] = cross_entropy(teacher.float(), target, reduction="none")
        return found


def with_module(teacher: PreTrainedModel, rank: int, pace: float) -> Any:
    """A view of the teacher, of the same weights, with a LoRA of its queries and values, which alone is trained.

    Raises:
        UserError: peft is not installed; layers that are known by none of the names.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise UserError("method 'okd' puts a module in the teacher: pip install 'contrastill[adapters]'") from None
    shared = {id(tensor): tensor for tensor in (*teacher.parameters(), *teacher.buffers())}
    view = copy.deepcopy(teacher, shared)
    there = {name.rpartition(".")[2] for name, _ in view.named_modules()}
    names = [name for name in QUERY_VALUE if name in there]
    if not names:
        raise UserError(
            f"method 'okd': expected a teacher with layers of queries and values ({', '.join(QUERY_VALUE)}), none "
            f"in {type(teacher).__name__}; choose another method, or --set rank=0"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        config = LoraConfig(r=rank, lora_alpha=round(rank * pace), target_modules=names, lora_dropout=0.0)
        return inject_adapter_in_model(config, view).eval()
