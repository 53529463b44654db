"""Stages the site's pages: docs/ as it is, with generated parts filled in and links out of docs/ kept working."""

import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\]\()([^)\s]+)(\))")
GENERATED = re.compile(r"<!-- generated: ([a-z_ -]+) -->\n(.*?)<!-- end of generated -->\n", re.DOTALL)
FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)
ELSEWHERE = ("http://", "https://", "mailto:", "#")


def stage(to: Path, generators: Mapping[str, Callable[[str], str]]) -> list[Path]:
    """Writes every page below `to` and returns them, in order of their paths.

    A page of docs/ keeps its path; a file outside docs/ to which a page links goes to repository/, and if it is a page
    its own links are followed. generators: what fills `<!-- generated: NAME ARGUMENT -->`.
    """
    shutil.rmtree(to, ignore_errors=True)
    waiting = [path for path in sorted(DOCS.rglob("*")) if path.is_file()]
    done: dict[Path, Path] = {}
    while waiting:
        source = waiting.pop(0)
        if source in done:
            continue
        done[source] = place = to / place_of(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".ipynb":
            text = notebook_page(source)
        elif source.suffix == ".md":
            text = source.read_text("utf-8")
        else:
            shutil.copyfile(source, place)
            continue
        place.write_text(relinked(as_shell(filled(text, generators)), source, waiting), encoding="utf-8")
    return sorted(path for path in done.values() if path.suffix == ".md")


def place_of(source: Path) -> PurePosixPath:
    """Where a file of the repository lies in the site."""
    inside = source.is_relative_to(DOCS)
    place = PurePosixPath(source.relative_to(DOCS if inside else ROOT).as_posix())
    if place.suffix == ".ipynb":
        place = place.with_suffix(".md")
    return place if inside else PurePosixPath("repository") / place


def relinked(text: str, source: Path, waiting: list[Path]) -> str:
    """The page's text with each link to a file as it is in the site; files that it links to join `waiting`."""
    here = place_of(source).parent

    def link(found: re.Match[str]) -> str:
        before, target, after = found.groups()
        if target.startswith(ELSEWHERE):
            return found[0]
        path, hash_, anchor = target.partition("#")
        there = (source.parent / path).resolve()
        if there.is_dir():
            there /= "README.md"
        if not there.is_file():
            sys.exit(f"{source.relative_to(ROOT)}: the link to {path} leads nowhere")
        waiting.append(there)
        return f"{before}{between(here, place_of(there))}{hash_}{anchor}{after}"

    parts = FENCE.split(text)
    return "".join(part if n % 2 else LINK.sub(link, part) for n, part in enumerate(parts))


def as_shell(text: str) -> str:
    """Console blocks without a prompt as shell code: else all of it would be coloured as output."""
    return FENCE.sub(
        lambda found: found[0] if "\n$ " in found[0] else found[0].replace("```console", "```bash", 1), text
    )


def between(folder: PurePosixPath, place: PurePosixPath) -> str:
    """The relative path from a folder of the site to a place in it."""
    ups, parts = list(folder.parts), list(place.parts)
    while ups and len(parts) > 1 and ups[0] == parts[0]:
        ups.pop(0)
        parts.pop(0)
    return "/".join([*[".."] * len(ups), *parts])


def filled(text: str, generators: Mapping[str, Callable[[str], str]]) -> str:
    """The page's text with its generated parts made anew."""

    def fill(found: re.Match[str]) -> str:
        name, _, argument = found[1].partition(" ")
        return generators[name](argument).strip() + "\n" if name in generators else found[0]

    return GENERATED.sub(fill, text)


def notebook_page(path: Path) -> str:
    """A notebook as a page: its text, its code, and what the code printed."""
    parts = []
    for cell in json.loads(path.read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = "".join("".join(out.get("text", [])) for out in cell["outputs"])
        if printed.strip():
            parts.append(f"```text\n{printed.rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
