"""A process that starts warm is the process that `subprocess` would start."""

import os
import sys

import pytest

import warm


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_process_computes_with_the_threads_of_its_own_environment(threads: str) -> None:
    code = "import os, torch; print(torch.get_num_threads(), os.environ['OMP_NUM_THREADS'])"
    done = warm.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": threads})
    assert (done.stdout.split(), done.stderr) == ([threads, threads], "")
