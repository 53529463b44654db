"""The machine on which a number was measured: hardware and versions, no host names or paths."""

import contextlib
import ctypes
import platform
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

import contrastill

__all__ = ["bf16_held", "bf16_pays", "describe_machine", "doubt", "keep_freed_memory", "spread_of"]

CPUINFO = Path("/proc/cpuinfo")  # Linux only
AMX = "amx_bf16"
BF16_FLAGS = (AMX, "avx512_bf16")
HELD: ContextVar[bool | None] = ContextVar("HELD", default=None)
"""The choice that `bf16_pays` repeats."""
UNEVEN = 0.3
"""Interquartile range over the rounds, as a share of their median, above which a time is not to be quoted."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def describe_machine() -> dict[str, Any]:
    """Hardware and versions, ready for JSON. Memory in GB of 10^9 bytes."""
    memory = psutil.virtual_memory()
    cpu = _cpuinfo()
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("Apple MPS")
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu.get("model name") or platform.processor() or platform.machine(),
        "cores_logical": psutil.cpu_count(logical=True),
        "cores_physical": psutil.cpu_count(logical=False),
        "torch_threads": torch.get_num_threads(),
        "bf16_instructions": _bf16_flags(cpu),
        "bf16_pays": bf16_pays(),
        "devices": devices,
        "memory_total_gb": round(memory.total / 1e9, 1),
        "memory_available_gb": round(memory.available / 1e9, 1),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": version("transformers"),
        "contrastill": contrastill.__version__,
    }


def doubt(load: float, cores: int, spread: float) -> str | None:
    """The reason not to quote a time that was taken: others were at work, or the rounds differ; None: there is none.

    Args:
        load: the load average before anything was timed.
        spread: interquartile range over the rounds, as a share of their median.
    """
    if load > cores:
        return f"the machine was busy, with a load of {load:.1f} on {cores} core{'s' if cores > 1 else ''} before"
    if spread > UNEVEN:
        return f"the rounds differ by {spread:.0%}"
    return None


def spread_of(rounds: Sequence[float]) -> float:
    """Interquartile range as a share of the median."""
    low, middle, high = np.percentile(rounds, [25, 50, 75]).tolist()
    return round((high - low) / middle, 4) if middle > 0 else 0.0


def bf16_pays() -> bool:
    """Whether bfloat16 is the faster choice here: on a GPU or with AMX where it is computed rather than emulated; of
    processors with AVX-512 instructions for it alone, some take half the time of float32 and some twice as long. Within
    `bf16_held`, what is held."""
    if (held := HELD.get()) is not None:
        return held
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = _bf16_flags(_cpuinfo())
    return AMX in flags or (bool(flags) and _seconds_of_product(torch.bfloat16) < _seconds_of_product(torch.float32))


@contextlib.contextmanager
def bf16_held(pays: bool | None) -> Iterator[None]:
    """Within it `bf16_pays` repeats a choice that was made before, for a resumed run; None: what is held already stays,
    so that a run within another, its baseline, computes as that one does."""
    token = HELD.set(HELD.get() if pays is None else pays)
    try:
        yield
    finally:
        HELD.reset(token)


def keep_freed_memory() -> None:
    """Tells the C library to keep freed memory for the next tensor, where it can be told (glibc).

    By default blocks of tens of megabytes go back to the system, and each layer's output is paid for in page faults.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


@cache
def _seconds_of_product(dtype: torch.dtype) -> float:
    """The least wall time of a product of matrices of the size of a layer, of a few; taken once a process."""
    rows, weights = torch.ones(256, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)
    times = []
    for _ in range(8):
        begun = time.perf_counter()
        torch.nn.functional.linear(rows, weights)
        times.append(time.perf_counter() - begun)
    return min(times)


def _bf16_flags(cpu: dict[str, str]) -> list[str]:
    present = cpu.get("flags", "").split()
    return [flag for flag in BF16_FLAGS if flag in present]


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries; empty where the system has no such file."""
    try:
        first = CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}
