"""The modules of a sentence-embedding model answer as its `encode` does, also where `encode` does more than they."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer

from contrastill.exporting import exportable
from contrastill.teachers import CachedEmbedder

TEXTS = ["w1 w2 w3", "w9", "w4 w4 w30 w7"]


def truncated(source: str) -> Any:
    return SentenceTransformer(source, device="cpu", truncate_dim=3)


def prompt_left_out(source: str) -> Any:
    model = SentenceTransformer(source, device="cpu", prompts={"q": "w5 w6 "}, default_prompt_name="q")
    model.set_pooling_include_prompt(False)
    return model


@pytest.mark.parametrize("made", [truncated, prompt_left_out])
def test_vectors_are_those_of_encode(home: Path, tmp_path: Path, made: Any) -> None:
    made(str(home / "embedder")).save(str(tmp_path / "model"))
    encoded = torch.tensor(SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS))
    teacher = CachedEmbedder(str(tmp_path / "model"), tmp_path / "cache", 16)
    assert teacher.width == encoded.shape[1]
    torch.testing.assert_close(torch.tensor(teacher.encode(TEXTS)), F.normalize(encoded, dim=-1), atol=1e-3, rtol=0)
    source = exportable(str(tmp_path / "model"))
    assert source.dimensions == encoded.shape[1]
    torch.testing.assert_close(torch.tensor(source.run(TEXTS)), encoded, atol=1e-5, rtol=0)
