"""Builds the site: python -m website.build. `--fill` writes the generated parts that docs/ holds, and builds nothing.

Needs `pip install '.[docs]'`. It reads this repository alone and uses no network; the site asks nothing from elsewhere.
"""

import argparse
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from website.llms import write_llms
from website.pages import DOCS, ROOT, filled, stage
from website.reference import GENERATORS

BUILD = ROOT / "build"
STAGED, SITE, SETTINGS = BUILD / "docs", BUILD / "site", ROOT / "website" / "zensical.toml"
KEPT = ("method", "measured")  # generated parts that docs/ holds too, for readers on the forge; a test compares them


def fill() -> list[Path]:
    """Writes the kept parts anew; the pages that changed."""
    changed = []
    for page in sorted(DOCS.rglob("*.md")):
        old = page.read_text("utf-8")
        if (new := kept(old)) != old:
            page.write_text(new, encoding="utf-8")
            changed.append(page)
    return changed


def kept(text: str) -> str:
    """The page with the parts anew that docs/ holds."""

    def again(name: str, argument: str) -> str:
        marker = f"<!-- generated: {name} {argument}".rstrip() + " -->"
        return f"{marker}\n{GENERATORS[name](argument).strip()}\n<!-- end of generated -->"

    return filled(text, {name: lambda argument, name=name: again(name, argument) for name in KEPT})


def build() -> None:
    with SETTINGS.open("rb") as file:
        settings = tomllib.load(file)["project"]
    pages = stage(STAGED, GENERATORS)
    shutil.copy(ROOT / "website" / "site.css", STAGED)
    write_llms(STAGED, settings, pages)
    copied = shutil.copy(SETTINGS, BUILD)
    made = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", copied])
    if made.returncode:
        sys.exit(made.returncode)
    print(f"{len(pages)} pages: {SITE.relative_to(ROOT)}/index.html")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fill", action="store_true", help="write the generated parts that docs/ holds, build nothing")
    if parser.parse_args().fill:
        print("\n".join(str(page.relative_to(ROOT)) for page in fill()) or "all parts are as the code has them")
    else:
        build()
