"""One model in a process of its own: it is told on stdin, a JSON line at a time, to load, to prepare, to time a turn.

It answers on stdout, and only once its threads are asleep, so that the next process has the cores to itself.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from queue import SimpleQueue
from typing import Any

import numpy as np
import psutil

from contrastill.errors import UserError

Texts = Sequence[str | tuple[str, str]]
Call = Callable[[], Any]

BLOCK = 8
"""Calls of a turn on texts: short and long ones in the proportion that all of them have."""
ASLEEP = (0.002, 0.0002, 1.0)
"""Asleep is who uses less than so much processor time (the second) in so much time (the first); waited for at most the
third. All in seconds."""
UNBOUNDED = 1 << 20
"""Tokens that a language model without a table of positions reads, as far as a comparison is concerned."""
AUTO = "transformers.models.auto"
IMPORTS = {
    "torch": ("torch", f"{AUTO}.modeling_auto", f"{AUTO}.tokenization_auto"),
    "onnxruntime": ("onnxruntime", "tokenizers"),
    "openvino": ("openvino", "tokenizers"),
}
"""Imports of a program that runs the model; other imports of this one are not counted."""


class Worker:
    """Requests of the parent process, a method each; keyword arguments in, a dictionary out."""

    def load(
        self,
        source: str,
        runtime: str,
        precision: str,
        threads: int,
        workers: int,
        cores: list[int],
        case: Any,
        new_tokens: int = 0,
    ) -> dict[str, Any]:
        """Imports, loads, and answers one text. Memory is resident megabytes, of the process."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)
        # as `bundle.without_usage_data`, whose module is not to be imported before the clock starts
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        begun, before = time.perf_counter(), resident()
        for name in IMPORTS[runtime]:
            import_module(name)
        imports = time.perf_counter() - begun
        libraries = resident() - before
        import_module("contrastill.exporting.source" if runtime == "torch" else "contrastill.bundle")
        self.bare, begun = resident(), time.perf_counter()
        self.model: InTorch | Graph
        if runtime != "torch":
            self.model = Graph(source, threads, workers)
        else:
            import torch

            torch.set_num_threads(threads)
            torch.set_num_interop_threads(1)
            pairs = is_pairs(case)
            self.model = Writer(source, precision, new_tokens) if new_tokens else Torch(source, precision, pairs=pairs)
        one = {**case, "batch": 1, "texts": case["texts"] and case["texts"][:1]}
        if one["length"] != "data":  # a case that is too long for it fails when its turn comes, and alone
            one["length"] = min(one["length"], self.model.max_length)
        self.calls(one)[0][0]()
        loaded = time.perf_counter() - begun
        gc.collect()
        gc.freeze()
        gc.disable()
        return {
            "imports_s": imports,
            "imports_mb": libraries,
            "load_s": loaded,
            **self.model.facts(),
        }

    def prepare(self, case: Any) -> dict[str, Any]:
        """Builds the inputs of a case and passes over all of them once, so that no shape is timed when first seen."""
        calls, tokens = self.calls(case)
        flops = self.model.first_pass(calls)
        self.blocks = [calls[n :: max(1, len(calls) // BLOCK)] for n in range(max(1, len(calls) // BLOCK))]
        for n, block in enumerate(self.blocks):
            random.Random(n).shuffle(block)
        return {
            "tokens": tokens,
            "gflops": None if flops is None else flops / len(calls) / 1e9,
            "memory_mb": resident() - self.bare,
        }

    def turn(self, block: int, seconds: float) -> dict[str, Any]:
        """Times the calls of a block, over and over for so many seconds: milliseconds (repeats, calls)."""
        calls = self.blocks[block % len(self.blocks)]
        calls[0]()  # not timed: whoever worked before has emptied the caches
        ms: list[list[float]] = []
        stop = time.perf_counter() + seconds
        while not ms or time.perf_counter() < stop:
            ms.append([])
            for call in calls:
                start = time.perf_counter()
                call()
                ms[-1].append(1000 * (time.perf_counter() - start))
        return {"ms": ms}

    def calls(self, case: Any) -> tuple[list[Call], float]:
        """The calls of a case, from the longest inputs to the shortest, and the mean tokens of a text."""
        batch, length, texts = case["batch"], case["length"], case["texts"]
        if length == "data":
            texts = [tuple(text) if isinstance(text, list) else text for text in texts]
            lengths = self.model.lengths(texts)
            order = sorted(range(len(texts)), key=lambda row: -lengths[row])
            batches = [[texts[row] for row in order[n : n + batch]] for n in range(0, len(order), batch)]
            return [self.model.on_texts(some) for some in batches], sum(lengths) / len(lengths)
        if length > self.model.max_length:
            raise UserError(f"reads at most {self.model.max_length} tokens, not {length}")
        words = self.model.words
        ids = np.random.default_rng(0).choice(words, (batch, length)).astype(np.int64)
        return [self.model.on_ids(ids)], length


class InTorch:
    """A model in PyTorch; bf16: its weights in bfloat16 too."""

    inputs: tuple[str, ...]
    max_length: int

    def __init__(self, module: Any, tokenizer: Any, precision: str) -> None:
        import torch

        self.torch, self.module, self.tokenizer = torch, module.eval(), tokenizer
        if precision == "bf16":
            self.module.to(torch.bfloat16)

    def encode(self, texts: Texts) -> dict[str, Any]:
        raise NotImplementedError

    def compute(self, **inputs: Any) -> Any:
        return self.module(**inputs)

    def facts(self) -> dict[str, Any]:
        saved = {
            tensor.data_ptr(): tensor.numel() * tensor.element_size() for tensor in self.module.state_dict().values()
        }
        parameters = sum(parameter.numel() for parameter in self.module.parameters())
        return {"parameters": parameters, "weights_mb": sum(saved.values()) / 1e6}

    @property
    def words(self) -> np.ndarray[Any, Any]:
        return np.setdiff1d(np.arange(len(self.tokenizer)), self.tokenizer.all_special_ids)

    def lengths(self, texts: Texts) -> list[int]:
        return [int(self.encode([text])["attention_mask"].sum()) for text in texts]

    def on_texts(self, texts: Texts) -> Call:
        return self.call(self.encode(texts))

    def on_ids(self, ids: np.ndarray[Any, Any]) -> Call:
        given = self.torch.from_numpy(ids)
        made = {
            "input_ids": given,
            "attention_mask": given.new_ones(given.shape),
            "token_type_ids": given.new_zeros(given.shape),
        }
        return self.call({name: made[name] for name in self.inputs})

    def call(self, inputs: Any) -> Call:
        def run() -> Any:
            with self.torch.inference_mode():
                return self.compute(**inputs)

        return run

    def first_pass(self, calls: Sequence[Call]) -> int:
        """Runs every call once and counts the floating-point operations of the matrix products."""
        from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

        def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
            return sdpa_flop_count(query, key, value)

        unknown = {self.torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}  # to the counter
        with FlopCounterMode(display=False, custom_mapping=unknown) as counter:
            for call in calls:
                call()
        return counter.get_total_flops()


class Torch(InTorch):
    """A classifier, regressor, tagger or sentence-embedding model."""

    def __init__(self, source: str, precision: str, pairs: bool) -> None:
        from contrastill.exporting.source import exportable
        from contrastill.loading import attend

        self.source = exportable(source, pairs=pairs)
        self.inputs, self.max_length = self.source.inputs, self.source.max_length
        super().__init__(self.source.module, self.source.tokenizer, precision)
        attend(self.source.encoder, "sdpa")

    def encode(self, texts: Texts) -> dict[str, Any]:
        return self.source.encode(texts)


class Writer(InTorch):
    """A language model: it reads prompts and writes as many tokens after each, the likeliest ones."""

    inputs = ("input_ids", "attention_mask")

    def __init__(self, source: str, precision: str, new_tokens: int) -> None:
        from contrastill.loading import load_causal_model, load_tokenizer, positions

        super().__init__(load_causal_model(source), load_tokenizer(source), precision)
        room = positions(self.module.config) or UNBOUNDED
        if new_tokens >= room:
            raise UserError(f"reads and writes at most {room} tokens together, not {new_tokens} new ones")
        self.max_length, self.new_tokens = room - new_tokens, new_tokens

    def encode(self, texts: Texts) -> dict[str, Any]:
        if not all(isinstance(text, str) for text in texts):
            raise UserError("expected one text a row, a prompt, got pairs")
        return dict(
            self.tokenizer(
                list(texts),
                padding=True,
                padding_side="left",
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            )
        )

    def compute(self, **inputs: Any) -> Any:
        from contrastill.sampling import Decoding, sample

        prompt, mask = inputs["input_ids"], inputs["attention_mask"]
        u = self.torch.zeros(len(prompt), self.new_tokens)
        return sample(self.module, prompt, mask, u, (), self.tokenizer.pad_token_id, Decoding(temperature=0))


class Graph:
    """A bundle; with several workers a batch is split among them, each part as long as its own longest text."""

    def __init__(self, source: str, threads: int, workers: int) -> None:
        from contrastill.bundle import open_bundle

        self.bundle = open_bundle(source, threads=threads, workers=workers)
        self.max_length = self.bundle.max_length
        self.pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def facts(self) -> dict[str, Any]:
        return {"parameters": self.bundle.metadata.get("parameters")}

    @property
    def words(self) -> np.ndarray[Any, Any]:
        tokenizer = self.bundle.tokenizer
        special = [n for n, token in tokenizer.get_added_tokens_decoder().items() if token.special]
        return np.setdiff1d(np.arange(tokenizer.get_vocab_size()), special)

    def lengths(self, texts: Texts) -> list[int]:
        return [int(self.bundle.tokenize([text])["attention_mask"].sum()) for text in texts]

    def on_texts(self, texts: Texts) -> Call:
        return self.call([self.bundle.tokenize(part) for part in self.parts(texts)])

    def on_ids(self, ids: np.ndarray[Any, Any]) -> Call:
        made = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        names = self.bundle.metadata["inputs"]
        return self.call(
            [dict(zip(names, part, strict=True)) for part in zip(*(self.parts(made[n]) for n in names), strict=True)]
        )

    def parts(self, rows: Any) -> list[Any]:
        size = -(-len(rows) // self.bundle.workers)
        return [rows[n : n + size] for n in range(0, len(rows), size)]

    def call(self, parts: list[Any]) -> Call:
        def run() -> Any:
            if self.pool is None or len(parts) == 1:
                return [self.bundle.compute(part) for part in parts]
            return list(self.pool.map(self.bundle.compute, parts))

        return run

    def first_pass(self, calls: Sequence[Call]) -> None:
        for call in calls:
            call()


def is_pairs(case: Any) -> bool:
    return bool(case["texts"]) and not isinstance(case["texts"][0], str)


def resident() -> float:
    """Megabytes of this process that are in memory."""
    return psutil.Process().memory_info().rss / 1e6


def rest() -> bool:
    """Waits until the threads of this process have stopped spinning. False: they never do."""
    nap, busy, longest = ASLEEP
    stop = time.perf_counter() + longest
    while time.perf_counter() < stop:
        used = time.process_time()
        time.sleep(nap)
        if time.process_time() - used < busy:
            return True
    return False


def asked() -> Iterator[str]:
    """The lines of stdin. When it ends the parent has ended, and so does this process, whatever it computes."""
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def main() -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    worker = Worker()
    for line in asked():
        what = json.loads(line)
        try:
            answer = getattr(worker, what.pop("do"))(**what)
        except Exception as error:  # of any library: the parent makes it the row's error
            text = " ".join(str(error).split())[:300]
            answer = {"error": text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"}
        answer["asleep"] = rest()
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
