"""Opening and running a bundle: order, batches, threads; and what is said of one that is not whole."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_models import sentences

from contrastill.bundle import open_bundle
from contrastill.errors import UserError
from contrastill.seal import SEAL, seal_of, sha256

RUNTIMES = ["onnx", "openvino"]


@pytest.fixture
def copy(bundle_of, tmp_path):
    return lambda to="onnx": shutil.copytree(bundle_of("bert", to=to), tmp_path / "copy")


def change(folder, **entries):
    """Changes entries and seals them anew, as a mistaken tool would."""
    path = folder / "bundle.json"
    known = json.loads(path.read_text()) | entries
    known = {name: value for name, value in known.items() if value != "gone"}
    path.write_text(json.dumps(known | {SEAL: seal_of(known)}))


@pytest.mark.parametrize("to", RUNTIMES)
@pytest.mark.parametrize(("workers", "batch_size"), [(1, 1), (1, 4), (1, 100), (2, 4), (2, 100)])
def test_answers_come_in_the_order_of_the_texts(to, workers, batch_size, bundle_of):
    bundle = open_bundle(bundle_of("bert", to=to), threads=2, workers=workers)
    texts = sentences(23)
    one_by_one = np.concatenate([bundle.compute(bundle.tokenize([text])) for text in texts])
    assert len(np.unique(one_by_one.round(4), axis=0)) > 15, "texts with equal answers could change places unseen"
    np.testing.assert_allclose(bundle.run(texts, batch_size), one_by_one, atol=1e-5)


@pytest.mark.parametrize("to", RUNTIMES)
def test_threads_may_call_it_at_once(to, bundle_of):
    bundle = open_bundle(bundle_of("bert", to=to), threads=2, workers=2)
    inputs = [bundle.tokenize([text]) for text in sentences(60)]
    alone = [bundle.compute(one) for one in inputs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(bundle.compute, inputs))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("to", RUNTIMES)
def test_an_answer_is_not_overwritten_by_the_next(to, bundle_of):
    bundle = open_bundle(bundle_of("bert", to=to), threads=1)
    first = bundle.compute(bundle.tokenize(["red cat"]))
    kept = first.copy()
    bundle.compute(bundle.tokenize(["old dog sleeps"]))
    np.testing.assert_array_equal(first, kept)


def test_openvino_sees_few_lengths(bundle_of):
    lengths = {
        to: [open_bundle(bundle_of("bert", to=to)).tokenize([text])["input_ids"].shape[1] for text in sentences(40)]
        for to in RUNTIMES
    }
    assert {*lengths["openvino"]} <= {8, 16, 24, 30}  # 30 is the model's own limit
    assert len({*lengths["onnx"]}) > 5
    assert all(0 <= a - b < 8 for a, b in zip(lengths["openvino"], lengths["onnx"], strict=True))


def test_no_texts_no_answers(bundle_of):
    assert open_bundle(bundle_of("bert")).run([]).shape == (0, 3)


@pytest.mark.parametrize("to", RUNTIMES)
def test_an_empty_text_has_an_answer_though_the_tokenizer_adds_no_marks(to, copy):
    folder = copy(to)
    tokenizer = json.loads((folder / "tokenizer.json").read_text()) | {"post_processor": None}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    bundle = open_bundle(folder, check=False)
    alone, beside = bundle.run([""]), bundle.run(["", "red"])
    assert np.isfinite(alone).all()
    assert beside.shape == (2, 3)


def test_neither_torch_nor_transformers_is_needed(bundle_of):
    code = (
        "import sys; from contrastill.bundle import open_bundle\n"
        f"open_bundle({str(bundle_of('bert'))!r}).run(['red'])\n"
        "print([name for name in ('torch', 'transformers', 'openvino', 'onnx') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize("texts", [[("red", "cat")], [3], [None], [["red"], ["a", "b"]]])
def test_texts_that_are_none(texts, bundle_of):
    with pytest.raises(UserError, match="expected texts, got"):
        open_bundle(bundle_of("bert")).run(texts)


def test_a_single_text_where_pairs_are_read(bundle_of):
    with pytest.raises(UserError, match="expected pairs of texts, got 'red'"):
        open_bundle(bundle_of("bert", pairs=True)).run(["red"])


def test_what_is_no_bundle(tmp_path, tiny_folder, bundle_of):
    for place in (tmp_path, tmp_path / "nowhere", tiny_folder("bert")):
        with pytest.raises(UserError, match=r"expected a bundle.*contrastill export"):
            open_bundle(place)
    with pytest.raises(UserError, match="give its folder"):
        open_bundle(bundle_of("bert") / "model.onnx")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"format": 3}, "a bundle of format 3.*update contrastill"),
        ({"format": 1}, "a bundle of format 1.*cannot be detected; export the model again"),
        ({"format": "one"}, "expected a bundle's metadata"),
        ({"inputs": "gone"}, "expected inputs too"),
        ({"runtime": "tensorrt"}, "got 'classification' and 'tensorrt'"),
        ({"task": "ranking"}, "got 'ranking'"),
        ({"output": "logits"}, "the output logits, got .*probabilities"),
        ({"task": ["classification"]}, "expected a task of"),
        ({"labels": "cold"}, "expected another kind of labels, got 'cold'"),
        ({"labels": ["cold", "hot"]}, "expected answers of 2 numbers.*the graph gives 3.*changed labels"),
        ({"labels": ["cold", 3, "hot"]}, "expected another kind of labels"),
        ({"labels": None}, "expected another kind of labels"),
        ({"task": "embedding", "labels": None}, "expected another kind of dimensions, got None"),
        ({"ordered": 1}, "expected another kind of ordered, got 1"),
        ({"texts": 3}, "expected another kind of texts, got 3"),
        ({"max_length": "30"}, "expected another kind of max_length, got '30'"),
        ({"max_length": 0}, "expected another kind of max_length"),
        ({"inputs": "input_ids"}, "expected another kind of inputs"),
        ({"inputs": ["input_ids", "pixels"]}, "expected another kind of inputs"),
        ({"files": ["model.onnx"]}, "expected another kind of files"),
        ({"files": {"../model.onnx": {"sha256": ""}}}, "expected another kind of files"),
        ({"files": {"model.onnx": 5}}, "expected another kind of files"),
        ({"file": "other.onnx"}, "expected another kind of file, got 'other.onnx'"),
        ({"labels": ["cold", "hot", "cold"]}, "expected another kind of labels"),
        ({"labels": ["cold", "", "hot"]}, "expected another kind of labels"),
        ({"max_length": 2**40}, "expected another kind of max_length"),
        ({"max_length": 35}, "expected another kind of max_length"),  # the model has 34 positions
        ({"max_length": 2**20, "positions": None}, "expected a max_length of 30, at which tokenizer.json cuts"),
        ({"max_length": 1}, "expected a max_length above the tokenizer's 2 special tokens, got 1"),
        ({"max_length": True}, "expected another kind of max_length"),
        ({"precision": "int4"}, "expected another kind of precision"),
        ({"texts": True}, "expected another kind of texts"),
        ({"pad_id": 2}, "expected a pad_id that is 1, with which tokenizer.json pads, got 2"),
        ({"pad_id": 10**6}, "expected a pad_id that is 1"),
        ({"prompt": None}, "expected another kind of prompt"),
        ({"pad_id": "[PAD]"}, "expected another kind of pad_id"),
    ],
)
def test_metadata_that_does_not_fit(entries, message, copy):
    folder = copy()
    change(folder, **entries)
    with pytest.raises(UserError, match=message):
        open_bundle(folder)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '"x"', "\x00\xff", "[" * 200_000], ids=range(5))
def test_metadata_that_is_damaged(text, copy):
    folder = copy()
    (folder / "bundle.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"bundle.json: expected"):
        open_bundle(folder)


@pytest.mark.parametrize("to", RUNTIMES)
def test_a_truncated_graph_is_noticed_with_and_without_its_sha256(to, copy):
    folder = copy(to)
    file = folder / {"onnx": "model.onnx", "openvino": "model.bin"}[to]
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="not the file that was exported"):
        open_bundle(folder)
    with pytest.raises(UserError, match="could not load it"):
        open_bundle(folder, check=False)


def test_one_changed_byte_is_noticed(copy):
    folder = copy()
    content = bytearray((folder / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(UserError, match="sha256 differs"):
        open_bundle(folder)


def test_a_damaged_file_is_not_called_new_for_the_name_of_its_folder(bundle_of, tmp_path):
    folder = shutil.copytree(bundle_of("bert"), tmp_path / "opset-18")
    (folder / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(UserError, match="the file is damaged"):
        open_bundle(folder, check=False)


def test_a_tokenizer_that_is_cut_off_is_named(copy):
    folder = copy()
    content = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=r"tokenizer.json: no tokenizer could be read"):
        open_bundle(folder, check=False)


def test_a_bundle_answers_from_wherever_it_was_moved_to(bundle_of, tmp_path):
    folder = shutil.copytree(bundle_of("bert", to="openvino"), tmp_path / "ein Ordner, verschoben")
    np.testing.assert_array_equal(
        open_bundle(folder).run(["red"]), open_bundle(bundle_of("bert", to="openvino")).run(["red"])
    )


def test_a_missing_file_is_named(copy):
    folder = copy("openvino")
    (folder / "model.bin").unlink()
    with pytest.raises(UserError, match=r"expected the file model.bin, found none"):
        open_bundle(folder)


def foreign(folder, opset, ir_version=10):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    file = folder / "model.onnx"
    file.write_bytes(model.SerializeToString())
    files = json.loads((folder / "bundle.json").read_text())["files"]
    change(folder, files=files | {"model.onnx": {"sha256": sha256(file), "bytes": file.stat().st_size}})


def test_another_models_graph_is_noticed(copy):
    folder = copy()
    foreign(folder, 18)
    with pytest.raises(UserError, match=r"expected a graph with the inputs input_ids.*got x and y"):
        open_bundle(folder)


@pytest.mark.parametrize(("opset", "ir_version"), [(onnx.defs.onnx_opset_version() + 20, 10), (18, 99)])
def test_a_format_newer_than_the_runtime_is_explained(opset, ir_version, copy):
    folder = copy()
    foreign(folder, opset, ir_version)
    with pytest.raises(UserError, match=r"newer runtime.*--opset"):
        open_bundle(folder)


def test_a_runtime_that_is_not_installed_is_named(bundle_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install onnxruntime"):
        open_bundle(bundle_of("bert"))


@pytest.mark.parametrize("options", [{"threads": 0}, {"threads": 2, "workers": 3}, {"workers": 0}])
def test_threads_and_workers_that_make_no_sense(options, bundle_of):
    with pytest.raises(UserError, match="expected 1 or more threads"):
        open_bundle(bundle_of("bert"), **options)


def test_openvino_is_imported_without_the_package_that_sends_usage_data(bundle_of) -> None:
    code = (
        "import sys\nfrom contrastill.bundle import open_bundle\nopen_bundle(sys.argv[1])\n"
        "print(sys.modules['openvino_telemetry'], 'openvino.tools.ovc.telemetry_stub' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, bundle_of("bert", to="openvino")], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["None", "True"]
