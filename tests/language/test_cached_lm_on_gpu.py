"""A language model run on a GPU, whose words are stored and read back there."""

import numpy as np
import pytest
import torch
from tiny_language import llama

from contrastill.data.prompt_batches import collate_prompts
from contrastill.language import answer_tokens
from contrastill.losses import top_k
from contrastill.teachers import CachedLM, FrozenLM, fill

pytestmark = pytest.mark.gpu
WORDS = 40_000  # ids that a signed number of two bytes does not hold


@pytest.mark.parametrize(("computed", "rounding"), [("float32", 1e-3), ("bfloat16", 0.1)])
def test_what_is_stored_is_what_the_live_teacher_says(computed, rounding, tmp_path, monkeypatch):
    monkeypatch.setitem(fill.BUDGET, "cuda", 300)
    rng = np.random.default_rng(0)
    rows = [
        {"prompt": rng.integers(0, WORDS, p).tolist(), "answer": rng.integers(0, WORDS, a).tolist(), "key": n}
        for n, (p, a) in enumerate(rng.integers(1, 20, (60, 2)).tolist())
    ]
    of = CachedLM(
        FrozenLM(llama(32, 2, vocabulary=WORDS, spread=0.3)), WORDS, tmp_path, k=8, stored="float32", computed=computed
    )
    assert of.fill_rows(rows, 12) == 60
    assert of.live.model.device.type == "cuda"
    batch = {name: value.to("cuda") for name, value in collate_prompts(rows[:20], 12).items()}
    got, target = of.tokens(batch)(slice(None)), answer_tokens(batch)
    live = of.live.tokens(batch)(slice(None))
    assert got.ids.device.type == "cuda"
    assert (got.ids == target.unsqueeze(1)).any(1).all()
    assert int(got.ids.max()) > 1 << 15
    torch.testing.assert_close(got.log_probs, live.log_softmax(1).gather(1, got.ids), rtol=rounding, atol=rounding)
    torch.testing.assert_close(got.tail, top_k(live, 8, target).tail, rtol=rounding, atol=rounding)
