"""What each candidate for serving serves: the bundle's tokenizer and graph, with one thread, in batches.

Each `serve_NAME.py` beside this file is the same small server over one library (see ../serve_libraries.py): it takes
POST /embed {"texts": [...]} and gives {"embeddings": [[...]]}, forms batches of up to 32 requests that wait at most
2 ms for each other, listens on the loopback interface as far as it can be told to, and is otherwise left as it comes.

    python serve_NAME.py FOLDER PORT
"""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

BATCH, WAIT_MS = 32, 2


class Model:
    """The bundle's tokenizer and graph."""

    def __init__(self, folder: str) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        self.tokenizer.enable_truncation(128)
        self.tokenizer.enable_padding()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(str(Path(folder) / "model.onnx"), options)
        self.inputs = {each.name for each in self.session.get_inputs()}

    def embed(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Answers several requests by one batch."""
        texts = [text for request in requests for text in request["texts"]]
        found = self.tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": np.array([each.ids for each in found]),
            "attention_mask": np.array([each.attention_mask for each in found]),
            "token_type_ids": np.array([each.type_ids for each in found]),
        }
        rows = iter(self.session.run(None, {k: v for k, v in inputs.items() if k in self.inputs})[0].tolist())
        return [{"embeddings": list(itertools.islice(rows, len(request["texts"])))} for request in requests]
