import json
import platform
from pathlib import Path

import pytest
import torch

import contrastill
from contrastill import machine
from contrastill.machine import _seconds_of_product, bf16_held, bf16_pays, describe_machine


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """A machine without a GPU whose /proc/cpuinfo the test writes; until then it is missing, as on macOS."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "CPUINFO", path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return path


def test_the_description_is_whole_and_goes_into_json():
    assert list(json.loads(json.dumps(describe_machine()))) == [
        "system",
        "cpu",
        "cores_logical",
        "cores_physical",
        "torch_threads",
        "bf16_instructions",
        "bf16_pays",
        "devices",
        "memory_total_gb",
        "memory_available_gb",
        "python",
        "torch",
        "transformers",
        "contrastill",
    ]


def test_the_description_states_versions_and_threads_and_no_host_name_or_path():
    found = describe_machine()
    assert found["contrastill"] == contrastill.__version__
    assert found["torch"] == torch.__version__
    assert found["torch_threads"] == torch.get_num_threads()
    assert 0 < found["memory_available_gb"] <= found["memory_total_gb"]
    assert platform.node() not in found.values()
    assert str(Path.cwd()) not in json.dumps(found)


@pytest.mark.parametrize(
    ("flags", "faster", "pays"),
    [
        ("avx2 avx512_bf16", True, True),
        ("avx2 avx512_bf16", False, False),
        ("amx_tile amx_bf16", False, True),
        ("avx512_bf16 amx_bf16", False, True),
        ("avx2 avx512f amx_tile", True, False),
    ],
)
def test_bf16_pays_where_the_processor_computes_it_in_less_time(cpuinfo, monkeypatch, flags, faster, pays):
    seconds = {torch.bfloat16: 1.0 if faster else 2.0, torch.float32: 1.5}
    monkeypatch.setattr("contrastill.machine._seconds_of_product", seconds.__getitem__)
    cpuinfo.write_text(f"model name\t: A CPU @ 2:1\nflags\t\t: {flags}\n\nmodel name\t: Another\nflags\t: amx_bf16\n")
    assert bf16_pays() is pays
    found = describe_machine()
    assert (found["cpu"], bool(found["bf16_instructions"])) == ("A CPU @ 2:1", "bf16" in flags)
    assert found["bf16_pays"] is pays


@pytest.mark.parametrize("other", [True, False])
def test_a_held_choice_is_repeated_by_runs_within_too(other, monkeypatch):
    monkeypatch.setattr("contrastill.machine._bf16_flags", lambda _: [] if other else ["amx_bf16"])
    here = bf16_pays()
    with bf16_held(other):
        with bf16_held(None):
            assert bf16_pays() is other
        with bf16_held(not other):
            assert bf16_pays() is not other
        assert bf16_pays() is other
    assert bf16_pays() is here


def test_the_time_of_a_product_is_taken_once():
    assert 0 < _seconds_of_product(torch.float32) < 10
    assert _seconds_of_product(torch.float32) == _seconds_of_product(torch.float32)


def test_a_system_without_cpuinfo_is_described_all_the_same(cpuinfo):
    found = describe_machine()
    assert found["cpu"]
    assert (found["bf16_instructions"], found["bf16_pays"]) == ([], False)


@pytest.mark.parametrize("supported", [True, False])
def test_bf16_on_a_gpu_pays_where_it_is_not_emulated(cpuinfo, monkeypatch, supported):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or supported)
    assert bf16_pays() is supported
