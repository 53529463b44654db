"""Make the student: a smaller model of the teacher's own family, and the weights it starts from.

`inherit` needs no training. The student's hidden states are to be the teacher's times P, a PCA basis of them. From the
bottom up, each weight matrix is brought to the student's width, and what attention and feed-forward write is corrected
in closed form, on a few hundred texts that both models read. At the teacher's width this is exact.

Shapes: T tokens, D teacher width, W student width, H heads, d width of a head, F neurons, P (D, W) the basis.
"""

import contextlib
import copy
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from contrastill.errors import UserError
from contrastill.loading import check_ids, first_line, load_config, load_like, load_tokenizer, locate, rows_of
from contrastill.mapping import uniform

__all__ = ["PRESETS", "STARTS", "NoDirections", "Shape", "make_student", "parse_shape"]

logger = logging.getLogger(__name__)

Sample = list[tuple[Tensor, Tensor]]  # batches of (input_ids, attention_mask)

STARTS = ("random", "copy", "inherit")
SAMPLE_TOKENS = 12_288  # what `inherit` reads, ten times the neurons of a 4L-312 student
SAMPLE_LENGTH = 64
RIDGE = 1e-3  # all three in units of the mean eigenvalue
SHRINK = 1.0  # towards the teacher's projected weights: a closer fit to the sample trains worse
HEAD_RIDGE = 1e-1  # logits come one per text, not per token
WIDTHS = ("pooler_hidden_size", "embedding_size", "input_embedding_size", "d_embed")  # where they are the model's own
HEAD_WIDTHS = ("attention_head_size", "head_dim", "d_kv")
FFN_NAMES = ("intermediate_size", "hidden_dim", "d_ff")


class NoDirections(UserError):
    """A teacher whose layers hold nothing to inherit: values that are not finite, or alike for every text."""


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    heads: int
    ffn: int

    def __str__(self) -> str:
        return "/".join(map(str, astuple(self)))


PRESETS = {"4L-312": Shape(4, 312, 12, 1200), "6L-768": Shape(6, 768, 12, 3072)}  # TinyBERT and LRC-BERT; DistilBERT


def parse_shape(text: str, teacher_config: PreTrainedConfig) -> Shape:
    """A preset, "<n>L" (n layers at the teacher's width), or "layers/hidden/heads/ffn"; no larger than the teacher."""
    text = text.strip()
    if text in PRESETS:
        shape = PRESETS[text]
    elif match := re.fullmatch(r"(\d+)L", text):
        own = shape_of(teacher_config)
        shape = Shape(int(match[1]), own.hidden, own.heads, own.ffn)
    elif match := re.fullmatch(r"(\d+)/(\d+)/(\d+)/(\d+)", text):
        shape = Shape(*map(int, match.groups()))
    else:
        raise UserError(
            f'expected a student shape: one of {", ".join(PRESETS)}, or "<n>L" for n layers at the teacher\'s width, '
            f'or "layers/hidden/heads/ffn" such as "4/312/12/1200"; got {text!r}'
        )
    check_shape(shape, teacher_config)
    return shape


def shape_of(config: PreTrainedConfig) -> Shape:
    ffn = next((getattr(config, name) for name in FFN_NAMES if hasattr(config, name)), 4 * config.hidden_size)
    return Shape(config.num_hidden_layers, config.hidden_size, config.num_attention_heads, ffn)


def check_shape(shape: Shape, teacher_config: PreTrainedConfig) -> None:
    teacher = shape_of(teacher_config)
    widest = max(teacher.ffn, 4 * shape.hidden)
    problem = None
    if min(astuple(shape)) < 1:
        problem = "four numbers of at least 1"
    elif shape.layers > teacher.layers:
        problem = f"at most the teacher's {teacher.layers} layers"
    elif shape.hidden > teacher.hidden:
        problem = f"at most the teacher's width of {teacher.hidden}"
    elif shape.hidden % shape.heads:
        problem = f"a number of heads that divides the width {shape.hidden}"
    elif hasattr(teacher_config, "rope_parameters") and shape.hidden // shape.heads % 2:
        problem = f"an even width per head (rotary positions), which {shape.hidden} / {shape.heads} is not"
    elif shape.ffn > widest:
        problem = f"at most {widest} feed-forward neurons"
    if problem:
        raise UserError(
            f"expected {problem} in a student of this teacher ({teacher}), got {shape} (layers/hidden/heads/ffn); "
            f'choose one of {", ".join(PRESETS)}, "<n>L", or your own numbers such as "4/312/12/1200"'
        )


def make_student(
    teacher: PreTrainedModel,
    tokenizer: Any,
    shape: Shape | str,
    start: str | Path = "inherit",
    *,
    seed: int = 0,
    texts: Sequence[str] | None = None,
) -> PreTrainedModel:
    """A student of the teacher's class, with its vocabulary and head, in float32, on the CPU, in eval mode.

    `start` is one of
    * "random": the architecture's own initial weights;
    * "copy": evenly spaced layers of the teacher (needs its width, heads and neurons), its embeddings and its head;
    * "inherit": the teacher's weights brought to the student's shape. `texts` are the texts it is fitted on, best the
      ones you will train on: without them it makes do with random tokens. Where "copy" can serve, it is "copy";
    * a folder with a student distilled earlier, for instance a general one that is now to learn a task.

    The same arguments give the same student; the global random state is left as it was.
    """
    if isinstance(shape, str):
        shape = parse_shape(shape, teacher.config)
    else:
        check_shape(shape, teacher.config)
    check_ids(len(tokenizer) - 1, rows_of(teacher))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs too
        if start not in STARTS:
            return load_folder(teacher, tokenizer, shape, Path(start))
        student = built(teacher, shape)
        same_layers = astuple(shape)[1:] == astuple(shape_of(teacher.config))[1:]
        if start == "copy" and not same_layers:
            raise UserError(
                f"expected layers like the teacher's ({shape_of(teacher.config)}) for start='copy', got {shape}; "
                "use start='inherit', which brings weights to any shape"
            )
        with torch.no_grad():
            if start != "random" and same_layers:
                copy_layers(student, teacher)
            elif start == "inherit":
                try:
                    inherit(student, teacher, read_sample(tokenizer, texts, teacher.config, seed), seed)
                except torch.linalg.LinAlgError:
                    raise NoDirections(
                        "start='inherit' finds no directions in the teacher's layers: their values are not finite, or "
                        "alike for every text; check the teacher's weights, or use start='random'"
                    ) from None
    return student


def built(teacher: PreTrainedModel, shape: Shape) -> PreTrainedModel:
    """A model of the teacher's class and this shape, with random weights.

    Raises:
        UserError: the class cannot be built in this shape, or cannot read a text.
    """
    try:
        student = type(teacher)(resized(teacher.config, shape)).eval()
    except Exception as error:  # an architecture's own check of its sizes
        raise UserError(
            f"a {teacher.config.model_type} of the shape {shape} (layers/hidden/heads/ffn) cannot be built "
            f"({first_line(error)}); choose other numbers, or layers of the teacher's width, such as '3L'"
        ) from None
    check_reads_texts(student, shape)
    return student


def resized(teacher_config: PreTrainedConfig, shape: Shape) -> PreTrainedConfig:
    config = copy.deepcopy(teacher_config)
    if getattr(config, "layer_types", None) is not None:  # ModernBERT: which layers see the whole text
        config.layer_types = [config.layer_types[j - 1] for _, j in uniform(shape.layers, config.num_hidden_layers)]
    own = shape_of(teacher_config)
    if isinstance(getattr(config, "attention_window", None), list):  # Longformer: one for each layer
        config.attention_window = [config.attention_window[j - 1] for _, j in uniform(shape.layers, own.layers)]
    config.num_hidden_layers, config.hidden_size, config.num_attention_heads = shape.layers, shape.hidden, shape.heads
    for name in FFN_NAMES:
        if hasattr(config, name):
            setattr(config, name, shape.ffn)
    for name in WIDTHS:
        if getattr(teacher_config, name, None) == own.hidden:
            setattr(config, name, shape.hidden)
    for name in HEAD_WIDTHS:
        if getattr(config, name, None) is not None:
            setattr(config, name, shape.hidden // shape.heads)
    shared = getattr(config, "num_key_value_heads", None)  # keys and values that several heads share
    if shared is not None:
        config.num_key_value_heads = math.gcd(shape.heads, max(1, shape.heads * shared // own.heads))
    config.dtype = torch.float32
    return config


def check_reads_texts(student: PreTrainedModel, shape: Shape) -> None:
    """Checks that a student of this shape can read two tokens.

    Raises:
        UserError: a part of its architecture does not follow the shape.
    """
    ids = torch.arange(2)[None] % student.config.vocab_size
    try:
        with torch.no_grad():
            student(input_ids=ids, attention_mask=torch.ones_like(ids))
    except Exception as error:  # of whichever layer does not fit
        why = first_line(error)
        raise UserError(
            f"a {student.config.model_type} of the shape {shape} (layers/hidden/heads/ffn) cannot read a text "
            f"({why}): something in its config.json is tied to the teacher's width; choose layers of that width, such "
            "as '3L'"
        ) from None


# ---- start: copy


def copy_layers(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    """Student layer i takes teacher layer phi(i); everything else is taken as it is."""
    depth = teacher.config.num_hidden_layers
    stacks = [n for n, m in teacher.named_modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not stacks:
        raise UserError(f"cannot find the {depth} layers of {type(teacher).__name__} to copy; use start='random'")
    source = teacher.state_dict()
    pairs = uniform(student.config.num_hidden_layers, depth)
    numbered = {f"{stack}.{i - 1}.": f"{stack}.{j - 1}." for stack in stacks for i, j in pairs}
    for name, weight in student.state_dict().items():
        prefix = next((p for p in numbered if name.startswith(p)), "")
        weight.copy_(source[numbered.get(prefix, "") + name.removeprefix(prefix)])
    family = FAMILIES.get(teacher.config.model_type)
    if family and family.final_norm and pairs[0][1] > 1:
        # ModernBERT's first layer has no attention norm, its input comes normalised: fold in the gain of the copied one
        first, copied = Layer(student, family, 1), Layer(teacher, family, pairs[0][1])
        first.reader.weight.mul_(copied.attention_norm.weight.to(first.reader.weight))


# ---- start: a folder


def load_folder(teacher: PreTrainedModel, tokenizer: Any, shape: Shape, folder: Path) -> PreTrainedModel:
    """The student saved in `folder`, with the teacher's class and labels, and a new head if none fits."""
    if not folder.expanduser().exists() and len(folder.parts) < 2:
        raise UserError(
            f"expected start to be one of {', '.join(STARTS)} or a folder with a student, got {str(folder)!r}"
        )
    config = load_config(str(folder))

    def expect(what: str, expected: Any, got: Any, remedy: str) -> None:
        if expected != got:
            raise UserError(f"expected a start with {what} {expected}, got {got} in {folder}; {remedy}")

    expect("model_type", teacher.config.model_type, config.model_type, "start from a student of the same family")
    expect("shape", str(shape), str(shape_of(config)), "ask for that shape, or start from another folder")
    expect("vocab_size", teacher.config.vocab_size, config.vocab_size, "its teacher had another vocabulary")
    if locate(str(folder)).file("tokenizer.json") is not None:
        other = set(load_tokenizer(str(folder)).get_vocab().items()) ^ set(tokenizer.get_vocab().items())
        differing = f"{len(other)} differing entries" if other else "the same entries"
        expect("a vocabulary of", "the same entries", differing, "its teacher had another tokenizer")
    config.id2label, config.label2id = teacher.config.id2label, teacher.config.label2id
    config.problem_type = teacher.config.problem_type
    student = load_like(teacher, str(folder), config)
    return student.eval()


def head_weights(model: PreTrainedModel) -> list[str]:
    """Names of the weights above the layers: pooler and head."""
    body = {id(p) for name, p in model.base_model.named_parameters() if not name.startswith("pooler.")}
    return [name for name, p in model.named_parameters(remove_duplicate=False) if id(p) not in body]


# ---- start: inherit


@dataclass(frozen=True)
class Family:
    """Where an architecture keeps its parts: below the base model, or (query to ffn_norm) below one layer."""

    layers: str
    query: str
    key: str
    value: str
    out: str
    attention_norm: str
    up: str
    down: str
    ffn_norm: str
    position_scores: str = ""  # a table for all layers, with a column per head
    final_norm: str = ""  # where there is one, norms stand before their branches and positions are rotary


BERT = Family(
    "encoder.layer", "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
)  # fmt: skip
FAMILIES = {
    "bert": BERT,
    "camembert": BERT,
    "data2vec-text": BERT,
    "electra": BERT,
    "ernie": BERT,
    "roberta": BERT,
    "xlm-roberta": BERT,
    "distilbert": Family(
        "transformer.layer", "attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin",
        "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm",
    ),
    "mpnet": Family(
        "encoder.layer", "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
        "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm",
        position_scores="encoder.relative_attention_bias",
    ),
    "modernbert": Family(
        "layers", "attn.Wqkv", "attn.Wqkv", "attn.Wqkv", "attn.Wo", "attn_norm", "mlp.Wi", "mlp.Wo", "mlp_norm",
        final_norm="final_norm",
    ),
}  # fmt: skip

Point = tuple[Any, str]  # a module and "input", "output", or "energy": the mean square of its input


class Layer:
    """One layer of any family, its parts by role."""

    def __init__(self, model: PreTrainedModel, family: Family, number: int) -> None:
        part: Any = model.base_model.get_submodule(f"{family.layers}.{number - 1}").get_submodule
        self.reader, self.out, self.up, self.down = map(part, (family.query, family.out, family.up, family.down))
        self.attention_norm, self.ffn_norm = part(family.attention_norm), part(family.ffn_norm)
        self.heads, self.pre_norm = model.config.num_attention_heads, bool(family.final_norm)
        self.qkv = [part(family.query), part(family.key), part(family.value)]
        if family.query == family.key:  # one fused matrix: views of its thirds
            weights = self.reader.weight.chunk(3)
            biases = (None,) * 3 if self.reader.bias is None else self.reader.bias.chunk(3)
            self.qkv = [SimpleNamespace(weight=w, bias=b) for w, b in zip(weights, biases, strict=True)]
        self.stream: Point = (part(""), "output")
        self.norms: tuple[Any, Any] = (self.attention_norm, self.ffn_norm)
        self.sums: tuple[Point, Point] = ((self.attention_norm, "input"), (self.ffn_norm, "input"))
        self.middle: Point = (self.attention_norm, "output")  # the stream between attention and feed-forward
        if self.pre_norm:  # no norm stands behind a sum
            self.middle = (self.ffn_norm, "input")
            self.norms, self.sums = (None, None), (self.middle, self.stream)


def inherit(student: PreTrainedModel, teacher: PreTrainedModel, sample: Sample, seed: int) -> None:
    """Bring the teacher's weights to the student's shape, from the embeddings up; see the head of this file."""
    mine: Any = student.base_model
    base: Any = teacher.base_model
    family, width = FAMILIES.get(teacher.config.model_type), student.config.hidden_size
    if family is None:
        known, got = ", ".join(FAMILIES), teacher.config.model_type
        said = f"start='inherit' knows {known}; of a {got} it takes the embeddings, the layers are random"
        logger.warning("%s", said)
        student.doubt = said  # type: ignore[assignment]
        ids = torch.cat([ids[mask.bool()] for ids, mask in sample])
        words = cpu(base.get_input_embeddings().weight)[ids]
        inherit_tables(mine, base, basis([words], mine.get_input_embeddings().embedding_dim, True, seed))
        return
    pairs = uniform(student.config.num_hidden_layers, teacher.config.num_hidden_layers)
    theirs = {i: Layer(teacher, family, j) for i, j in pairs}
    points: dict[str, Point] = {"stream 0": first_stream(base), "top": top_of(teacher, family)}
    for i, t in theirs.items():
        points |= {f"attention {i}": (t.reader, "input"), f"middle {i}": t.middle, f"ffn {i}": (t.up, "input")}
        points |= {f"neurons {i}": (t.down, "energy"), f"stream {i}": t.stream}
    if last := head_linears(teacher)[1]:
        points |= {"features": (last, "energy"), "logits": (last, "output")}
    seen = record(teacher, sample, points)
    P = basis([seen[f"stream {i}"] for i in range(len(pairs) + 1)], width, not family.final_norm, seed)

    def read(*points: Point) -> Any:
        found = list(record(student, sample, {str(i): point for i, point in enumerate(points)}).values())
        return found if len(points) > 1 else found[0]

    norm = embedding_norm(mine)
    inherit_tables(mine.embeddings, base.embeddings, P, cpu(embedding_norm(base).weight))
    if (project := projection_of(mine)) is not None:  # ELECTRA: tables narrower than the layers, taken as they are
        write(norm, cpu(embedding_norm(base).weight), cpu(embedding_norm(base).bias))
        write(project, *regress(read((project, "input")), seen["stream 0"] @ P, True))
    else:
        fit_norm(norm, read((norm, "input")), seen["stream 0"] @ P)
    if family.position_scores:
        kept = [h for h, _ in choose_heads([0.0] * theirs[1].heads, student.config.num_attention_heads)]
        scores = base.get_submodule(family.position_scores).weight[:, kept]
        mine.get_submodule(family.position_scores).weight.copy_(scores)
    for i, t in theirs.items():
        s = Layer(student, family, i)
        inherit_attention(s, t, read((s.reader, "input")), seen[f"attention {i}"], P, bool(family.position_scores))
        solve(s.out, s.norms[0], seen[f"middle {i}"] @ P, *read((s.out, "input"), s.sums[0]))
        inherit_neurons(s, t, read((s.up, "input")), seen[f"ffn {i}"], P, seen[f"neurons {i}"].mean(0))
        solve(s.down, s.norms[1], seen[f"stream {i}"] @ P, *read((s.down, "input"), s.sums[1]))
    if family.final_norm:
        fit_norm(mine.final_norm, read((mine.final_norm, "input")), seen["top"] @ P)

    (dense, last), (dense_t, last_t) = head_linears(student), head_linears(teacher)
    if dense is not None:  # the neurons that weigh most, reading the student's top
        back, back_0 = regress(read(top_of(student, family)), seen["top"], dense.bias is not None)
        weight = cpu(dense_t.weight)
        weigh = seen["features"].mean(0) * cpu(last_t.weight).square().sum(0) if last else weight.square().sum(1)
        best = weigh.topk(dense.out_features).indices
        write(dense, weight[best] @ back, cpu(dense_t.bias).expand(len(weight))[best] + weight[best] @ back_0)
        norms: dict[str, Any] = {n: m for n, m in teacher.named_modules() if isinstance(m, nn.LayerNorm)}
        for name, norm in student.named_modules():
            if name in norms and f"{name}.weight" in head_weights(student):
                write(norm, cpu(norms[name].weight)[best], cpu(norms[name].bias).expand(len(weight))[best])
    if last is not None:  # the logits, solved for
        write(last, *regress(read((last, "input")), seen["logits"], last.bias is not None, HEAD_RIDGE))


class Seen(Exception):
    """Every point that was asked for has been passed."""


def record(model: PreTrainedModel, sample: Sample, points: dict[str, Point]) -> dict[str, Tensor]:
    """What passes those points while the model reads the sample: (T, width) over real tokens, float32, on the CPU.

    A pass ends at the last of them: the layers above need not be computed.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in points}
    real = torch.empty(0)
    awaited = 0

    def hook(name: str, what: str) -> Any:
        def keep(module: nn.Module, args: Any, output: Any) -> None:
            x = output if what == "output" else args
            x = cpu(x[0] if isinstance(x, tuple) else x)
            x = x[real] if x.shape[:-1] == real.shape else x  # a head reads one vector per text
            seen[name].append(x.square().mean(0, keepdim=True) if what == "energy" else x)
            nonlocal awaited
            awaited -= 1
            if not awaited:
                raise Seen

        return keep

    training = model.training
    hooks = [module.register_forward_hook(hook(name, what)) for name, (module, what) in points.items()]
    try:
        model.eval()
        for ids, mask in sample:
            real, awaited = mask.bool(), len(points)
            with contextlib.suppress(Seen):
                model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
    finally:
        model.train(training)
        for handle in hooks:
            handle.remove()
    return {name: torch.cat(parts) for name, parts in seen.items()}


def read_sample(tokenizer: Any, texts: Sequence[str] | None, config: PreTrainedConfig, seed: int) -> Sample:
    """Some SAMPLE_TOKENS tokens of texts drawn from the whole list; where there is none, of random words."""
    draw = torch.Generator().manual_seed(seed)
    length = min(SAMPLE_LENGTH, getattr(config, "max_position_embeddings", SAMPLE_LENGTH) - 2)
    if texts is None:
        words = torch.tensor(sorted(set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)))
        frequency = 1 / (1000.0 + torch.arange(len(words)))  # vocabularies list frequent words first, more or less
        drawn = words[torch.multinomial(frequency, SAMPLE_TOKENS, replacement=True, generator=draw)]
        texts = tokenizer.batch_decode(drawn.view(-1, 16).tolist())
    texts = list(texts)
    if not texts:
        raise UserError("expected texts to fit the student on, got none; pass some training texts, or texts=None")
    chosen: list[list[int]] = []
    tokens = 0
    for k in torch.randperm(len(texts), generator=draw).tolist():
        chosen.append(tokenizer(texts[k], truncation=True, max_length=length)["input_ids"])
        tokens += len(chosen[-1])
        if tokens >= SAMPLE_TOKENS:
            break
    chosen.sort(key=len)  # little padding
    sample: Sample = []
    for n in range(0, len(chosen), 32):
        ids = nn.utils.rnn.pad_sequence(
            [torch.tensor(one) for one in chosen[n : n + 32]], batch_first=True, padding_value=tokenizer.pad_token_id
        )
        sizes = torch.tensor([len(one) for one in chosen[n : n + 32]])
        sample.append((ids, (torch.arange(ids.shape[1]) < sizes[:, None]).long()))
    return sample


def basis(streams: list[Tensor], width: int, centre: bool, seed: int) -> Tensor:
    """P (D, W): the main directions of the streams, turned so that coordinates are alike and those of a token add to 0.

    PCA coordinates differ in variance and have a mean: the student's norms would distort them. After a random rotation
    into the complement of (1, ..., 1), a norm only divides by the length.
    """
    D = streams[0].shape[1]
    if width == D:
        return torch.eye(D)
    scatter = torch.zeros(D, D, dtype=torch.float64)
    for h in streams:
        h = h - h.mean(0) if centre else F.normalize(h, dim=1)  # unnormalised, a few huge tokens would be all of it
        scatter += (h.T @ h).double() / h.square().sum()
    main = torch.linalg.eigh(scatter).eigenvectors.flip(1)[:, : width - 1].float()
    turn = torch.randn(width, width, generator=torch.Generator().manual_seed(seed))
    turn[:, 0] = 1
    return main @ torch.linalg.qr(turn).Q[:, 1:].T


def regress(x: Tensor, y: Tensor, bias: bool, ridge: float = RIDGE) -> tuple[Tensor, Tensor]:
    """A, b of y ~ x Aᵀ + b by ridge regression; b = 0 where there is to be none."""
    mean_x, mean_y = (x.mean(0), y.mean(0)) if bias else (x.new_zeros(x.shape[1]), y.new_zeros(y.shape[1]))
    x, y = x - mean_x, y - mean_y
    gram = (x.T @ x).double()
    gram.diagonal().add_(ridge * gram.diagonal().mean() + 1e-12)
    a = torch.linalg.solve(gram, (x.T @ y).double()).T.float()
    return a, mean_y - a @ mean_x


def write(linear: Any, weight: Tensor, bias: Tensor, rows: Any = slice(None)) -> None:
    linear.weight[rows] = weight
    if linear.bias is not None:
        linear.bias[rows] = bias


def cpu(x: Any) -> Tensor:
    return torch.zeros(()) if x is None else x.detach().float().cpu()


def embedding_norm(base: Any) -> Any:
    return next(m for m in base.embeddings.modules() if isinstance(m, nn.LayerNorm))


def projection_of(base: Any) -> Any:
    """The layer between tables and layers of different widths; None: they have the same."""
    return getattr(base, "embeddings_project", None)


def first_stream(base: Any) -> Point:
    return projection_of(base) or embedding_norm(base), "output"


def top_of(model: PreTrainedModel, family: Family) -> Point:
    """Where the head reads."""
    last_layer = f"{family.layers}.{model.config.num_hidden_layers - 1}"
    return model.base_model.get_submodule(family.final_norm or last_layer), "output"


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


def fit_norm(norm: Any, u: Tensor, target: Tensor) -> None:
    """Gain and bias, coordinate by coordinate, so that norm(u) ~ target."""
    n = F.layer_norm(u, u.shape[1:], eps=norm.eps)
    mean_n, mean_t = (n.mean(0), target.mean(0)) if norm.bias is not None else (torch.zeros(()),) * 2
    gain = ((n - mean_n) * (target - mean_t)).mean(0) / (n - mean_n).square().mean(0).clamp_min(1e-8)
    write(norm, gain, mean_t - gain * mean_n)


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


def score_maps(q: Tensor, k: Tensor, width: int, rotary: bool) -> tuple[Tensor, Tensor]:
    """T_q, T_k (width, d) so that (T_q q)·(T_k k) / √width ~ q·k / √d, best for the queries and keys at hand.

    Rotary positions turn coordinates i and i + d/2 together, as one complex number, at frequency i. A number of the
    student's stands for the teacher's numbers of the nearest frequencies.
    """
    d = q.shape[1]
    to_q, to_k = q.new_zeros(width, d), k.new_zeros(width, d)
    if rotary:
        half, mine = d // 2, width // 2
        nearest = (torch.arange(half) * mine / half).round().long().clamp_max(mine - 1)
        for m in nearest.unique().tolist():
            group = (nearest == m).nonzero()[:, 0]
            of_q, of_k = (moment(torch.complex(y[:, group], y[:, group + half])) for y in (q, k))
            for to, row in zip((to_q, to_k), factor(of_q, of_k, rank=1), strict=True):
                to[m, group], to[m, group + half] = row[0].real, -row[0].imag
                to[m + mine, group], to[m + mine, group + half] = row[0].imag, row[0].real
    else:
        a, b = factor(moment(q), moment(k - k.mean(0)), rank=width)  # what all keys share changes no softmax
        to_q[: len(a)], to_k[: len(b)] = a, b
    return to_q * (width / d) ** 0.5, to_k


def moment(x: Tensor) -> Tensor:
    return x.T @ x.conj() / len(x)


def roots(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Square root of a positive matrix, and its inverse."""
    size, directions = torch.linalg.eigh(moments)
    size = size.clamp_min(float(size.max()) * 1e-6 + 1e-12).sqrt()
    return (directions * size) @ directions.mH, (directions / size) @ directions.mH


def factor(of_q: Tensor, of_k: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """T_q, T_k (rank, d) of the best (T_k k)ᴴ(T_q q) ~ kᴴq, for independent q and k with these second moments."""
    (root_q, inverse_q), (root_k, inverse_k) = roots(of_q), roots(of_k)
    left, size, right = torch.linalg.svd(root_k @ root_q)
    size = size[:rank, None].sqrt()
    return size * (right[:rank] @ inverse_q), size * (left[:, :rank].mH @ inverse_k)


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


def solve(linear: Any, norm: Any, target: Tensor, f: Tensor, u: Tensor) -> None:
    """Correct what `linear` writes of the features f into the stream u (as it is now), so that norm(u) ~ target.

    Under a norm the goal of u is the target with the means and deviations of the normalised u, at the length of u.
    """
    goal = target
    if norm is not None:
        n = F.layer_norm(u, u.shape[1:], eps=norm.eps)
        z = (target - target.mean(0)) / target.std(0).clamp_min(1e-6)
        goal = (z * n.std(0) + n.mean(0)) * u.std(1, keepdim=True)
    change, shift = regress(f, goal - u, linear.bias is not None, SHRINK)
    write(linear, linear.weight + change, shift if linear.bias is None else linear.bias + shift)
    if norm is not None:
        fit_norm(norm, u + f @ change.T + shift, target)


def head_linears(model: PreTrainedModel) -> tuple[Any, Any]:
    """The head's dense layer (or the pooler's) and the layer that gives the logits, None where it has none."""
    above = head_weights(model)
    found = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and f"{name}.weight" in above]
    if model.get_output_embeddings() is not None or len(found) > 2:  # a language model: its head stays as it is
        return None, None
    last = None if model is model.base_model or not found else found.pop()
    return (found[0] if found else None), last
