"""A name on the Hub: which revision is asked for, and by whom the Hub is asked at all."""

import ast
from pathlib import Path
from typing import Any

import pytest
import sentence_transformers
import transformers

import contrastill
from contrastill.errors import UserError
from contrastill.loading import load_classifier, load_embedder, load_encoder, load_tokenizer, locate, place

PACKAGE = Path(contrastill.__file__).parent
OPEN = {"from_pretrained", "SentenceTransformer", "CrossEncoder", "SparseEncoder", "pipeline", "hf_hub_download"}
OURS = {  # what is not a model of the user's
    ("training/embeddings.py", "SentenceTransformer"),  # modules that are in memory, to be saved
}


@pytest.mark.parametrize(
    ("name", "source", "revision"),
    [
        ("bert-base-uncased", "bert-base-uncased", None),
        ("org/name", "org/name", None),
        ("org/name@v1.2", "org/name", "v1.2"),
        ("org/name@refs/pr/3", "org/name", "refs/pr/3"),
    ],
)
def test_a_revision_stands_behind_an_at_sign(
    monkeypatch: pytest.MonkeyPatch, name: str, source: str, revision: str | None
) -> None:
    monkeypatch.setattr(place.Place, "file", lambda self, name: None)
    found = locate(name)
    assert (found.name, found.source, found.revision) == (name, source, revision)


def test_no_revision_behind_an_at_sign_is_refused_and_a_folder_of_that_name_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="expected a revision"):
        locate("org/name@")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine@2").mkdir()
    (tmp_path / "mine@2/config.json").write_text("{}")
    assert (locate("mine@2").folder, locate("mine@2").revision) == (Path("mine@2"), None)


class Asked(Exception):
    pass


@pytest.mark.parametrize("opened", [load_tokenizer, load_classifier, load_encoder, load_embedder])
def test_everything_is_asked_of_the_revision_and_without_code(monkeypatch: pytest.MonkeyPatch, opened: Any) -> None:
    asked: list[dict[str, Any]] = []

    def from_pretrained(source: str, *args: Any, **options: Any) -> Any:
        asked.append({"source": source, **options})
        if len(asked) == (2 if opened in (load_classifier, load_encoder) else 1):
            raise Asked
        return transformers.BertConfig()

    def cached_file(source: str, name: str, **options: Any) -> None:
        asked_files.append((source, options["revision"]))

    asked_files: list[tuple[str, str]] = []
    for kind in ("AutoTokenizer", "AutoConfig", "AutoModel", "AutoModelForSequenceClassification"):
        monkeypatch.setattr(getattr(transformers, kind), "from_pretrained", from_pretrained)
    monkeypatch.setattr(sentence_transformers, "SentenceTransformer", from_pretrained)
    monkeypatch.setattr("transformers.utils.cached_file", cached_file)
    with pytest.raises(UserError, match="org/name@v2"):
        opened("org/name@v2")
    assert {(one["source"], one["revision"], one["trust_remote_code"]) for one in asked} == {("org/name", "v2", False)}
    assert set(asked_files) == {("org/name", "v2")}


def calls() -> list[tuple[str, str, ast.Call]]:
    """(file, function, call) of each call in the package that opens a model."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in OPEN:
                    found.append((path.relative_to(PACKAGE).as_posix(), name, node))
    return found


def test_models_are_opened_in_one_room_and_never_with_their_code() -> None:
    inside = [(file, call) for file, name, call in calls() if file.startswith("loading/")]
    assert {(file, name) for file, name, _ in calls() if not file.startswith("loading/")} == OURS
    assert len(inside) >= 5
    for file, call in inside:
        if file == "loading/adapters.py":
            continue  # peft's weights onto a model that is loaded already: it has no such option
        [code] = [word.value for word in call.keywords if word.arg == "trust_remote_code"]
        assert isinstance(code, ast.Constant), f"{file}:{call.lineno}"
        assert code.value is False, f"{file}:{call.lineno}"
