"""Tiny models and batches, built on the spot: nothing is downloaded, no library's initialisation decides a number."""

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers
from markupsafe import Markup
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from contrastill.report import charts
from traced_graphs import traced_once

TRACE = torch.onnx.export
FAMILIES = ("bert", "roberta", "distilbert", "mpnet", "modernbert")
VOCABULARY, PAD, LONGEST = 50, 1, 32


imported = 0
"""Modules whose objects the collector of garbage no longer goes through."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Numbers are drawn alike whatever ran before. Garbage is looked for among a test's objects, not in the libraries':
    `Trainer` asks for that at each start."""
    global imported
    set_seed(0)
    if len(sys.modules) > imported + 50:
        imported = len(sys.modules)
        gc.collect()
        gc.freeze()


def pytest_configure(config: pytest.Config) -> None:
    """Runs that name no cache, those in other processes too, fill one of these tests' own, not that of whoever runs
    them; and none asks the Hub, which without a network answers after a minute of attempts. Set before any module of
    tests copies the environment."""
    cache = tempfile.TemporaryDirectory(prefix="contrastill-cache-", ignore_cleanup_errors=True)
    config.add_cleanup(cache.cleanup)
    os.environ |= {"CONTRASTILL_CACHE": cache.name, "HF_HUB_OFFLINE": "1"}
    huggingface_hub.constants.HF_HUB_OFFLINE = True  # it has read the environment by now


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA GPU here"))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """One folder for all processes of a call of pytest."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if hasattr(request.config, "workerinput") else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def models_are_traced_once(shared_folder: Path) -> Iterator[None]:
    """By all processes together; a test that is about tracing asks for `traced_anew`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", traced_once(TRACE, shared_folder / "graphs"))
        yield


@pytest.fixture
def traced_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.onnx, "export", TRACE)


@pytest.fixture(autouse=True, scope="module")
def charts_are_not_drawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """In the pages that runs leave: it took longer than the runs' own steps. tests/report draws them."""
    drawn = Markup("<svg><title>{}</title></svg>")
    with pytest.MonkeyPatch.context() as patch:
        if request.path.parent.name != "report":
            patch.setattr(charts, "lines", lambda curves, title, *_, **__: drawn.format(title))
            patch.setattr(charts, "tradeoff", lambda points, x_label, y_label, *_: (drawn.format(y_label), []))
            for name in ("histogram", "reliability"):
                patch.setattr(charts, name, lambda *_, **__: drawn.format(""))
        yield


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def tiny_model() -> Callable[..., PreTrainedModel]:
    return build_model


@pytest.fixture
def tiny_batch() -> Callable[..., dict[str, Tensor]]:
    return build_batch


def build_model(
    family: str = "bert",
    *,
    layers: int = 2,
    width: int = 16,
    heads: int = 4,
    classes: int = 3,
    dropout: float = 0.0,
    seed: int = 0,
    tags: bool = False,
    words: bool = False,
) -> PreTrainedModel:
    """A classifier (a regressor for one class; tags: of tokens; words: with a masked-LM head instead) whose weights are
    drawn here, large enough that every input matters."""
    shared = {"vocab_size": VOCABULARY, "max_position_embeddings": LONGEST + 2, "num_labels": classes}
    special = {"pad_token_id": PAD, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
    shape = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * width,
    }
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    configs = {
        "bert": (transformers.BertConfig, shape | rates),
        "roberta": (transformers.RobertaConfig, shape | rates | {"type_vocab_size": 2}),
        "mpnet": (transformers.MPNetConfig, shape | rates),
        "distilbert": (
            transformers.DistilBertConfig,
            {"dim": width, "n_layers": layers, "n_heads": heads, "hidden_dim": 2 * width}
            | {"dropout": dropout, "attention_dropout": dropout, "seq_classif_dropout": dropout},
        ),
        "modernbert": (
            transformers.ModernBertConfig,
            shape
            | {"local_attention": 8, "global_attn_every_n_layers": 2}
            | {f"{part}_dropout": dropout for part in ("attention", "embedding", "mlp", "classifier")},
        ),
        "albert": (  # narrow tables, shared layers
            transformers.AlbertConfig,
            shape | rates | {"embedding_size": width // 2, "classifier_dropout_prob": dropout},
        ),
        "static": (  # no layers
            transformers.EuroBertConfig,
            {"hidden_size": width, "num_hidden_layers": 0, "num_attention_heads": 1, "head_dim": 2}
            | {"mask_token_id": 4, "classifier_pooling": "mean"},
        ),
    }
    kind, own = configs[family]
    head = transformers.AutoModelForTokenClassification if tags else transformers.AutoModelForSequenceClassification
    head = transformers.AutoModelForMaskedLM if words else head
    model = head.from_config(kind(**shared, **special, **own))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            weight.copy_(1 + 0.1 * noise if weight.dim() == 1 and name.endswith("weight") else 0.25 * noise)
    return model


def build_batch(
    rows: int = 6, *, longest: int = 9, pairs: bool = False, classes: int = 3, seed: int = 0
) -> dict[str, Tensor]:
    """Texts of 3 to `longest` tokens, all different, padded to the longest; one class: float labels."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, longest, (rows,), generator=generator)
    lengths[rows // 2] = longest
    ids = torch.randint(4, VOCABULARY, (rows, longest), generator=generator)
    place = torch.arange(ids.shape[1])
    mask = place < lengths.unsqueeze(1)
    batch = {"input_ids": ids.where(mask, PAD), "attention_mask": mask.long()}
    if pairs:
        batch["token_type_ids"] = (mask & (place >= lengths.unsqueeze(1) // 2)).long()
    labels = torch.arange(rows) % classes if classes > 1 else torch.randn(rows, generator=generator)
    return {**batch, "labels": labels, "text_key": torch.arange(rows) + 1000 * seed, "index": torch.arange(rows)}
