"""Models' folders and bundles, each made once for all tests of a process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_models import CLASSES, sentences, write_tokenizer

from contrastill.exporting import build, exportable

pytest.importorskip("onnxscript")
MADE: dict[Any, Path] = {}


@pytest.fixture
def tiny_folder(tiny_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """tiny_folder("bert", classes=3): a classifier's folder; "embedder": a sentence-embedding model's."""

    def make(family: str = "bert", *, classes: int = 3) -> Path:
        key = (family, classes)
        if key not in MADE:
            folder = tmp_path_factory.mktemp(f"{family}-{classes}")
            if family == "embedder":
                write_embedder(tiny_model("mpnet"), folder)
            else:
                model = tiny_model(family, classes=classes)
                if classes > 1:
                    model.config.id2label = dict(enumerate(CLASSES[:classes]))
                    model.config.label2id = {name: n for n, name in enumerate(CLASSES[:classes])}
                model.save_pretrained(folder)
                write_tokenizer(folder)
            MADE[key] = folder
        return MADE[key]

    return make


def write_embedder(model: Any, folder: Path) -> None:
    transformer = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    from sentence_transformers import SentenceTransformer

    model.base_model.save_pretrained(folder / "encoder")
    write_tokenizer(folder / "encoder")
    encoder = transformer.Transformer(str(folder / "encoder"), max_seq_length=20)
    width = encoder.get_embedding_dimension()
    layers = [encoder, transformer.Pooling(width, "mean"), transformer.Dense(width, 8), transformer.Normalize()]
    SentenceTransformer(modules=layers, device="cpu").save(str(folder))


@pytest.fixture
def bundle_of(tiny_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """bundle_of("bert", to="onnx", precision="fp32"): a bundle without a gate, to read and not to change."""

    def make(family: str = "bert", *, to: str = "onnx", precision: str = "fp32", **options: Any) -> Path:
        key = (family, to, precision, *sorted(options.items()))
        if key not in MADE:
            if to == "openvino":
                pytest.importorskip("openvino")
            pairs, classes = options.pop("pairs", False), options.pop("classes", 3)
            source = exportable(str(tiny_folder(family, classes=classes)), pairs=pairs)
            texts = sentences(24)
            MADE[key] = build(
                source,
                tmp_path_factory.mktemp("bundle") / "bundle",
                to=to,
                precision=precision,
                texts=list(zip(texts, texts[::-1], strict=True)) if pairs else texts,
                **options,
            )
        return MADE[key]

    return make
