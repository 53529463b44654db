"""A model that is not whole, or not what it seems, is refused by each command in the same words."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from contrastill.errors import UserError
from contrastill.exporting import exportable
from contrastill.loading import adapters, load_classifier, load_embedder
from contrastill.settings import Distillation, EmbeddingDistillation, Evaluation, Finetuning, Pretraining
from contrastill.training import build_cache, contrast, evaluate
from contrastill.training.embeddings import plan_embedding
from contrastill.training.encoder import plan_pretraining
from contrastill.training.labelled_plans import plan_distillation, plan_finetuning


@pytest.fixture(autouse=True)
def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    """An adapter cannot be merged here: that it is one is all that can be said."""
    monkeypatch.setitem(sys.modules, "peft", None)


# ---- what is wrong with a folder


def weights(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        save_file({key: value.clone() for key, value in change(load_file(path)).items()}, path, {"format": "pt"})

    return damage


def config(file: str = "config.json", **changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def prefix(name: str) -> Callable[[Path], None]:
    return weights(lambda found: {name + key: value for key, value in found.items()})


def file(name: str, content: str = "", instead_of: str | None = None) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        if instead_of is not None:
            (folder / instead_of).unlink()
        (folder / name).write_text(content)

    return damage


def only(name: str, content: str = "") -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        if name:
            (folder / name).write_text(content)

    return damage


def a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("weights")


ADAPTER = json.dumps({"base_model_name_or_path": "ORG/BASE", "peft_type": "LORA", "task_type": "SEQ_CLS"})
RUN = json.dumps({"command": "distill", "settings": {}, "status": "running"})
INDEX = json.dumps(
    {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "model-00001-of-00002.safetensors"}}
)
CODE = "asks for code that comes with the model"
BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "DataParallel": (prefix("module."), r"begin with 'module\.(bert\.)?' \(torch's DataParallel: save model\.module"),
    "torch.compile": (prefix("_orig_mod."), r"begin with '_orig_mod\.(bert\.)?' \(torch\.compile"),
    "Lightning": (prefix("model."), r"begin with 'model\.(bert\.)?' \(a trainer's own module"),
    "a layer too few": (
        weights(lambda found: {key: value for key, value in found.items() if "layer.1." not in key}),
        "config.json has 2 layers, the file 1",
    ),
    "one tensor too few": (
        weights(lambda found: {key: value for key, value in found.items() if "layer.1.output.dense.bias" not in key}),
        r"lack 1 tensors .*layer\.1\.output\.dense\.bias",
    ),
    "other sizes": (config(intermediate_size=12), r"do not fit its config\.json: .* config\.json expects"),
    "more positions than the table": (config(max_position_embeddings=48), r"do not fit its config\.json: .*position"),
    "not finite": (
        weights(lambda found: {key: value / ("layer.0.output.dense" not in key) for key, value in found.items()}),
        r"not finite \(NaN or infinity in .*layer\.0\.output\.dense",
    ),
    "zeros": (weights(lambda found: {key: 0 * value for key, value in found.items()}), "are all 0"),
    "its own code": (config(auto_map={"AutoModel": "own.Model"}), rf"config\.json {CODE} \('own\.Model'\)"),
    "a tokenizer's own code": (
        config("tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Tokens", None]}),
        rf"tokenizer_config\.json {CODE}",
    ),
    "quantised": (config(quantization_config={"quant_method": "gptq"}), r"got quantised ones \(gptq\)"),
    "pickled": (file("pytorch_model.bin", instead_of="model.safetensors"), "got pytorch_model.bin, which is not read"),
    "no weights": (file("notes", instead_of="model.safetensors"), "expected weights in model.safetensors, found none"),
    "damaged": (file("model.safetensors", "no weights at all"), "weights of .* are damaged"),
    "a shard too few": (
        file("model.safetensors.index.json", INDEX, instead_of="model.safetensors"),
        r"1 are missing \(model-00001-of-00002",
    ),
    "LoRA": (file("adapter_config.json", ADAPTER), r"got an adapter \(LoRA\) of 'ORG/BASE'[\s\S]*merge_and_unload\(\)"),
    "broken config": (file("config.json", '{"model_type": '), "config.json cannot be read"),
    "no object": (file("config.json", "[]"), "config.json holds a list, not a dict"),
    "unknown kind": (config(model_type="abacus"), "abacus"),
    "GGUF": (only("model-q4.gguf"), "got model-q4.gguf, which cannot be trained"),
    "ONNX": (only("model.onnx"), "got model.onnx, which cannot be trained"),
    "empty": (only(""), "expected a model's folder"),
    "a bundle": (only("bundle.json", "{}"), r"got a bundle, .*contrastill evaluate --model FOLDER --data"),
    "an unfinished run": (only("run.json", RUN), "expected a finished run"),
    "a file": (a_file, "expected a model's folder or Hub name, got a file"),
}  # fmt: skip


# ---- what opens it: everything is set up as the command does, nothing is trained


Opened = Callable[[str, Path, Path], Any]
CLASSIFIERS: dict[str, Opened] = {
    "finetune": lambda name, home, out: plan_finetuning(
        Finetuning(model=name, data=str(home / "data.csv"), out=str(out))
    ),
    "distill": lambda name, home, out: plan_distillation(
        Distillation(teacher=name, data=str(home / "data.csv"), student="1/4/2/8", start="random", out=str(out))
    ),
    "evaluate": lambda name, home, out: evaluate(**vars(Evaluation(model=name, data=str(home / "data.csv")))),
    "cache build": lambda name, home, out: build_cache(
        teacher=name, texts=[str(home / "texts.txt")], fields=["logits"], cache=str(out)
    ),
    "export": lambda name, home, out: exportable(name),
}
EMBEDDERS: dict[str, Opened] = {
    "disco": lambda name, home, out: plan_embedding(
        EmbeddingDistillation(
            teacher=[name], texts=[str(home / "texts.txt")], student="1/4/2/8", start="random",
            out=str(out), cache=str(out / "cache"),
        )
    ),
    "as-is": lambda name, home, out: plan_embedding(
        EmbeddingDistillation(
            teacher=[str(home / "embedder")], texts=[str(home / "texts.txt")], student="as-is", start=name,
            out=str(out), cache=str(out / "cache"),
        )
    ),
    "contrast": lambda name, home, out: contrast(
        model=name, pairs=str(home / "pairs.csv"), out=str(out)
    ),
    "pretrain": lambda name, home, out: plan_pretraining(
        Pretraining(
            teacher=name, texts=[str(home / "texts.txt")], student="1/4/2/8", start="random",
            out=str(out),
        )
    ),
    "cache build": lambda name, home, out: build_cache(
        teacher=name, texts=[str(home / "texts.txt")], cache=str(out)
    ),
    "export": lambda name, home, out: exportable(name),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", ["classifier", "embedder"])
def test_each_command_refuses_it_in_the_same_words(home: Path, tmp_path: Path, kind: str, bad: str) -> None:
    damage, words = BAD[bad]
    folder = shutil.copytree(home / kind, tmp_path / "bad")
    damage(folder)
    said = {}
    for command, opened in (CLASSIFIERS if kind == "classifier" else EMBEDDERS).items():
        own = (command, bad) == ("evaluate", "a bundle")  # it reads bundles too, and this is none
        with pytest.raises(UserError, match="expected a bundle's metadata" if own else words) as error:
            opened(str(folder), home, tmp_path / command)
        said[command] = str(error.value)
    assert len(said) == len(CLASSIFIERS if kind == "classifier" else EMBEDDERS)


# ---- what only one of the two kinds can be


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()
    file("adapter_config.json", ADAPTER)(folder)


def foreign_module(folder: Path) -> None:
    path = folder / "modules.json"
    first, *others = json.loads(path.read_text())
    path.write_text(json.dumps([first, *({**module, "type": "own.Pooling"} for module in others)]))


def saved_as(kind: str) -> Callable[[Path], None]:
    return config("config_sentence_transformers.json", model_type=kind)


NEW_HEAD = {"finetune"}  # it makes a head of its own
NO_POOLING = {"as-is"}  # it takes the encoder alone
ONE_KIND: dict[str, tuple[str, Callable[[Path], None], str, set[str]]] = {
    "a class without a name": ("classifier", config(id2label={"0": "a", "2": "b"}), "the classes 0 to 1", NEW_HEAD),
    "two classes of one name": ("classifier", config(id2label={"0": "a", "1": "a"}), "two classes 'a'", NEW_HEAD),
    "several scores a text": (
        "classifier",
        config(problem_type="regression"),
        "gives classes, labels or one score, got a regression with 2 outputs",
        NEW_HEAD,
    ),
    "a zero head": (
        "classifier",
        weights(lambda found: {key: value * (not key.startswith("classifier.")) for key, value in found.items()}),
        "gives every text the same answer",
        NEW_HEAD,
    ),
    "no head": (
        "classifier",
        weights(lambda found: {key: value for key, value in found.items() if not key.startswith("classifier.")}),
        "lack 2 tensors .*give a whole fine-tuned classifier",
        NEW_HEAD,
    ),
    "an encoder and a decoder": ("classifier", config(is_encoder_decoder=True), "an encoder and a decoder", set()),
    "an adapter without tokenizer": ("classifier", without_tokenizer, r"got an adapter \(LoRA\) of 'ORG/BASE'", set()),
    "an adapter of an embedder": ("embedder", without_tokenizer, r"got an adapter \(LoRA\) of 'ORG/BASE'", set()),
    "a module's own code": ("embedder", foreign_module, rf"modules\.json {CODE} \('own\.Pooling'\)", set()),
    "sparse "
    "vectors": ("embedder", saved_as("SparseEncoder"), "got a SparseEncoder, which gives no vectors", NO_POOLING),
    "a cross-encoder": ("embedder", saved_as("CrossEncoder"), "got a CrossEncoder, which gives no vectors", NO_POOLING),
}  # fmt: skip


@pytest.mark.parametrize("bad", ONE_KIND)
def test_each_command_that_needs_it_refuses_it_in_the_same_words(home: Path, tmp_path: Path, bad: str) -> None:
    kind, damage, words, others = ONE_KIND[bad]
    folder = shutil.copytree(home / kind, tmp_path / "bad")
    damage(folder)
    for command, opened in (CLASSIFIERS if kind == "classifier" else EMBEDDERS).items():
        if command in others:
            opened(str(folder), home, tmp_path / command)
            continue
        with pytest.raises(UserError, match=words):
            opened(str(folder), home, tmp_path / command)


@pytest.mark.parametrize("command", sorted(set(CLASSIFIERS) - {"finetune", "export"}))
def test_an_embedder_with_a_pickled_head_is_no_classifier(home: Path, tmp_path: Path, command: str) -> None:
    folder = shutil.copytree(home / "embedder", tmp_path / "setfit")
    (folder / "model_head.pkl").write_bytes(b"a pickle")
    with pytest.raises(UserError, match="give a whole fine-tuned classifier"):
        CLASSIFIERS[command](str(folder), home, tmp_path / "out")


def test_an_embedder_of_half_precision_is_read_in_full(home: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(home / "embedder", tmp_path / "half")
    weights(lambda found: {key: value.half() for key, value in found.items()})(folder)
    config(dtype="float16")(folder)
    model = load_embedder(str(folder))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    whole = load_embedder(str(home / "embedder")).encode(["w1 w2 w3"])
    assert abs(model.encode(["w1 w2 w3"]) - whole).max() < 1e-2


def test_an_adapter_whose_head_has_other_classes_is_told_so(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text(ADAPTER)
    save_file({"base_model.model.classifier.weight": torch.zeros(3, 8)}, tmp_path / "adapter/adapter_model.safetensors")
    monkeypatch.setitem(sys.modules, "peft", SimpleNamespace(PeftModel=None))
    monkeypatch.setattr(adapters, "find_spec", lambda name: True)
    with pytest.raises(UserError, match="whose head has the 2 classes of the data, got one of 3; merge it"):
        load_classifier(str(tmp_path / "adapter"), num_labels=2)
