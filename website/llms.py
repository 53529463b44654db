"""llms.txt, an index of the pages with the first sentence of each, and llms-full.txt, their whole text."""

import re
from pathlib import Path
from typing import Any

SKIPPED = ("repository/",)  # files of the repository that pages link to


def write_llms(staged: Path, settings: dict[str, Any], pages: list[Path]) -> None:
    """Writes both files beside the pages, in the order of the site's navigation."""
    named = dict(in_order(settings["nav"]))
    title = f"# {settings['site_name']}\n\n> {settings['site_description']}\n"
    index, whole, section = [title], [title], ""
    for place, group in named.items():
        text = (staged / place).read_text("utf-8")
        if group != section:
            index.append(f"\n## {group}\n" if section or group else "")
            section = group
        index.append(f"- [{heading(text)}]({place}): {first_sentence(text)}")
        whole.append(f"\n<!-- {place} -->\n\n{text}")
    left = [path.relative_to(staged).as_posix() for path in pages]
    left = [place for place in left if place not in named and not place.startswith(SKIPPED)]
    if decisions := [place for place in left if place.startswith("decisions/")]:
        index.append("\n## Optional\n")
        for place in decisions:
            text = (staged / place).read_text("utf-8")
            index.append(f"- [{heading(text)}]({place}): {first_sentence(text)}")
    (staged / "llms.txt").write_text("\n".join(index) + "\n", encoding="utf-8")
    (staged / "llms-full.txt").write_text("\n".join(whole), encoding="utf-8")


def in_order(nav: list[Any], section: str = "") -> list[tuple[str, str]]:
    """(page, section) of the navigation, in its order."""
    found: list[tuple[str, str]] = []
    for entry in nav:
        if isinstance(entry, str):
            found.append((entry, section))
            continue
        for name, target in entry.items():
            found += [(target, section)] if isinstance(target, str) else in_order(target, name)
    return found


def heading(text: str) -> str:
    found = re.search(r"^# (.+)$", text, re.MULTILINE)
    return found[1].replace("`", "") if found else ""


def first_sentence(text: str) -> str:
    """That of the first paragraph below the heading, else of the first list, without links and marks."""
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n", text.partition("\n")[2])]
    lines = [block for block in blocks if block and not block.startswith(("#", "|", "```", "<", "!"))]
    for line in sorted(lines, key=lambda line: line.startswith(("- ", "* "))):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line.lstrip("-* ")).replace("`", "").replace("**", "")
        return re.split(r"(?<=[.]) ", plain.removeprefix("Decided. "))[0].rstrip(":")
    return ""
