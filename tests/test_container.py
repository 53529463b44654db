"""The container of `contrastill serve`: the Dockerfile as text, its locks, and what a server imports."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from fnmatch import fnmatch
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from contrastill.settings import Serving
from test_documented_commands import parsed

ROOT = Path(__file__).parents[1]
LOCKS = ("build.txt", "openvino.txt", "requirements.txt")


def steps(text: str) -> list[tuple[str, str]]:
    """Instruction and its argument, continued lines joined, comments gone."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in joined)]


STEPS = steps((ROOT / "Dockerfile").read_text("utf-8"))
LAST = STEPS[max(n for n, (word, _) in enumerate(STEPS) if word == "FROM") :]


def of(word: str, among: list[tuple[str, str]] = LAST) -> list[str]:
    return [rest for name, rest in among if name == word]


def locked(name: str) -> dict[str, tuple[str, list[str]]]:
    """Package -> its version and the hashes it may have."""
    text = (ROOT / "deploy" / name).read_text("utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {
        canonicalize_name(words[0].split("==")[0]): (
            words[0].split("==")[1],
            [word.removeprefix("--hash=") for word in words if word.startswith("--hash=")],
        )
        for words in lines
    }


def ignored(path: str) -> bool:
    """As .dockerignore has it: the last pattern that a path or a folder above it matches decides."""
    found = False
    for pattern in (ROOT / ".dockerignore").read_text("utf-8").split("\n"):
        if pattern and not pattern.startswith("#"):
            wanted = pattern.removeprefix("!").removeprefix("**/")
            parts = Path(path).parts
            names = parts if "**/" in pattern else ["/".join(parts[: n + 1]) for n in range(len(parts))]
            if any(fnmatch(name, wanted) for name in names):
                found = not pattern.startswith("!")
    return found


# ---- the Dockerfile


def test_each_base_is_pinned_to_a_python_and_a_release_of_its_system() -> None:
    bases = of("FROM", STEPS)
    assert len(bases) == 2
    for base in bases:
        assert re.fullmatch(r"python:3\.12-slim-[a-z]+( AS build)?", base)


def test_what_runs_is_nobody_in_particular() -> None:
    (user,) = of("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # numbers: Kubernetes' runAsNonRoot cannot judge a name
    assert of("STOPSIGNAL") == ["SIGTERM"]
    assert of("EXPOSE") == ["8000"]
    assert "PYTHONDONTWRITEBYTECODE=1" in of("ENV")[0]
    assert "ORT_DISABLE_TELEMETRY=1" in of("ENV")[0]


def test_the_entry_point_is_a_command_of_ours_without_a_shell() -> None:
    (entry,) = of("ENTRYPOINT")
    program, *words = json.loads(entry)
    assert program == "contrastill"
    options = parsed(words).params
    settings = Serving(**{name: value for name, value in options.items() if value is not None})
    assert (settings.bundle, settings.host, settings.port) == ("/bundle", "0.0.0.0", 8000)


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    sources = [word for rest in of("COPY", STEPS) if "--from" not in rest for word in rest.split()[:-1]]
    assert {"deploy", "src", "pyproject.toml", "README.md", "LICENSE"} == set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert not ignored(source)
    assert not ignored("src/contrastill/report/templates/run.html")
    for other in (".git", ".venv/bin/python", "demo/runs", "models", "tests", "src/contrastill/__pycache__/cli.pyc"):
        assert ignored(other), other


def test_pip_installs_by_hash_and_follows_no_dependency() -> None:
    runs = [command for rest in of("RUN", STEPS) for command in rest.split("&&") if re.search(r"\bpip\b", command)]
    installs = [run for run in runs if " install " in run or " wheel " in run]
    assert len(installs) == 4
    for run in installs:
        assert "--no-deps" in run
        assert ("--require-hashes" in run) != ("--no-index" in run)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (None, 1)])
def test_the_health_check_asks_the_server_and_no_proxy(status: int | None, code: int) -> None:
    (check,) = of("HEALTHCHECK")
    words = json.loads(check[check.index("[") :])
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status or 500)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        port = server.server_port
        if status is None:
            server.server_close()
        else:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        words = [sys.executable, *(word.replace("8000", str(port)) for word in words[2:])]
        proxied = {**os.environ, "http_proxy": "http://127.0.0.1:9"}
        ended = subprocess.run(words, env=proxied, capture_output=True, timeout=20)
        if status is not None:
            server.shutdown()
    assert ended.returncode == code, ended.stderr
    assert asked == ([] if status is None else ["/health"])


# ---- the locks


@pytest.mark.parametrize("name", LOCKS)
def test_every_entry_of_a_lock_has_a_version_and_hashes_and_no_address(name: str) -> None:
    entries = locked(name)
    assert entries
    for version, hashes in entries.values():
        assert Version(version)
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes)
    text = (ROOT / "deploy" / name).read_text("utf-8")
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted", text)
    assert "uv pip compile --universal --python-version 3.12 --generate-hashes" in text.splitlines()[1]


def test_locked_versions_are_those_that_pyproject_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    known = [Requirement(line) for line in project["dependencies"]]
    extras = [project["optional-dependencies"][extra] for extra in ("train", "serve", "openvino", "export")]
    known += [Requirement(line) for lines in extras for line in lines]
    served = {canonicalize_name(Requirement(line).name) for line in project["optional-dependencies"]["serve"]}
    for name in ("requirements.txt", "openvino.txt"):
        entries = locked(name)
        assert served <= entries.keys()
        for requirement in known:
            if canonicalize_name(requirement.name) in entries:
                assert entries[canonicalize_name(requirement.name)][0] in requirement.specifier
    assert "openvino" in locked("openvino.txt")


IMPORTED = """
import sys
import contrastill.cli, contrastill.serving.server
from contrastill.bundle import open_bundle
open_bundle(sys.argv[1])
try:
    contrastill.cli.app(["serve", "nowhere", "--port", "0"])
except SystemExit as end:
    assert end.code == 2, end.code
print(*{name.partition(".")[0] for name in sys.modules})
"""
"""The options are read too: typer imports what it reads them with only then."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    making = f"from pathlib import Path; from serving import write_bundle; write_bundle(Path({str(folder)!r}))"
    path = os.pathsep.join([str(ROOT / "tests" / "serving"), *sys.path])
    subprocess.run([sys.executable, "-c", making], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=60)
    return folder


def test_all_that_serving_imports_is_in_the_lock_and_nothing_of_training(bundle: Path, tmp_path: Path) -> None:
    quiet = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    quiet |= {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTED, bundle], env=quiet, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    owners = packages_distributions()
    modules = set(ended.stdout.split()) - set(sys.stdlib_module_names)
    packages = {canonicalize_name(owners[module][0]) for module in modules if module in owners}
    assert {"onnxruntime", "tokenizers", "uvicorn", "pydantic"} <= packages
    assert not packages & {"torch", "transformers", "pandas", "datasets", "scipy", "scikit-learn", "matplotlib", "onnx"}
    left_out = set((ROOT / "deploy" / "not-imported.txt").read_text("utf-8").split("\n")[1:]) - {""}
    assert not packages & left_out
    # setuptools comes by a .pth file of virtual environments; anyio takes sniffio where it lies about
    by_itself = {"contrastill", "setuptools", "sniffio"}
    assert packages - by_itself <= locked("requirements.txt").keys()
    assert not [path for path in tmp_path.rglob("*") if "Microsoft" in path.parts], "an id for reports of use"
