"""The start `inherit`: the teacher's weights reduced to the student's shape, without training.

The student's hidden states approximate the teacher's times P, a PCA basis of them. From the bottom up, each weight
matrix is reduced to the student's width, and the outputs of attention and feed-forward are corrected by ridge
regression, on a few hundred texts that both models read. At the teacher's width this is exact.

Layers that share their weights take them from one of the teacher's layers, and are corrected for all their places at
once: from the one with which the last layer comes nearest to the teacher's.

Shapes: T tokens, D teacher width, W student width, H heads, d width of a head, F neurons, P (D, W) the basis.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from contrastill.encoder import projection_of
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

ROUNDS = 2  # of corrections of a layer that stands in several places
PASSED = 0.3  # of each feature through a dense layer: there tanh is all but linear


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
        inherit_tables_alone(student, teacher, sample, seed)
        return
    pairs = uniform(student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    theirs = {i: Layer(teacher, family, j) for i, j in pairs}
    points: dict[str, Point] = {"stream 0": first_stream(teacher.base_model), "top": top_of(teacher, family)}
    points["words"] = Point(embedding_norm(teacher.base_model), "output")
    for i, t in theirs.items():
        points |= {f"attention {i}": t.at(t.reader, "input"), f"middle {i}": t.middle, f"ffn {i}": t.at(t.up, "input")}
        points |= {f"neurons {i}": t.at(t.down, "energy"), f"stream {i}": t.stream}
    if last := head_linears(teacher)[1]:
        points |= {"features": Point(last, "energy"), "logits": Point(last, "output")}
    seen = record(teacher, sample, points)
    read = Reader(student, sample)
    P = basis(
        [seen[f"stream {i}"] for i in range(len(pairs) + 1)], student.config.hidden_size, not family.final_norm, seed
    )
    inherit_embeddings(student, teacher, seen, P, read, seed)
    own = FAMILIES[student.config.model_type]
    if len({id(Layer(student, own, i).reader) for i in theirs}) < len(theirs):
        inherit_shared(student, theirs, seen, P, read)
    else:
        for i, t in theirs.items():
            inherit_layer(Layer(student, own, i), t, i, seen, P, read, bool(own.position_scores))
    if family.final_norm:
        norm = student.base_model.get_submodule(family.final_norm)
        fit_norm(norm, read.at(Point(norm, "input")), seen["top"] @ P)
    inherit_head(student, teacher, family, seen, read)


def inherit_layer(s: Layer, t: Layer, i: int, seen: dict[str, Tensor], P: Tensor, read: Reader, in_order: bool) -> None:
    """Student layer i from its teacher layer."""
    inherit_attention(s, t, read.at(s.at(s.reader, "input")), seen[f"attention {i}"], P, in_order)
    solve(s.out, s.norms[0], seen[f"middle {i}"] @ P, *read.at_both(s.at(s.out, "input"), s.sums[0]))
    inherit_neurons(s, t, read.at(s.at(s.up, "input")), seen[f"ffn {i}"], P, seen[f"neurons {i}"].mean(0))
    solve(s.down, s.norms[1], seen[f"stream {i}"] @ P, *read.at_both(s.at(s.down, "input"), s.sums[1]))


def inherit_shared(
    student: PreTrainedModel, theirs: Mapping[int, Layer], seen: dict[str, Tensor], P: Tensor, read: Reader
) -> None:
    """The one layer of a student whose layers share their weights."""
    own, stream = FAMILIES[student.config.model_type], {i: seen[f"stream {i}"] @ P for i in (0, *theirs)}
    middle = {i: seen[f"middle {i}"] @ P for i in theirs}
    mine = {i: Layer(student, own, i) for i in theirs}
    s, best = mine[1], (float("inf"), dict[str, Tensor]())
    for i, t in theirs.items():  # as if its input were what it should be
        inherit_attention(s, t, stream[i - 1], seen[f"attention {i}"], P, in_order=False)
        inherit_neurons(s, t, middle[i], seen[f"ffn {i}"], P, seen[f"neurons {i}"].mean(0))
        for norm, point, goal in zip(s.norms, s.sums, (middle[1], stream[1]), strict=True):
            fit_norm(norm, read.at(point), goal)
        for _ in range(ROUNDS):  # what is corrected changes the input of all places
            for linear, norm, goals, sums in ((s.out, s.norms[0], middle, 0), (s.down, s.norms[1], stream, 1)):
                found = [read.at_both(each.at(linear, "input"), each.sums[sums]) for each in mine.values()]
                f, u = (torch.cat(parts) for parts in zip(*found, strict=True))
                solve(linear, norm, torch.cat([goals[n] for n in theirs]), f, u)
        far = float((read.at(mine[len(theirs)].stream) - stream[len(theirs)]).square().mean())
        if far < best[0]:
            best = far, {name: value.clone() for name, value in student.state_dict().items()}
    student.load_state_dict(best[1])


def inherit_tables_alone(student: PreTrainedModel, teacher: PreTrainedModel, sample: Sample, seed: int) -> None:
    """The tables alone, in the basis of the sample's words: of a family whose layers are not known."""
    said = (
        f"start='inherit' knows {', '.join(FAMILIES)}; of a {teacher.config.model_type} it takes the embeddings, "
        f"the layers are random (student {max(1, teacher.config.num_hidden_layers // 2)}L takes whole layers instead)"
    )
    logger.warning("%s", said)
    vars(student)["doubt"] = said
    mine: Any = student.base_model
    base: Any = teacher.base_model
    ids = torch.cat([ids[mask.bool()] for ids, mask in sample])
    words = cpu(base.get_input_embeddings().weight)[ids]
    inherit_tables(mine, base, basis([words], mine.get_input_embeddings().embedding_dim, True, seed))


def inherit_embeddings(
    student: PreTrainedModel, teacher: PreTrainedModel, seen: dict[str, Tensor], P: Tensor, read: Reader, seed: int
) -> None:
    """All tables, and the norm or the projection between them and the layers, so that it gives stream 0 times P.

    Behind a projection the tables keep the main directions of the words in the sample, and as much of those of all
    words; where they are as wide as the teacher's they are the teacher's.
    """
    mine: Any = student.base_model
    base: Any = teacher.base_model
    norm, norm_t, stream = embedding_norm(mine), embedding_norm(base), seen["stream 0"] @ P
    gain, project, project_t = cpu(norm_t.weight), projection_of(mine), projection_of(base)
    width, width_t = (model.get_input_embeddings().embedding_dim for model in (mine, base))
    if project is None:
        Q = P if project_t is None else cpu(project_t.weight).T @ P
        inherit_tables(mine.embeddings, base.embeddings, Q, gain)
        fit_norm(norm, read.at(Point(norm, "input")), stream)
    else:
        table = cpu(base.get_input_embeddings().weight)
        Q = basis([seen["words"], (table - table.mean(1, keepdim=True)) * gain], width, True, seed)
        inherit_tables(mine.embeddings, base.embeddings, Q, gain)
        if width == width_t:
            write(norm, gain, cpu(norm_t.bias))
        write(project, *regress(read.at(Point(project, "input")), stream, True))
    scores, scores_t = (FAMILIES[model.config.model_type].position_scores for model in (student, teacher))
    if scores and scores_t:
        heads = [0.0] * teacher.config.num_attention_heads
        kept = [h for h, _ in choose_heads(heads, student.config.num_attention_heads)]
        mine.get_submodule(scores).weight.copy_(base.get_submodule(scores_t).weight[:, kept])


def inherit_head(
    student: PreTrainedModel, teacher: PreTrainedModel, family: Family, seen: dict[str, Tensor], read: Reader
) -> None:
    """The head's neurons that weigh most, reading the student's top, and the logits, solved for.

    Behind another activation than the teacher's the student's dense layer hands on what it reads.
    """
    (dense, last), (dense_t, last_t) = head_linears(student), head_linears(teacher)
    own = FAMILIES[student.config.model_type]
    if dense is not None and (dense_t is None or own.activation != family.activation):
        write(dense, PASSED * torch.eye(*dense.weight.shape), torch.zeros(dense.out_features))
    elif dense is not None:
        back, back_0 = regress(read.at(top_of(student, own)), seen["top"], dense.bias is not None)
        weight = cpu(dense_t.weight)
        weigh = seen["features"].mean(0) * cpu(last_t.weight).square().sum(0) if last else weight.square().sum(1)
        best = weigh.topk(dense.out_features).indices
        write(dense, weight[best] @ back, cpu(dense_t.bias).expand(len(weight))[best] + weight[best] @ back_0)
        norms: dict[str, Any] = {n: m for n, m in teacher.named_modules() if isinstance(m, nn.LayerNorm)}
        for name, norm in student.named_modules():
            if name in norms and f"{name}.weight" in head_weights(student):
                write(norm, cpu(norms[name].weight)[best], cpu(norms[name].bias).expand(len(weight))[best])
    if last is not None:
        write(last, *regress(read.at(Point(last, "input")), seen["logits"], last.bias is not None, HEAD_RIDGE))


def inherit_tables(student: nn.Module, teacher: nn.Module, P: Tensor, gain: Tensor | float = 1.0) -> None:
    """Word, position and type vectors, less their mean and times the gain (which the teacher's norm does), times P.

    A table that the teacher has not (of token types) is 0. Of one that begins with rows for no position the rest is
    taken.
    """
    theirs: dict[str, Any] = dict(teacher.named_modules())
    scale = None
    for name, table in student.named_modules():
        if isinstance(table, nn.Embedding):
            if name not in theirs:
                table.weight.zero_()
                continue
            rows = cpu(theirs[name].weight)[-len(table.weight) :]
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
