"""The pages: every link leads somewhere, generated parts are fresh, and what they quote still stands in the code."""

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import contrastill
from contrastill.cli import app
from contrastill.methods import METHODS
from contrastill.studies import banking77

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from website import build, figure, llms, pages, reference  # noqa: E402

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OUTSIDE = [
    ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "examples/README.md")
]
SETTINGS = tomllib.loads((ROOT / "website" / "zensical.toml").read_text("utf-8"))["project"]


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("site") / "docs"
    llms.write_llms(to, SETTINGS, pages.stage(to, reference.GENERATORS))
    return to


# ---- links


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as the forge and the site make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in plain}


def lost(page: Path) -> Iterator[str]:
    """The links of a page that lead to no file, to no heading of it, or by a command's name to a page without it."""
    text = pages.FENCE.sub("", page.read_text("utf-8"))
    for start, target, _ in pages.LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        command = re.search(r"`(contrastill [a-z]+)", start)
        if (
            not there.exists()
            or (anchor and there.suffix == ".md" and anchor not in slugs(there))
            or (command and there.suffix == ".md" and command[1] not in there.read_text("utf-8"))
        ):
            yield target


@pytest.mark.parametrize("page", [*PAGES, *OUTSIDE], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert list(lost(page)) == []


def test_a_lost_link_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One two\n[a](page.md#one-two) [b](page.md#three) [`contrastill serve`](two.md) [c](none.md)\n")
    (tmp_path / "two.md").write_text("Of `contrastill study`: [`contrastill study --seeds`](two.md).\n")
    assert list(lost(page)) == ["page.md#three", "two.md", "none.md"]
    assert list(lost(tmp_path / "two.md")) == []
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"page\.md: the link to none\.md leads nowhere"):
        pages.stage(tmp_path / "to", {})


# ---- the site


def test_each_page_is_in_the_navigation_and_each_entry_a_page(staged: Path) -> None:
    entries = [place for place, _ in llms.in_order(SETTINGS["nav"])]
    assert [place for place in entries if not (staged / place).is_file()] == []
    there = {path.relative_to(staged).as_posix() for path in staged.rglob("*.md")}
    listed = {place for place in there if place.startswith(("repository/", "decisions/0"))}
    assert there - listed == set(entries)
    assert len(entries) == len(set(entries))


def test_links_out_of_docs_stay_in_the_site(staged: Path) -> None:
    for page in staged.rglob("*.md"):
        for _, target, _ in pages.LINK.findall(pages.FENCE.sub("", page.read_text("utf-8"))):
            path = target.partition("#")[0]
            if path and not target.startswith(("http://", "https://", "mailto:")):
                assert (page.parent / path).resolve().is_relative_to(staged.resolve()), (page, target)
                assert (page.parent / path).exists(), (page, target)


def test_llms_txt_lists_each_page_with_a_sentence(staged: Path) -> None:
    index, whole = ((staged / name).read_text("utf-8") for name in ("llms.txt", "llms-full.txt"))
    lines = re.findall(r"^- \[(.+?)\]\((.+?)\): (.+)$", index, re.MULTILINE)
    entries = [place for place, _ in llms.in_order(SETTINGS["nav"])]
    decided = [f"decisions/{path.name}" for path in sorted((DOCS / "decisions").glob("0*.md"))]
    assert [place for _, place, _ in lines] == [*entries, *decided]
    assert all(f"<!-- {place} -->" in whole for place in entries)
    assert "pulled towards the matching teacher layer" in whole


def test_the_site_asks_for_nothing_from_elsewhere() -> None:
    assert SETTINGS["theme"]["font"] is False
    assert not any(value.startswith("http") for value in SETTINGS.get("extra_css", []))
    assert "extra_javascript" not in SETTINGS


# ---- what is generated


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_generated_parts_are_fresh(page: Path) -> None:
    text = page.read_text("utf-8")
    assert build.kept(text) == text, "run python -m website.build --fill"
    assert all(found[1].split()[0] in reference.GENERATORS for found in pages.GENERATED.finditer(text))
    assert text.count("<!-- generated: ") == len(pages.GENERATED.findall(text))


def test_a_stale_part_would_be_seen() -> None:
    text = (DOCS / "methods" / "kd.md").read_text("utf-8").replace("`2.0`", "`3.0`")
    assert build.kept(text) != text


def test_the_figure_shows_what_the_demo_found() -> None:
    summary = json.loads(figure.RESULT.read_text("utf-8"))
    drawn = figure.drawing(summary)
    assert figure.FIGURE.read_text("utf-8") == drawn, "run python -m website.figure"
    assert len(figure.points(summary)) == 4
    summary["rows"][0]["accuracy"] += 0.01
    assert figure.drawing(summary) != drawn


def test_the_reference_has_each_command_with_each_option(staged: Path) -> None:
    page = (staged / "reference" / "cli.md").read_text("utf-8")
    for path, command in reference.commands(typer.main.get_command(app), ()):
        name = " ".join(path).split(" ")[0] if command.hidden else " ".join(path)
        section = page.split(f"\n## {name}", 1)[1]
        for option in command.params:
            if option.param_type_name == "option" and not option.hidden and option.name != "help":
                assert f"`{option.opts[0]}`" in section, (name, option.name)
    assert "## distill (`EmbeddingDistillation`)" in page


def test_the_reference_has_each_public_name(staged: Path) -> None:
    page = (staged / "reference" / "python.md").read_text("utf-8")
    assert [name for name in contrastill.__all__ if f"\n### `{name}`\n" not in page] == []
    assert "| `max_length` |" in page


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_a_page(name: str) -> None:
    text = (DOCS / "methods" / f"{name}.md").read_text("utf-8")
    for heading in ("Equation", "When to use it", "Command", "Stages and settings", "Measurements"):
        assert f"\n## {heading}\n" in text
    assert f"<!-- generated: method {name} -->" in text
    assert f"<!-- generated: measured {name} -->" in text
    assert f"({name}.md)" in (DOCS / "methods" / "README.md").read_text("utf-8")


# ---- what is quoted


def templates() -> list[str]:
    """Every text of the source; … for what is filled in."""

    def text_of(node: ast.AST) -> str | None:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return re.sub(r"%(\.\d)?[a-z%]", "…", node.value)
        if isinstance(node, ast.JoinedStr):
            return "".join(text_of(part) or "…" for part in node.values)
        if isinstance(node, ast.BinOp):
            return (text_of(node.left) or "…") + (text_of(node.right) or "…")
        return None

    files = sorted((ROOT / "src").rglob("*.py"))
    found = (text_of(node) for path in files for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return [text for text in found if text]


def quoted_messages() -> list[str]:
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    return re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)


def stands(message: str, known: list[str]) -> bool:
    """Whether the pieces between … follow each other in one text of the source."""
    pieces = [piece.strip() for piece in message.split("…") if piece.strip(" ().:,;")]
    return any(in_order(pieces, text) for text in known)


def in_order(pieces: list[str], text: str) -> bool:
    place = 0
    for piece in pieces:
        place = text.find(piece, place)
        if place < 0:
            return False
        place += len(piece)
    return True


def test_each_quoted_message_still_stands_in_the_source() -> None:
    known, quoted = templates(), quoted_messages()
    assert len(quoted) >= 50
    assert [message for message in quoted if not stands(message, known)] == []
    assert not stands("expected a gearbox, got …", known)


# ---- README


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def rows_of(text: str) -> list[dict[str, str]]:
    """The rows of the first table whose first column is `model`."""
    table = text[text.index("| model |") :].split("\n\n")[0]
    head, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def test_the_readme_shows_rows_of_the_demo() -> None:
    page = banking77.markdown(json.loads((ROOT / "demo" / "result.json").read_text("utf-8")))
    found = rows_of(page)
    shown = rows_of((ROOT / "README.md").read_text("utf-8"))
    assert len(shown) == 4
    for row in shown:
        match = next(one for one in found if one["model"] == row["model"])  # the first: of the student on all texts
        assert row == {name: match[name] for name in row}
