"""What an editor and a notebook show of the public functions: made from the settings, and up to date."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import contrastill
from contrastill import api, settings
from contrastill.settings.signatures import annotation, arguments

STUB = Path(contrastill.__file__).with_suffix(".pyi")
HEAD = '''"""Contrastill: make a slow text encoder small and fast by contrastive knowledge distillation."""

# What editors and mypy read of `contrastill`, made from the settings by
# CONTRASTILL_REGENERATE=1 make test TESTS=tests/test_signatures.py

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal

'''
FUNCTIONS = sorted(api.__all__)


def stub() -> str:
    """The text of `__init__.pyi`."""
    others = {"Exported": "exporting.run", "Verified": "exporting.verify", "Predictions": "prediction"}
    others |= {"Built": "training.cache_build", "Labelled": "labelling", "Rows": "memory", "Augmented": "augmenting"}
    homes = {name: contrastill._HOMES.get(name, "training") for name in contrastill.__all__ if name not in FUNCTIONS}
    imports = [f"from contrastill.{home} import {name} as {name}" for name, home in (homes | others).items()]
    parts = [HEAD + "\n".join(sorted(imports)), "__version__: str\n__all__: list[str]"]
    for name in FUNCTIONS:
        function = getattr(api, name)
        found = inspect.signature(function)
        words = [parameter(one) for one in found.parameters.values()]
        star = ["*"] if all(one.kind is one.KEYWORD_ONLY for one in found.parameters.values()) else []
        head = ",\n    ".join([*star, *words])
        doc = inspect.cleandoc(function.__doc__).replace("\n", "\n    ").replace("\n    \n", "\n\n")
        parts.append(f'def {name}(\n    {head},\n) -> {kind(found.return_annotation)}:\n    """{doc}\n    """')
    return "\n\n".join(parts) + "\n"


def parameter(one: inspect.Parameter) -> str:
    plain = one.default is None or isinstance(one.default, (str, int, float, bool))
    default = "" if one.default is one.empty else f" = {one.default!r}" if plain else " = ..."
    return f"{one.name}: {kind(one.annotation)}{default}"


def kind(annotation: Any) -> str:
    found = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(typing|collections\.abc|pathlib\._local|pathlib)\.", "", found)


def test_the_stub_is_that_of_the_settings() -> None:
    if os.environ.get("CONTRASTILL_REGENERATE"):
        STUB.write_text(stub(), encoding="utf-8")
    assert STUB.read_text(encoding="utf-8") == stub(), "settings have changed: see the head of the file"


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "compare"])
def test_a_function_shows_every_setting_with_type_default_and_help(name: str) -> None:
    function = getattr(contrastill, name)
    shown = inspect.signature(function).parameters
    kinds: list[Any] = KINDS[name]
    for kind in kinds:
        for field in kind.__dataclass_fields__.values():
            assert shown[field.name].kind is inspect.Parameter.KEYWORD_ONLY
            assert f"    {field.name}: {kinds[0].__dataclass_fields__.get(field.name, field).metadata['help']}" in (
                function.__doc__
            )
    own = {"resume"} if name in ("finetune", "distill", "pretrain", "contrast") else {"stream"} & set(shown)
    assert set(shown) == own | {field for kind in kinds for field in kind.__dataclass_fields__}


KINDS: dict[str, list[Any]] = {
    "augment": [settings.Augmentation],
    "bench": [settings.Bench],
    "build_cache": [settings.CacheBuild],
    "contrast": [settings.Contrast],
    "distill": [settings.Distillation, settings.EmbeddingDistillation, settings.LanguageDistillation],
    "evaluate": [settings.Evaluation],
    "export": [settings.Export],
    "finetune": [settings.Finetuning, settings.LanguageFinetuning],
    "label": [settings.Labelling],
    "predict": [settings.Prediction],
    "pretrain": [settings.Pretraining],
    "serve": [settings.Serving],
    "verify": [settings.Verification],
}


def test_where_kinds_differ_types_are_joined_and_defaults_are_told() -> None:
    shown = inspect.signature(contrastill.distill).parameters
    assert shown["teacher"].default is None
    assert shown["teacher"].annotation == "str | PathLike[str] | list[str] | tuple[str, ...] | None"
    assert shown["out"].default is inspect.Parameter.empty
    assert shown["texts"].default is None
    assert shown["texts"].annotation.endswith("| None")
    assert shown["schedule"].annotation == "Literal['stages', 'linear', 'constant']"
    assert shown["method"].annotation == "str | type | None"
    said = arguments(KINDS["distill"])
    assert said["batch_size"].endswith("[EmbeddingDistillation: 128]")
    assert said["pooling"].endswith("[EmbeddingDistillation alone]")
    assert said["with_baseline"].endswith("[Distillation and LanguageDistillation alone]")
    assert "[" not in said["seed"].replace("[0 <= x <= 4,294,967,295]", "")
    labels = (settings.Finetuning, settings.Finetuning.__dataclass_fields__["labels"])
    assert annotation("labels", [labels], 1) == "str | list[str] | tuple[str, ...] | None"


def test_completion_lists_the_api_and_waits_for_no_torch() -> None:
    code = (
        "import sys, inspect, contrastill\n"
        "assert dir(contrastill) == sorted([*contrastill.__all__, '__version__'])\n"
        "assert 'learning_rate' in inspect.signature(contrastill.distill).parameters\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SAMPLE = """
import contrastill
run = contrastill.distill(teacher="runs/teacher", out="runs/student", method="kd", learning_rate=1e-4)
print(run.metrics, run.folder.name)
contrastill.distill(teacher="t", out="o", lerning_rate=1e-4)
contrastill.finetune(model="m", data="d", out="o", epochs="three")
contrastill.finetune(model="m", data="d", out="o", precision="fp16")
contrastill.finetune(model="m", data="d")
contrastill.distil(teacher="t", out="o")
"""


def test_mypy_finds_a_setting_that_is_misspelt_mistyped_or_missing(tmp_path: Path) -> None:
    """Of the stub alone: torch and pandas take minutes to read."""
    pytest.importorskip("mypy")
    (tmp_path / "sample.py").write_text(SAMPLE)
    (tmp_path / "contrastill").mkdir()
    shutil.copy(STUB, tmp_path / "contrastill")
    words = ["--config-file=", "--ignore-missing-imports", "--no-site-packages", f"--cache-dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, "sample.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    lines = [line.partition("sample.py:")[2] for line in done.stdout.splitlines() if "error:" in line]
    assert [line.partition(":")[0] for line in lines] == ["5", "6", "7", "8", "9"], done.stdout + done.stderr
    assert 'Unexpected keyword argument "lerning_rate" for "distill"; did you mean "learning_rate"?' in lines[0]
    assert '"epochs" to "finetune" has incompatible type "str"' in lines[1]
    assert "Literal['auto', 'bf16', 'fp32']" in lines[2]
    assert 'Missing named argument "out"' in lines[3]
