"""One graph answers what torch answers: every architecture, task, batch and length; int8 is int8."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_models import CLASSES, sentences, write_tokenizer
from tokenizers import Tokenizer, models

from contrastill.bundle import open_bundle
from contrastill.errors import UserError
from contrastill.exporting import build, exportable
from contrastill.exporting.card import snippet
from contrastill.exporting.probes import made_up
from contrastill.exporting.quantize import RECIPES, quantize_tables
from contrastill.exporting.write import write_bundle

TEXTS = [*sentences(9, seed=3), "red", "", "a text of words it does not know"]
RECIPE_NAMES = [(to, r.name) for r in RECIPES for to in ("onnx", "openvino") if to[:4] in "".join(r.runtimes)]


def answers_alike(folder, source, texts, tolerance):
    bundle = open_bundle(folder, threads=1)
    for some in (texts, texts[:1], texts[1:3]):  # other batches, other lengths
        np.testing.assert_allclose(bundle.run(some), source.run(some), atol=tolerance)


def test_every_architecture_answers_as_in_torch(family, tiny_folder, bundle_of):
    source = exportable(str(tiny_folder(family)))
    answers = source.run(TEXTS)
    assert np.allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(answers, axis=0).max() > 0.05, "a model that answers all texts alike would test nothing"
    answers_alike(bundle_of(family), source, TEXTS, 1e-5)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("structure", ["albert", "static"])
def test_a_student_of_another_structure_answers_as_in_torch(structure, to, tiny_folder, bundle_of):
    source = exportable(str(tiny_folder(structure)))
    assert np.ptp(source.run(TEXTS), axis=0).max() > 0.05
    answers_alike(bundle_of(structure, to=to), source, TEXTS, 1e-5)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_pair_is_read_with_its_token_types(to, tiny_folder, bundle_of):
    source = exportable(str(tiny_folder("bert")), pairs=True)
    pairs = list(zip(TEXTS[:6], TEXTS[6:], strict=True))
    assert source.inputs == ("input_ids", "attention_mask", "token_type_ids")
    swapped = [(b, a) for a, b in pairs]
    assert np.abs(source.run(pairs) - source.run(swapped)).max() > 0.01
    answers_alike(bundle_of("bert", to=to, pairs=True), source, pairs, 1e-5)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_a_regressor_answers_its_score(to, tiny_folder, bundle_of):
    source = exportable(str(tiny_folder("bert", classes=1)))
    assert source.task == "regression"
    assert source.output == "scores"
    answers_alike(bundle_of("bert", to=to, classes=1), source, TEXTS, 1e-5)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
def test_an_embedding_has_pooling_projection_and_normalisation_inside(to, tiny_folder, bundle_of):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = tiny_folder("embedder")
    theirs = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    bundle = open_bundle(bundle_of("embedder", to=to), threads=1)
    assert bundle.dimensions == 8
    assert bundle.max_length == 20
    np.testing.assert_allclose(bundle.run(TEXTS), theirs, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(bundle.run(TEXTS), axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "ordered"),
    [({"projection": "compact"}, True), ({"projection": "keep"}, False), ({"projection": "drop"}, False), ({}, False)],
)
def test_a_bundle_tells_whether_its_vectors_may_be_cut_as_the_run_ordered_them(
    settings, ordered, tiny_folder, bundle_of, tmp_path
):
    assert not open_bundle(bundle_of("embedder"), threads=1).ordered
    folder = shutil.copytree(tiny_folder("embedder"), tmp_path / "run" / "student")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"settings": settings}))
    source = exportable(str(folder))
    assert source.ordered is ordered
    if ordered:
        graph = bundle_of("embedder") / "model.onnx"
        write_bundle(source, graph, tmp_path / "bundle", "onnx", "fp32", None, [], made_up(source))
        assert open_bundle(tmp_path / "bundle", threads=1).ordered


@pytest.mark.parametrize(("to", "recipe"), RECIPE_NAMES)
def test_int8_answers_nearly_the_same(to, recipe, tiny_folder, bundle_of):
    source = exportable(str(tiny_folder("bert")))
    bundle = open_bundle(bundle_of("bert", to=to, precision="int8", recipe=recipe), threads=1)
    difference = np.abs(bundle.run(TEXTS) - source.run(TEXTS))
    assert 1e-6 < difference.max() < 0.15
    assert bundle.metadata["recipe"] == recipe


def test_onnx_runtime_computes_int8_products_in_integers(bundle_of, tmp_path):
    """What makes it fast: no weight is turned back into floats in a call (activations must be uint8 for that)."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "run.onnx")
    options.log_severity_level = 3
    file = bundle_of("bert", precision="int8", recipe="static") / "model.onnx"
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "run.onnx").graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kinds = [node.op_type for node in graph.node]
    whole = sum("Integer" in kind or kind.startswith("QLinear") for kind in kinds)
    assert whole >= 12  # 6 products in each of 2 layers; the head's (one row a text) may be turned back
    back = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights}
    assert not [node.name for node in graph.node if node.op_type == "MatMul" and back & set(node.input)]


def largest_weights(folder: Path) -> list[int]:
    """Of each int8 weight of a product, its largest number."""
    if (folder / "model.onnx").is_file():
        graph = onnx.load(folder / "model.onnx").graph
        tensors = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        back = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
        read = [
            back.get(name, name) for n in graph.node if "MatMul" in n.op_type or n.op_type == "Gemm" for name in n.input
        ]
        weights = [tensors[name] for name in read if name in tensors]
    else:
        openvino = pytest.importorskip("openvino")
        ops = openvino.Core().read_model(folder / "model.xml").get_ordered_ops()
        sides = [op.input_value(1).get_node() for op in ops if op.get_type_name() == "MatMul"]
        for _ in range(3):  # Convert, Multiply
            sides = [op.input_value(0).get_node() if op.get_input_size() else op for op in sides]
        weights = [op.data for op in sides if op.get_type_name() == "Constant"]
    return [np.abs(w.astype(int)).max() for w in weights if w.dtype == np.int8 and w.ndim == 2]


@pytest.mark.parametrize(("to", "recipe"), [one for one in RECIPE_NAMES if one[1] != "weights"])
def test_the_sum_of_two_int8_products_fits_into_16_bits(to, recipe, bundle_of):
    """Processors without VNNI add two there, and cut off in silence what does not fit."""
    largest = largest_weights(bundle_of("bert", to=to, precision="int8", recipe=recipe))
    assert len(largest) >= 12  # 6 products in each of 2 layers
    assert min(largest) >= 60
    assert 2 * 255 * max(largest) < 2**15


def test_word_vectors_are_int8_with_a_scale_for_each_row(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("contrastill.exporting.quantize.TABLE", 1)
    source = exportable(str(tiny_folder("bert")))
    model = onnx.load(build(source, tmp_path, precision="fp32") / "model.onnx")
    tables = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.dims and t.dims[0] == 50}
    (name, table) = next((name, table) for name, table in tables.items() if table.ndim == 2)
    quantize_tables(model)
    left = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert name not in left
    assert left[f"{name}_int8"].dtype == np.int8
    back = left[f"{name}_int8"] * left[f"{name}_scale"]
    assert (np.abs(back - table) <= np.abs(table).max(axis=1, keepdims=True) / 254 + 1e-7).all()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = {key: value.numpy() for key, value in source.encode(TEXTS).items()}
    np.testing.assert_allclose(session.run(None, inputs)[0], source.module(**source.encode(TEXTS)), atol=0.03)


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("family", "options"),
    [("bert", {}), ("bert", {"pairs": True}), ("bert", {"classes": 1}), ("embedder", {})],
    ids=["classes", "pairs", "scores", "vectors"],
)
def test_the_snippet_runs_without_us(to, family, options, bundle_of):
    folder = bundle_of(family, to=to, **options)
    bundle, pairs = open_bundle(folder, threads=1), "pairs" in options
    code = f"""{snippet(bundle.metadata, str(folder))}
import sys
print([name for name in ("torch", "transformers", "contrastill") if name in sys.modules])
print(answers.tolist())"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, numbers = ran.stdout.splitlines()[-2:]
    texts = [("a text", "its pair"), ("another", "its pair")] if pairs else ["a text", "another text"]
    assert imported == "[]"
    np.testing.assert_allclose(np.array(json.loads(numbers)), bundle.run(texts), atol=1e-4)
    if bundle.labels:
        assert any(name in ran.stdout for name in CLASSES)


def test_the_tokenizer_file_cuts_and_pads_by_itself(bundle_of):
    folder = bundle_of("bert")
    texts, bundle = ["red cat", "small dog " * 40], open_bundle(folder)
    read = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(texts)
    inputs = bundle.tokenize(texts)
    assert inputs["input_ids"].shape == (2, bundle.max_length)
    np.testing.assert_array_equal([one.ids for one in read], inputs["input_ids"])
    np.testing.assert_array_equal([one.attention_mask for one in read], inputs["attention_mask"])


def test_a_model_that_reads_the_end_of_long_texts_does_so_in_its_bundle(tiny_folder, tmp_path):
    source, texts = exportable(str(tiny_folder("bert"))), ["red " * 40 + "old dog " * 10, "old dog " * 10 + "red " * 40]
    source.tokenizer.truncation_side = "left"
    answers = source.run(texts)
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    np.testing.assert_allclose(open_bundle(build(source, tmp_path, precision="fp32")).run(texts), answers, atol=1e-5)


def test_metadata_is_in_the_onnx_file_too(bundle_of):
    model = onnx.load(bundle_of("bert") / "model.onnx")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["task"] == "classification"
    assert properties["labels"] == '["cold", "mild", "hot"]'


@pytest.mark.parametrize("opset", [9, 999])
def test_an_opset_that_does_not_run_here_is_refused(opset, tiny_folder, tmp_path):
    with pytest.raises(UserError, match=f"expected an --opset from 18 to .*got {opset}"):
        build(exportable(str(tiny_folder("bert"))), tmp_path / "b", precision="fp32", opset=opset)


def test_an_opset_that_the_exporter_does_not_reach_is_told(tiny_folder, tmp_path, monkeypatch):
    """It leaves the graph in another opset, with operators that this one has not, and only prints a note."""
    real = torch.onnx.export
    monkeypatch.setattr(torch.onnx, "export", lambda *a, **k: real(*a, **{**k, "opset_version": 18}))
    with pytest.raises(UserError, match=r"got 19 \(it wrote 18\); use a lower one"):
        build(exportable(str(tiny_folder("bert"))), tmp_path / "b", precision="fp32", opset=19)


def test_several_scores_of_a_text_are_refused_and_several_labels_exported(tiny_model, tmp_path):
    model = tiny_model("bert", classes=3)
    model.config.problem_type = "regression"
    model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(UserError, match="classes, labels or one score, got a regression with 3"):
        exportable(str(tmp_path))
    model.config.problem_type = "multi_label_classification"
    model.save_pretrained(tmp_path)
    assert exportable(str(tmp_path)).task == "multilabel"


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_a_model_is_opened_without_remarks_of_transformers(tiny_folder, family, caplog):
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        opened = exportable(str(tiny_folder(family)), attention="sdpa")
    finally:
        logger.removeHandler(caplog.handler)
    assert caplog.records == []
    assert opened.encoder.config._attn_implementation == {"bert": "sdpa", "mpnet": "eager"}[family]


def test_an_embedding_model_in_half_precision_is_exported_in_float32(tiny_folder, tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    sentence_transformers.SentenceTransformer(str(tiny_folder("embedder")), device="cpu").half().save(
        str(tmp_path / "m")
    )
    model = onnx.load(build(exportable(str(tmp_path / "m")), tmp_path / "b", precision="fp32") / "model.onnx")
    assert onnx.TensorProto.FLOAT16 not in {tensor.data_type for tensor in model.graph.initializer}


def test_an_embedding_model_without_an_encoder_is_refused(tiny_folder, tmp_path):
    transformer = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    from sentence_transformers import SentenceTransformer

    tokenizer = exportable(str(tiny_folder("bert"))).tokenizer._tokenizer
    table = transformer.StaticEmbedding(tokenizer, embedding_dim=8)
    SentenceTransformer(modules=[table], device="cpu").save(str(tmp_path))
    with pytest.raises(UserError, match="over a transformers encoder, got StaticEmbedding"):
        exportable(str(tmp_path))


def test_a_bare_encoder_answers_nothing(tiny_model, tmp_path):
    tiny_model("bert").base_model.save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    with pytest.raises(UserError, match="lack"):
        exportable(str(tmp_path))


@pytest.mark.parametrize("content", ["empty", "text", "bundle", "unfinished"])
def test_a_folder_that_is_no_model(content, tmp_path, bundle_of):
    folder = tmp_path / "x"
    folder.mkdir()
    expected = "expected a model's folder"
    if content == "text":
        (folder / "notes.txt").write_text("hello")
    if content == "bundle":
        folder, expected = bundle_of("bert"), "expected a model, got a bundle"
    if content == "unfinished":
        (folder / "run.json").write_text("{}")
        expected = "expected a finished run"
    with pytest.raises(UserError, match=expected):
        exportable(str(folder))
    with pytest.raises(UserError, match="nothing at"):
        exportable(str(tmp_path / "nowhere" / "else"))


def test_a_length_beyond_the_models_positions_is_refused(tiny_folder):
    for length in (3, 35):  # a pair has three marks, so 3 leave no room for a word
        with pytest.raises(UserError, match=f"max-length from 4 to 34.*got {length}"):
            exportable(str(tiny_folder("bert")), max_length=length)


def test_long_texts_are_cut_in_the_bundle_as_in_torch(tiny_folder, tmp_path):
    source = exportable(str(tiny_folder("bert")), max_length=6)
    bundle = open_bundle(build(source, tmp_path / "b", precision="fp32"), threads=1)
    long = ["red green blue cat dog runs sleeps very small old"] * 2
    assert bundle.tokenize(long)["input_ids"].shape == (2, 6)
    np.testing.assert_array_equal(bundle.tokenize(long)["input_ids"], source.encode(long)["input_ids"])
    np.testing.assert_allclose(bundle.run(long), source.run(long), atol=1e-5)


@pytest.mark.usefixtures("traced_anew")
def test_the_model_is_left_as_it_was(tiny_folder, tmp_path):
    source = exportable(str(tiny_folder("bert")))
    before = {name: value.clone() for name, value in source.module.state_dict().items()}
    build(source, tmp_path / "b", precision="int8", texts=sentences(8), recipe="static")
    assert all(torch.equal(before[name], value) for name, value in source.module.state_dict().items())
    assert sorted(path.name for path in Path(tmp_path / "b").iterdir()) == [
        "bundle.json", "config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_trimming_keeps_the_words_of_the_prompt_and_added_tokens(tiny_folder, tmp_path):
    from dataclasses import replace

    from contrastill.exporting.vocabulary import trimmed

    source = exportable(str(tiny_folder("bert")))
    source.tokenizer.add_tokens(["<url>"])
    source.encoder.resize_token_embeddings(51)
    source = replace(source, prompt="green very: ")
    texts = ["red cat", "red <url>"]
    smaller, _ = trimmed(source, ["red cat"], [])
    assert smaller.tokenizer.get_vocab().keys() < source.tokenizer.get_vocab().keys()
    tokens = [one.tokenizer.convert_ids_to_tokens(one.encode(texts)["input_ids"][1]) for one in (source, smaller)]
    assert tokens[0] == tokens[1]
    assert {"green", "<url>"} < {*tokens[0]}
    np.testing.assert_allclose(smaller.run(texts), source.run(texts), atol=1e-6)


def test_trimming_another_kind_of_tokenizer_is_refused(tiny_folder, tmp_path):
    from contrastill.exporting.vocabulary import trimmed

    source = exportable(str(tiny_folder("bert")))
    write_tokenizer(tmp_path, models.WordLevel({"[UNK]": 0, "[PAD]": 1, "[CLS]": 2, "[SEP]": 3}, unk_token="[UNK]"))
    source.tokenizer._tokenizer = type(source.tokenizer._tokenizer).from_file(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match=r"--trim: expected a tokenizer of the kind WordPiece, .*, got WordLevel"):
        trimmed(source, ["red"], [])
