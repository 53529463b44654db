"""An exported model: one graph, its tokenizer and its metadata in a folder. Runs without torch and transformers."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from tokenizers import Encoding, Tokenizer

from contrastill.answers import ANSWERS, above_0, answer_of, names, whole
from contrastill.errors import UserError
from contrastill.seal import SEAL, changed_file, seal_of, unique_keys
from contrastill.spans import Reading, read, tagged
from contrastill.tokenizing import encode, read_tokenizer

__all__ = [
    "FORMAT",
    "METADATA",
    "Bundle",
    "is_bundle",
    "megabytes",
    "open_bundle",
    "read_metadata",
    "refuse_length",
    "without_usage_data",
]

FORMAT = 2
METADATA = "bundle.json"
LARGEST, LONGEST = 64 * 2**20, 2**31
"""Bytes of the metadata, and tokens of a longest input: more is a fault."""
PRECISIONS = ("fp32", "bf16", "int8")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")

MULTIPLES = {"onnxruntime": 1, "openvino": 8}
"""Lengths are padded to a multiple of this. OpenVINO keeps code and packed weights for each shape that it has seen:
over texts of all lengths this takes a third of the memory, and no more time."""

Array = np.ndarray[Any, Any]
Input = tuple[Sequence[int], Sequence[int]]
"""Token ids and token types of one input of the graph."""
Compute = Callable[[dict[str, Array]], Array]


def is_bundle(name: str | Path) -> bool:
    """Whether a folder is a bundle of `contrastill export`, by its metadata file."""
    return (Path(name).expanduser() / METADATA).is_file()


def megabytes(metadata: Mapping[str, Any]) -> float:
    """The size of a bundle's files together, in MB (10^6 bytes)."""
    return float(sum(one["bytes"] for one in metadata["files"].values()) / 1e6)


def refuse_length(max_length: int | None) -> None:
    """Checks that no length is set for a bundle.

    Raises:
        UserError: one is.
    """
    if max_length is not None:
        raise UserError("--max-length: expected a model, got a bundle, whose length is fixed; leave it out")


def open_bundle(
    folder: str | Path, *, threads: int | None = None, workers: int = 1, check: bool = True, spin: bool = True
) -> Bundle:
    """Opens a bundle of `contrastill export`.

    Args:
        threads: CPU threads in all; by default every core this process may use.
        workers: how many batches are computed at a time; they share the threads. One answers a single text soonest;
            as many as threads has the highest throughput.
        check: whether metadata and files must be those that were sealed. False opens a bundle of format 1 too, which
            has no seal.
        spin: whether ONNX Runtime's threads wait awake for each other, as they do by themselves. Sooner where the
            cores are theirs alone; where others need them too it takes a core's time for nothing.

    Raises:
        UserError: no bundle, another format, changed metadata, a damaged or foreign file, or a runtime that is not
            installed.
    """
    folder = Path(folder).expanduser()
    metadata = read_metadata(folder, check)
    threads = available() if threads is None else threads
    if threads < 1 or not 1 <= workers <= threads:
        raise UserError(f"expected 1 or more threads and at most as many workers, got {threads} and {workers}")
    for name in metadata["files"]:
        if not (folder / name).is_file():
            raise UserError(f"{folder}: expected the file {name}, found none; copy the folder whole, or export again")
    if check and (changed := changed_file(folder, metadata["files"])):
        raise UserError(
            f"{folder / changed}: not the file that was exported (its sha256 differs); copy or export it again"
        )
    return Bundle(folder, metadata, threads, workers, spin)


def read_metadata(folder: Path, check: bool = True) -> dict[str, Any]:
    """Reads bundle.json; `check`: its seal must be that of its entries.

    Raises:
        UserError: no bundle, another format, an entry that was changed, or one that no export writes.
    """
    if folder.is_file():
        raise UserError(f"expected the folder that `contrastill export` wrote, got the file {folder}; give its folder")
    try:
        size = (folder / METADATA).stat().st_size
        if size > LARGEST:
            raise UserError(f"{folder / METADATA}: expected at most {LARGEST:,} bytes, got {size:,}; export it again")
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
        sealed = not check or (isinstance(metadata, dict) and metadata.get(SEAL) == seal_of(metadata))
    except OSError:
        raise UserError(
            f"{folder}: expected a bundle (a folder with {METADATA}), found none; make one with `contrastill export`"
        ) from None
    except (ValueError, RecursionError) as error:
        why = str(error)[:200]
        raise UserError(f"{folder / METADATA}: expected JSON, got a damaged file ({why}); export it again") from None
    if not isinstance(metadata, dict) or not whole(metadata.get("format")):
        raise UserError(f"{folder / METADATA}: expected a bundle's metadata, got something else; export it again")
    if metadata["format"] > FORMAT:
        got = str(metadata["format"])[:20]
        raise UserError(f"{folder}: a bundle of format {got}, this version reads {FORMAT}; update contrastill")
    if check and metadata["format"] < FORMAT:
        raise UserError(
            f"{folder}: a bundle of format {metadata['format']}, made before bundles had checksums: changes to its "
            "labels, prompt and lengths cannot be detected; export the model again"
        )
    if not sealed:
        raise UserError(
            f"{folder / METADATA}: entries differ from the exported ones (sha256 against {SEAL!r}): one was "
            "changed, removed or added; copy the file again, or export again"
        )
    needed = {"task", "labels", "texts", "max_length", "runtime", "precision", "file", "inputs", "output", "files"}
    if missing := sorted(needed - set(metadata)):
        raise UserError(f"{folder / METADATA}: expected {', '.join(missing)} too, found none; export it again")
    if metadata["task"] not in [*ANSWERS] or metadata["runtime"] not in [*RUNTIMES]:
        raise UserError(
            f"{folder / METADATA}: expected a task of {', '.join(ANSWERS)} and a runtime of {', '.join(RUNTIMES)}, "
            f"got {str(metadata['task'])[:80]!r} and {str(metadata['runtime'])[:80]!r}"
        )
    if wrong := unfit(metadata):
        got = repr(metadata[wrong])
        raise UserError(
            f"{folder / METADATA}: expected another kind of {wrong}, got {got[:80]}; undo the change, or export again"
        )
    return metadata


def unfit(metadata: Mapping[str, Any]) -> str | None:
    """The first entry that no export writes: a seal only says that nobody changed it later."""
    files, inputs = metadata["files"], metadata["inputs"]
    positions = metadata.get("positions")
    fits = {
        "abstain": metadata.get("abstain") is None,
        "temperatures": above_0(metadata.get("temperatures", [1.0])),
        **ANSWERS[metadata["task"]].fits(metadata),
        "ordered": isinstance(metadata.get("ordered", False), bool),
        "texts": whole(metadata["texts"]) and metadata["texts"] <= 2,
        "positions": positions is None or whole(positions),
        "max_length": whole(metadata["max_length"]) and metadata["max_length"] <= LONGEST,
        "precision": metadata["precision"] in PRECISIONS,
        "inputs": names(inputs, 1) and "input_ids" in inputs and set(inputs) <= set(INPUTS),
        "output": isinstance(metadata["output"], str),
        "files": isinstance(files, dict)
        and all(isinstance(one, dict) and isinstance(one.get("sha256"), str) for one in files.values())
        and all(whole(one.get("bytes")) and Path(name).name == name for name, one in files.items()),
        "name": isinstance(metadata.get("name", ""), str),
        "prompt": isinstance(metadata.get("prompt", ""), str),
        "pad_id": metadata.get("pad_id", 0) == 0 or whole(metadata["pad_id"]),
    }
    fits["max_length"] = all(fits[name] for name in ("max_length", "positions")) and (
        positions is None or metadata["max_length"] <= positions
    )
    fits["file"] = fits["files"] and metadata["file"] in [*files] and "tokenizer.json" in files
    return next((name for name, good in fits.items() if not good), None)


class Bundle:
    """A model that answers texts. Safe to call from several threads, `workers` of them at a time."""

    def __init__(self, folder: Path, metadata: Mapping[str, Any], threads: int, workers: int, spin: bool) -> None:
        self.folder, self.metadata, self.threads, self.workers = folder, metadata, threads, workers
        self.name: str = metadata.get("name") or folder.name
        self.task: str = metadata["task"]
        self.answer = answer_of(metadata)
        self.labels = self.answer.labels
        self.dimensions: int | None = metadata.get("dimensions")
        self.ordered: bool = metadata.get("ordered", False)
        """Whether the first N numbers of a vector, normalised again, are a usable shorter vector."""
        self.width = self.answer.width
        self.texts: int = metadata["texts"]
        """Texts that one answer takes: 1, or 2 for pairs."""
        self.max_length: int = metadata["max_length"]
        self.runtime: str = metadata["runtime"]
        self.precision: str = metadata["precision"]
        self.tokenizer = fitting_tokenizer(folder, metadata)
        if self.answer.per_word:
            self.tokenizer.no_truncation()
        self._compute = RUNTIMES[self.runtime](folder / metadata["file"], metadata, threads, workers, spin)

    def tokenize(self, texts: Sequence[str | tuple[str, str]]) -> dict[str, Array]:
        """Texts, or pairs, as the graph reads them: int64 (B, L), cut at `max_length`, padded to the longest, in
        OpenVINO to a multiple of 8. Of a tagger the first part of each text (`read` gives all).

        Raises:
            UserError: a single text where pairs are read, or the reverse; something that is no text.
        """
        return self._padded(self._inputs(texts))

    def read(self, texts: Sequence[str | tuple[str, str]]) -> list[Reading]:
        """Texts as a tagger reads them: words, and overlapping parts of at most `max_length` tokens.

        Raises as `tokenize` does.
        """
        encoded = self._encoded(texts)
        return [read(one, str(text), self.max_length) for one, text in zip(encoded, texts, strict=True)]

    def compute(self, inputs: Mapping[str, Array]) -> Array:
        """float32 (B, labels) probabilities, (B, 1) scores or (B, dimensions) unit vectors; of a tagger (B, L, labels)
        probabilities."""
        return self._compute(dict(inputs))

    def run(self, texts: Sequence[str | tuple[str, str]], batch_size: int = 32) -> Array:
        """The answers to any number of texts, in their order, (N, width), or (N,) `spans.Tagged`; texts of like length
        are computed together.

        Raises as `tokenize` does.
        """
        if batch_size < 1:
            raise UserError(f"expected a batch size of at least 1, got {batch_size}")
        if self.answer.per_word:
            return self.tag(self.read(texts), batch_size)
        answers = self._answers(self._inputs(texts), batch_size)
        return np.stack(answers) if answers else np.zeros((0, self.width), np.float32)

    def tag(self, readings: Sequence[Reading], batch_size: int = 32) -> Array:
        """The answers of a tagger to texts that were read: (N,) `spans.Tagged`."""
        windows = [window for reading in readings for window in reading.windows]
        return tagged(readings, self._answers([(one.ids, one.types) for one in windows], batch_size))

    def _answers(self, inputs: Sequence[Input], batch_size: int) -> list[Array]:
        """The graph's answer to each input; inputs of like length are computed together."""
        result: list[Any] = [None] * len(inputs)
        order = np.argsort([-len(ids) for ids, _ in inputs], kind="stable")
        size = max(1, min(batch_size, -(-len(inputs) // self.workers)))
        parts = [order[first : first + size] for first in range(0, len(order), size)]

        def answer(rows: Array) -> None:
            for row, one in zip(rows, self.compute(self._padded([inputs[row] for row in rows])), strict=True):
                result[row] = one

        if self.workers == 1 or len(parts) < 2:
            for rows in parts:
                answer(rows)
        else:
            with ThreadPoolExecutor(self.workers) as pool:
                list(pool.map(answer, parts))
        return result

    def cut_share(self, texts: Sequence[str | tuple[str, str]]) -> float:
        """The share of texts, or pairs, longer than `max_length`. Raises as `tokenize` does."""
        if self.answer.per_word:
            return sum(one.long for one in self.read(texts)) / len(texts)
        return sum(bool(one.overflowing) for one in self._encoded(texts)) / len(texts)

    def _encoded(self, texts: Sequence[str | tuple[str, str]]) -> list[Encoding]:
        prompt = self.metadata.get("prompt", "")
        read = []
        for text in texts:
            parts = tuple(text) if isinstance(text, (tuple, list)) else (text,)
            if len(parts) != self.texts or not all(isinstance(part, str) for part in parts):
                raise UserError(f"expected {'pairs of texts' if self.texts == 2 else 'texts'}, got {str(text)[:80]!r}")
            read.append(prompt + parts[0] if len(parts) == 1 else parts)
        return encode(self.tokenizer, read)

    def _inputs(self, texts: Sequence[str | tuple[str, str]]) -> list[Input]:
        if self.answer.per_word:
            return [(one.windows[0].ids, one.windows[0].types) for one in self.read(texts)]
        return [(one.ids, one.type_ids) for one in self._encoded(texts)]

    def _padded(self, inputs_of: Sequence[Input]) -> dict[str, Array]:
        # at least one: a tokenizer without marks of its own makes nothing of an empty text
        longest, whole = max([1, *(len(ids) for ids, _ in inputs_of)]), MULTIPLES[self.runtime]
        length = min(-(-longest // whole) * whole, self.max_length)
        fill = {"input_ids": self.metadata.get("pad_id", 0), "attention_mask": 0, "token_type_ids": 0}
        inputs = {name: np.full((len(inputs_of), length), fill[name], np.int64) for name in self.metadata["inputs"]}
        for row, (ids, types) in enumerate(inputs_of):
            for name, values in (("input_ids", ids), ("attention_mask", 1), ("token_type_ids", types)):
                if name in inputs:
                    inputs[name][row, : len(ids)] = values
        return inputs


def fitting_tokenizer(folder: Path, metadata: Mapping[str, Any]) -> Tokenizer:
    """The folder's tokenizer, checked to have the length limit and padding of the metadata.

    Raises:
        UserError: no tokenizer, one without bounds, or another bundle's.
    """
    file, length, pad = folder / "tokenizer.json", metadata["max_length"], metadata.get("pad_id", 0)
    own_length, own_pad, tokenizer = read_tokenizer(file, length, pairs=metadata["texts"] == 2)
    if own_length not in (None, length):
        raise UserError(
            f"{folder / METADATA}: expected a max_length of {own_length}, at which {file.name} cuts, got {length}: "
            "another tokenizer, or a changed entry; export again"
        )
    if own_pad not in (None, pad) or tokenizer.id_to_token(pad) is None:
        wanted = "a token of the vocabulary" if own_pad is None else f"{own_pad}, with which {file.name} pads"
        raise UserError(
            f"{folder / METADATA}: expected a pad_id that is {wanted}, got {pad}: another tokenizer, or a changed "
            "entry; export again"
        )
    return tokenizer


# ---- runtimes


def onnx_runtime(path: Path, metadata: Mapping[str, Any], threads: int, workers: int, spin: bool) -> Compute:
    runtime = imported("onnxruntime", "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads // workers
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
    try:
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise unreadable(path, error) from None
    widths = {one.name: one.shape[-1] if one.shape else None for one in session.get_outputs()}
    check_graph(path, metadata, [one.name for one in session.get_inputs()], widths)
    outputs = [metadata["output"]]

    def compute(inputs: dict[str, Array]) -> Array:
        return session.run(outputs, inputs)[0]

    return compute


def without_usage_data() -> None:
    """Keeps OpenVINO and NNCF, which are imported next, from sending usage data: an import of OpenVINO sends some, and
    forks a process for it. They do without the package that sends it where there is none."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def openvino_runtime(path: Path, metadata: Mapping[str, Any], threads: int, workers: int, spin: bool) -> Compute:
    without_usage_data()
    openvino = imported("openvino", "openvino")
    core = openvino.Core()
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": workers}
    if metadata["precision"] == "fp32":  # by itself OpenVINO computes in bfloat16 where the processor can
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    try:
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", settings)
    except Exception as error:
        raise unreadable(path, error) from None
    names = [name for port in model.inputs for name in port.names]
    widths = {name: last_width(port.get_partial_shape()) for port in model.outputs for name in port.names}
    check_graph(path, metadata, names, widths)
    output = compiled.output(metadata["output"])
    requests: SimpleQueue[Any] = SimpleQueue()
    for _ in range(workers):
        requests.put(compiled.create_infer_request())

    def compute(inputs: dict[str, Array]) -> Array:
        request = requests.get()
        try:
            return request.infer(inputs, share_inputs=True)[output]
        finally:
            requests.put(request)

    return compute


RUNTIMES = {"onnxruntime": onnx_runtime, "openvino": openvino_runtime}


def imported(name: str, package: str) -> Any:
    try:
        return __import__(name)
    except ImportError as error:
        raise UserError(f"this bundle needs {name} ({error}); pip install {package}") from None


def unreadable(path: Path, error: Exception) -> UserError:
    text = " ".join(str(error).replace(str(path), path.name).split())
    why = f"{path}: the runtime could not load it ({text[-300:]})"  # what it means is said last
    if any(sign in text.lower().replace("_", " ") for sign in ("opset", "ir version")):
        return UserError(why + "; it was made for a newer runtime: update the runtime, or export with a lower --opset")
    return UserError(why + "; the file is damaged or no exported model: copy it again, or export again")


def check_graph(path: Path, metadata: Mapping[str, Any], inputs: Sequence[str], outputs: Mapping[str, Any]) -> None:
    """Checks the graph's inputs and outputs. outputs: name -> width, not a number where it is free."""
    if set(inputs) != set(metadata["inputs"]) or metadata["output"] not in outputs:
        raise UserError(
            f"{path}: expected a graph with the inputs {', '.join(metadata['inputs'])} and the output "
            f"{metadata['output']}, got {', '.join(inputs)} and {', '.join(outputs)}: another model"
        )
    wanted, got = answer_of(metadata).width, outputs[metadata["output"]]
    if isinstance(got, int) and got != wanted:
        raise UserError(
            f"{path}: expected answers of {wanted} numbers, as {METADATA} says (labels, dimensions), the graph gives "
            f"{got}: another model, or changed labels"
        )


def last_width(shape: Any) -> int | None:
    """The last dimension of an OpenVINO shape, if it is fixed."""
    known = shape.rank.is_static and len(shape) and shape[len(shape) - 1].is_static
    return shape[len(shape) - 1].get_length() if known else None


def available() -> int:
    """Cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1
