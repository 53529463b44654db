"""The start `inherit`: the teacher's weights reduced to the student's shape, without training.

The student's hidden states approximate the teacher's times P, a PCA basis of them. From the bottom up, each weight
matrix is reduced to the student's width, and the outputs of attention and feed-forward are corrected by ridge
regression, on a few hundred texts that both models read. At the teacher's width this is exact.

Shapes: T tokens, D teacher width, W student width, H heads, d width of a head, F neurons, P (D, W) the basis.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill.mapping import uniform
from contrastill.students.families import (
    FAMILIES,
    Family,
    Layer,
    Point,
    embedding_norm,
    first_stream,
    head_linears,
    head_weights,
    projection_of,
    top_of,
)
from contrastill.students.regression import (
    HEAD_RIDGE,
    basis,
    fit_norm,
    moment,
    regress,
    roots,
    score_maps,
    solve,
    write,
)
from contrastill.students.sample import Sample, cpu, record

__all__ = ["inherit"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reader:
    """A model's pass over the sample, with its weights as they are then."""

    model: PreTrainedModel
    sample: Sample

    def at(self, point: Point) -> Tensor:
        return record(self.model, self.sample, {"": point})[""]

    def at_both(self, one: Point, other: Point) -> tuple[Tensor, Tensor]:
        seen = record(self.model, self.sample, {"one": one, "other": other})
        return seen["one"], seen["other"]


def inherit(student: PreTrainedModel, teacher: PreTrainedModel, sample: Sample, seed: int) -> None:
    """Reduces the teacher's weights to the student's shape, from the embeddings up; see the head of this file."""
    family = FAMILIES.get(teacher.config.model_type)
    if family is None:
        inherit_words(student, teacher, sample, seed)
        return
    pairs = uniform(student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    theirs = {i: Layer(teacher, family, j) for i, j in pairs}
    points: dict[str, Point] = {"stream 0": first_stream(teacher.base_model), "top": top_of(teacher, family)}
    for i, t in theirs.items():
        points |= {f"attention {i}": (t.reader, "input"), f"middle {i}": t.middle, f"ffn {i}": (t.up, "input")}
        points |= {f"neurons {i}": (t.down, "energy"), f"stream {i}": t.stream}
    if last := head_linears(teacher)[1]:
        points |= {"features": (last, "energy"), "logits": (last, "output")}
    seen = record(teacher, sample, points)
    read = Reader(student, sample)
    P = basis(
        [seen[f"stream {i}"] for i in range(len(pairs) + 1)], student.config.hidden_size, not family.final_norm, seed
    )
    inherit_embeddings(student, teacher, family, seen["stream 0"] @ P, P, read)
    for i, t in theirs.items():
        s = Layer(student, family, i)
        inherit_attention(s, t, read.at((s.reader, "input")), seen[f"attention {i}"], P, bool(family.position_scores))
        solve(s.out, s.norms[0], seen[f"middle {i}"] @ P, *read.at_both((s.out, "input"), s.sums[0]))
        inherit_neurons(s, t, read.at((s.up, "input")), seen[f"ffn {i}"], P, seen[f"neurons {i}"].mean(0))
        solve(s.down, s.norms[1], seen[f"stream {i}"] @ P, *read.at_both((s.down, "input"), s.sums[1]))
    if family.final_norm:
        norm = student.base_model.get_submodule(family.final_norm)
        fit_norm(norm, read.at((norm, "input")), seen["top"] @ P)
    inherit_head(student, teacher, family, seen, read)


def inherit_words(student: PreTrainedModel, teacher: PreTrainedModel, sample: Sample, seed: int) -> None:
    """The tables alone, in the basis of the sample's words: of a family whose layers are not known."""
    said = (
        f"start='inherit' knows {', '.join(FAMILIES)}; of a {teacher.config.model_type} it takes the embeddings, "
        "the layers are random"
    )
    logger.warning("%s", said)
    vars(student)["doubt"] = said
    mine: Any = student.base_model
    base: Any = teacher.base_model
    ids = torch.cat([ids[mask.bool()] for ids, mask in sample])
    words = cpu(base.get_input_embeddings().weight)[ids]
    inherit_tables(mine, base, basis([words], mine.get_input_embeddings().embedding_dim, True, seed))


def inherit_embeddings(
    student: PreTrainedModel, teacher: PreTrainedModel, family: Family, stream: Tensor, P: Tensor, read: Reader
) -> None:
    """All tables, and the norm (or the projection) between them and the layers, so that it gives stream (T, W)."""
    mine: Any = student.base_model
    base: Any = teacher.base_model
    norm, norm_t = embedding_norm(mine), embedding_norm(base)
    inherit_tables(mine.embeddings, base.embeddings, P, cpu(norm_t.weight))
    if (project := projection_of(mine)) is not None:  # ELECTRA: tables narrower than the layers, taken as they are
        write(norm, cpu(norm_t.weight), cpu(norm_t.bias))
        write(project, *regress(read.at((project, "input")), stream, True))
    else:
        fit_norm(norm, read.at((norm, "input")), stream)
    if family.position_scores:
        heads = [0.0] * teacher.config.num_attention_heads
        kept = [h for h, _ in choose_heads(heads, student.config.num_attention_heads)]
        scores = base.get_submodule(family.position_scores).weight[:, kept]
        mine.get_submodule(family.position_scores).weight.copy_(scores)


def inherit_head(
    student: PreTrainedModel, teacher: PreTrainedModel, family: Family, seen: dict[str, Tensor], read: Reader
) -> None:
    """The head's neurons that weigh most, reading the student's top, and the logits, solved for."""
    (dense, last), (dense_t, last_t) = head_linears(student), head_linears(teacher)
    if dense is not None:
        back, back_0 = regress(read.at(top_of(student, family)), seen["top"], dense.bias is not None)
        weight = cpu(dense_t.weight)
        weigh = seen["features"].mean(0) * cpu(last_t.weight).square().sum(0) if last else weight.square().sum(1)
        best = weigh.topk(dense.out_features).indices
        write(dense, weight[best] @ back, cpu(dense_t.bias).expand(len(weight))[best] + weight[best] @ back_0)
        norms: dict[str, Any] = {n: m for n, m in teacher.named_modules() if isinstance(m, nn.LayerNorm)}
        for name, norm in student.named_modules():
            if name in norms and f"{name}.weight" in head_weights(student):
                write(norm, cpu(norms[name].weight)[best], cpu(norms[name].bias).expand(len(weight))[best])
    if last is not None:
        write(last, *regress(read.at((last, "input")), seen["logits"], last.bias is not None, HEAD_RIDGE))


def inherit_tables(student: nn.Module, teacher: nn.Module, P: Tensor, gain: Tensor | float = 1.0) -> None:
    """Word, position and type vectors, less their mean and times the gain (which the teacher's norm does), times P."""
    theirs: dict[str, Any] = dict(teacher.named_modules())
    scale = None
    for name, table in student.named_modules():
        if isinstance(table, nn.Embedding):
            rows = cpu(theirs[name].weight)
            if rows.shape == table.weight.shape:
                table.weight.copy_(rows)
            elif (rows.shape[1], table.embedding_dim) == P.shape:
                projected = ((rows - rows.mean(1, keepdim=True)) * gain) @ P
                scale = scale or float(rows.std() / projected.std().clamp_min(1e-12))  # as large as they were
                table.weight.copy_(scale * projected)


def inherit_attention(s: Layer, t: Layer, x: Tensor, x_t: Tensor, P: Tensor, in_order: bool) -> None:
    """The attention of layer s from that of teacher layer t, whose input x_t (T, D) is predicted from x (T, W).

    Of each head's width d the part is kept that matters most to its scores (queries, keys) and its output (values).
    """
    back, back_0 = regress(x, x_t, s.reader.bias is not None)
    d, d_s = x_t.shape[1] // t.heads, x.shape[1] // s.heads
    roles = []  # of queries, keys, values: (T, H, d) as x predicts them, by a weight (W, H, d) and a bias (H, d)
    for linear in t.qkv:
        a, b = cpu(linear.weight) @ back, cpu(linear.weight) @ back_0 + cpu(linear.bias)
        roles.append([y.unflatten(-1, (-1, d)) for y in (x @ a.T + b, a.T, b)])
    q, k, v = (role[0] for role in roles)
    out = (P.T @ cpu(t.out.weight)).unflatten(1, (-1, d))  # (W, H, d)
    outputs, to_values = [], []
    for h in range(t.heads):
        root, inverse = roots(moment(v[:, h] - v[:, h].mean(0)))
        left, size, right = torch.linalg.svd(out[:, h] @ root, full_matrices=False)
        outputs.append(left * size.sqrt())
        to_values.append(size.sqrt()[:, None] * (right @ inverse))
    power = [0.0] * t.heads if in_order else [float(left.square().sum()) for left in outputs]
    for h, (g, share) in enumerate(choose_heads(power, s.heads)):
        kept = slice(share * d_s, (share + 1) * d_s)
        maps = (*score_maps(q[:, g], k[:, g], d_s, s.pre_norm), to_values[g][kept])
        for linear, (_, weight, bias), to in zip(s.qkv, roles, maps, strict=True):
            filled = to.abs().sum(1).nonzero()[:, 0]  # a head wider than the teacher's keeps random rows
            write(linear, to[filled] @ weight[:, g].T, to[filled] @ bias[g], h * d_s + filled)
        s.out.weight[:, h * d_s : h * d_s + len(maps[2])] = outputs[g][:, kept]
    if s.out.bias is not None:  # the mean of the values passes whole
        mean = torch.einsum("whd,hd->w", out, v.mean(0)) + P.T @ cpu(t.out.bias)
        s.out.bias.copy_(mean - s.out.weight @ s.qkv[2](x).mean(0))


def choose_heads(power: list[float], count: int) -> list[tuple[int, int]]:
    """(teacher head, share of it) of each student head: the strongest, or where there are too few, shares of each."""
    if count > len(power):
        return [(h % len(power), h // len(power)) for h in range(count)]
    return [(h, 0) for h in sorted(sorted(range(len(power)), key=lambda h: -power[h])[:count])]


def inherit_neurons(s: Layer, t: Layer, x: Tensor, x_t: Tensor, P: Tensor, energy: Tensor) -> None:
    """The feed-forward neurons that write most into the stream; their input x_t (T, D) is predicted from x (T, W)."""
    back, back_0 = regress(x, x_t, s.up.bias is not None)
    theirs, mine = t.down.in_features, s.down.in_features
    strength = energy * cpu(t.down.weight).square().sum(0)
    kept = strength.topk(min(mine, theirs)).indices  # neurons that the teacher cannot give stay random
    for gate in range(t.up.out_features // theirs):  # 2 in a gated layer: a neuron has two rows
        source = gate * theirs + kept
        weight, bias = cpu(t.up.weight)[source], cpu(t.up.bias).expand(t.up.out_features)[source]
        write(s.up, weight @ back, bias + weight @ back_0, slice(gate * mine, gate * mine + len(kept)))
    s.down.weight[:, : len(kept)] = P.T @ cpu(t.down.weight)[:, kept]
    if s.down.bias is not None:
        s.down.bias.copy_(P.T @ cpu(t.down.bias))
