"""Each script of examples/ runs, at tiny size, in a folder of its own."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(ROOT / "tests" / "training"))

from workshop import FILLERS, Workshop, write_csv  # noqa: E402


@pytest.fixture(scope="module")
def workshop(shared_folder: Path) -> Workshop:
    return Workshop(shared_folder / "workshop")


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, workshop: Workshop):
    """`ran("02_distill.py", "a", "b")`: the script with these arguments, in one folder for all."""
    place = tmp_path_factory.mktemp("examples")

    def run(name: str, *arguments: object) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(place)
            patch.setattr(sys, "argv", [name, *map(str, arguments)])
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return place

    return run


def test_the_loop_without_a_trainer_is_short_and_lowers_the_loss(ran, workshop: Workshop, capsys) -> None:
    code = (EXAMPLES / "01_loop.py").read_text().split('"""')[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= 40
    place = ran("01_loop.py", workshop.teacher(), workshop.data())
    said = capsys.readouterr().out
    assert "representation" in said
    assert "joint" in said
    assert (place / "runs/loop/model.safetensors").is_file()


def test_a_teacher_and_a_student(ran, workshop: Workshop, capsys) -> None:
    place = ran("02_distill.py", workshop.encoder(), workshop.data(), "runs/example")
    assert "of the teacher's accuracy kept" in capsys.readouterr().out
    assert (place / "runs/example/student/report.html").is_file()


def test_a_method_of_ones_own(ran, workshop: Workshop) -> None:
    place = ran("03_own_method.py", workshop.teacher(), workshop.data(), "runs/own")
    assert '"layer"' in (place / "runs/own/log.jsonl").read_text()


def test_embeddings_in_two_stages(ran, workshop: Workshop, tmp_path: Path, capsys) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    encoder = Transformer(str(workshop.encoder()), max_seq_length=32)
    SentenceTransformer(modules=[encoder, Pooling(32, pooling_mode="mean")], device="cpu").save(
        str(tmp_path / "teacher")
    )
    lines = [" ".join(FILLERS[(n * k) % 60] for k in (1, 3, 7, 11)) + f" {FILLERS[n % 60]}" for n in range(200)]
    (tmp_path / "texts.txt").write_text("\n".join(dict.fromkeys(lines)))
    pairs = [{"anchor": line, "positive": " ".join(reversed(line.split()))} for line in dict.fromkeys(lines[:64])]
    write_csv(tmp_path / "pairs.csv", pairs)
    place = ran(
        "04_embeddings.py", tmp_path / "teacher", tmp_path / "texts.txt", tmp_path / "pairs.csv", "runs/vectors"
    )
    assert "second texts found, before and after: {'before'" in capsys.readouterr().out
    assert (place / "runs/vectors/contrast/model/modules.json").is_file()


def test_a_bundle_its_answers_and_a_server(ran, workshop: Workshop, tmp_path: Path, capsys) -> None:
    import socket

    run = workshop.distill(tmp_path / "run", epochs=1, checks=1)
    (tmp_path / "texts.txt").write_text("the soup and the song\nword1 word2\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ran("05_export_and_serve.py", run.folder, tmp_path / "texts.txt", port)
    said = capsys.readouterr().out
    assert "problems: none" in said
    assert said.count("'label'") == 2
    assert len((place / "runs/answers.jsonl").read_text().splitlines()) == 2
    shutil.rmtree(place / "runs/answers.jsonl", ignore_errors=True)


def test_a_study_of_two_methods_at_two_seeds(ran, workshop: Workshop, capsys) -> None:
    place = ran("06_study.py", workshop.teacher(), workshop.data(), "runs/study.json")
    said = capsys.readouterr().out
    assert "| variant | seeds | accuracy on dev |" in said
    assert "best on dev:" in said
    rows = json.loads((place / "runs/study.json").read_text())["rows"]
    assert sorted((row["name"], row["seed"]) for row in rows) == [
        ("labels alone", 0), ("labels alone", 1), ("lrc_bert", 0), ("lrc_bert", 1),
    ]  # fmt: skip
    assert len((EXAMPLES / "06_study.py").read_text().splitlines()) <= 60


def test_every_script_is_listed_and_run_here() -> None:
    scripts = sorted(path.name for path in EXAMPLES.glob("*.py"))
    assert len(scripts) >= 6
    listed, here = (EXAMPLES / "README.md").read_text(), Path(__file__).read_text()
    assert [name for name in scripts if name not in listed or f'"{name}"' not in here] == []
