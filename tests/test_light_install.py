"""`pip install 'contrastill[serve]'`: what runs a bundle, in a Python that lacks all that training needs."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from contrastill.errors import TRAINING

ROOT = Path(__file__).parents[1]
SEEING = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests" / "serving"), *sys.path])}
LIGHT = """
import sys
from importlib.abc import MetaPathFinder
class Lacking(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in TRAINING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Lacking())
""".replace("TRAINING", repr(TRAINING | {"openvino", "sentence_transformers", "onnx"}))
COMMANDS = """
import contextlib, io, json, sys
from contrastill import cli
for line in json.load(sys.stdin):
    out, sys.argv = io.StringIO(), ["contrastill", *line]
    try:
        with contextlib.redirect_stdout(out):
            cli.main()
        code = 0
    except SystemExit as end:
        code = end.code
    print(json.dumps([code, out.getvalue()]))
"""


def light(code: str, given: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", LIGHT + code]
    return subprocess.run(words, input=given, env=SEEING, capture_output=True, text=True, timeout=120)


CLASSES = ["--labels", "good", "--labels", "bad", "--endpoint", "http://localhost:9/v1"]
WRITE = """
import json, sys
from pathlib import Path
from contrastill.exporting.probes import Probes, answered
from contrastill.seal import SEAL, seal_of
from serving import write_bundle
folder = write_bundle(Path(sys.argv[1]), "classification")
metadata = json.loads((folder / "bundle.json").read_text())
metadata["probes"] = answered(folder, Probes(["good word", "bad word"], "by hand"))
(folder / "bundle.json").write_text(json.dumps(metadata | {SEAL: seal_of(metadata)}))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("light") / "bundle"
    done = subprocess.run([sys.executable, "-c", WRITE, folder], env=SEEING, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_bundle_is_run_checked_and_asked_without_the_packages_for_training(bundle: Path, tmp_path: Path) -> None:
    texts, out = tmp_path / "texts.txt", tmp_path / "answers.csv"
    texts.write_text("good word\nbad word\n")
    commands = [
        ["--help"],
        ["distill", "--help"],
        ["predict", bundle, "--data", texts, "--out", out],
        ["verify", bundle],
        ["label", "--data", texts, *CLASSES, "--model", "m", "--out", tmp_path / "labels.jsonl", "--dry-run"],
        ["serve", "nowhere", "--port", "0"],
        ["verify", bundle, "--data", texts],
        ["finetune", "--model", "m", "--data", texts, "--out", tmp_path / "run"],
        ["compare", tmp_path],
        ["methods"],
    ]
    done = light(COMMANDS, json.dumps(commands, default=str))
    assert done.returncode == 0, done.stderr
    codes = [json.loads(line)[0] for line in done.stdout.splitlines()]
    assert "Traceback" not in done.stderr
    assert codes == [0, 0, 0, 0, 0, 2, 2, 2, 2, 2], done.stderr
    assert len(out.read_text().splitlines()) == 3
    assert done.stderr.count("pip install 'contrastill[train]'") == 4
    assert not (tmp_path / "run").exists()


def test_python_names_what_is_missing_and_the_light_names_work(bundle: Path) -> None:
    done = light(
        "import contrastill\n"
        "from contrastill import Finetuning, Serving, UserError, predict, serve, verify\n"
        "from contrastill.bundle import open_bundle\n"
        f"print(len(open_bundle({str(bundle)!r}).run(['good word'])))\n"
        "try:\n    contrastill.distill(teacher='teacher', data='rows.csv', out='run')\n"
        "except ModuleNotFoundError as error:\n    print(error)\n"
    )
    assert done.returncode == 0, done.stderr
    count, said = done.stdout.splitlines()
    assert count == "1"
    assert said.startswith("contrastill.distill: this needs the packages for training (No module named ")
    assert said.endswith("): pip install 'contrastill[train]'")


def test_extras_that_train_bring_what_training_needs_and_serve_does_not() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {name: [Requirement(line) for line in lines] for name, lines in project["optional-dependencies"].items()}
    modules = {"scikit-learn": "sklearn"}

    def packages(extra: str) -> set[str]:
        own = {each.name for each in extras[extra] if each.name != "contrastill"}
        return own.union(
            *(packages(name) for each in extras[extra] if each.name == "contrastill" for name in each.extras)
        )

    assert {modules.get(name, name) for name in packages("train")} <= TRAINING
    heavy = packages("train")
    for extra in ("all", "embeddings", "adapters", "mteb", "demo", "export", "dev"):
        assert heavy <= packages(extra), extra
    light = {Requirement(line).name for line in project["dependencies"]} | packages("serve") | packages("openvino")
    assert not light & heavy
