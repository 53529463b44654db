"""The question that a language model is asked about a text: its classes, their codes, the template, examples."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contrastill.data.files import open_text
from contrastill.data.records import Records
from contrastill.errors import UserError, quoted, quoted_each
from contrastill.settings import Labelling

__all__ = ["PAIRS", "SINGLE", "Question", "Texts", "codes_of", "read_classes", "read_question"]

Texts = str | tuple[str, str]

SINGLE = """\
Which of these classes does the text belong to?

{labels}
{examples}
<text>
{text}
</text>"""
PAIRS = """\
Which of these classes does this pair of texts belong to?

{labels}
{examples}
<text>
{text}
</text>
<text>
{text_pair}
</text>"""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PLACE = re.compile(r"\{(\w+)\}")
MOST = 1000
"""Classes of a question; tokens that carry probabilities are 20, and a prompt has to hold every class."""


def codes_of(count: int) -> tuple[str, ...]:
    """The codes of `count` classes: letters, else numbers of equal width. None begins another."""
    if count <= len(LETTERS):
        return tuple(LETTERS[:count])
    return tuple(f"{n:0{len(str(count))}d}" for n in range(1, count + 1))


@dataclass(frozen=True)
class Question:
    """A question about a text.

    classes: name -> meaning, "" where none is given. examples: texts and their class. repeats: how often it is asked
    about each text; the order of the classes moves on from one time to the next where codes are asked for.
    """

    template: str
    classes: dict[str, str]
    examples: tuple[tuple[Texts, str], ...] = ()
    repeats: int = 1

    def codes(self, turn: int) -> dict[str, str]:
        """Code -> class, the turn's first class first."""
        names = list(self.classes)
        first = turn * len(names) // self.repeats
        return dict(zip(codes_of(len(names)), [*names[first:], *names[:first]], strict=True))

    def words(self, texts: Texts, turn: int = 0, *, coded: bool) -> str:
        """The question in full. coded: the answer is a code, else a name."""
        codes = {name: code for code, name in self.codes(turn if coded else 0).items()}

        def listed(name: str) -> str:
            meaning = f": {self.classes[name]}" if self.classes[name] else ""
            return (f"{codes[name]}. {name}" if coded else f"- {name}") + meaning

        shown = [*(f"{tagged(example)}\nClass: {codes[name] if coded else name}\n" for example, name in self.examples)]
        first, second = (texts, "") if isinstance(texts, str) else texts
        parts = {
            "labels": "\n".join(listed(name) for name in codes),
            "examples": "\n".join(["", "Examples:", *shown]) if shown else "",
            "text": first,
            "text_pair": second,
        }
        return PLACE.sub(lambda place: parts[place[1]], self.template) + "\n\n" + self.instruction(coded)

    def instruction(self, coded: bool) -> str:
        if not coded:
            return "Answer with the name of one class, as it is written above, and nothing else."
        noun = "letter" if len(self.classes) <= len(LETTERS) else "number"
        return f"Answer with the {noun} of one class, as it is written above, and nothing else."


def tagged(texts: Texts) -> str:
    return "\n".join(f"<text>\n{text}\n</text>" for text in ((texts,) if isinstance(texts, str) else texts))


# ---- from the user's files


def read_question(asked: Labelling) -> Question:
    """The question that the settings describe.

    Raises:
        UserError: no classes, a file that cannot be read, a template without the places that it needs.
    """
    classes = read_classes(asked.labels)
    usual = SINGLE if asked.text_pair is None else PAIRS
    template = usual if asked.prompt is None else read_template(asked.prompt, asked)
    examples = () if asked.examples is None else read_examples(asked.examples, asked, classes)
    return Question(template, classes, examples, asked.repeats)


def read_classes(labels: Sequence[str] | None) -> dict[str, str]:
    """Class -> its meaning, of names, or of one file with a name a line and perhaps a meaning behind a tab.

    Raises:
        UserError: no such file, fewer than two classes, one twice, too many.
    """
    if labels is None:
        raise UserError("missing --labels: the names of the classes, once for each, or a file with a name a line")
    where, found = "--labels", [(name.strip(), "") for name in labels]
    if len(labels) == 1:
        where = labels[0]
        try:
            lines = [line.strip() for line in open_text(Path(where), "utf-8").lines()]
        except UserError as error:
            raise UserError(
                f"--labels: expected two names or more, or a file of them; {quoted(where)} is no such file ({error})"
            ) from None
        parts = (line.partition("\t") for line in lines if line)
        found = [(name.strip(), meaning.strip()) for name, _, meaning in parts]
    names = [name for name, _ in found]
    if twice := [name for name in names if names.count(name) > 1][:1]:
        raise UserError(f"{where}: expected each class once, got {quoted(twice[0])} twice; leave the second out")
    if not 2 <= len(names) <= MOST:
        raise UserError(f"{where}: expected 2 to {MOST:,} classes, got {len(names):,}; a line is a class")
    return dict(found)


def read_template(path: str, asked: Labelling) -> str:
    template = "".join(open_text(Path(path), "utf-8").lines()).strip()
    wanted = ["labels", "text", *(["text_pair"] if asked.text_pair is not None else [])]
    wanted += ["examples"] if asked.examples is not None else []
    places = PLACE.findall(template)
    known = dict.fromkeys([*wanted, "examples"])
    if unknown := [f"{{{place}}}" for place in places if place not in known]:
        raise UserError(
            f"{path}: expected no places but {', '.join(f'{{{name}}}' for name in known)}, got {quoted_each(unknown)}; "
            "correct or remove it"
        )
    if missing := [f"{{{name}}}" for name in wanted if name not in places]:
        raise UserError(f"{path}: expected {', '.join(missing)} in the question, got none; add it")
    return template


def read_examples(path: str, asked: Labelling, classes: dict[str, str]) -> tuple[tuple[Texts, str], ...]:
    rows = Records.of(
        path,
        text=asked.text,
        text_pair=asked.text_pair,
        keep=["label"],
        encoding=asked.encoding,
        delimiter=asked.delimiter,
    )
    found = [(row.number, row.texts, row.kept["label"]) for row in rows]
    for number, _, name in found:
        if name not in classes:
            raise UserError(
                f"{path}, {rows.unit} {number}: expected one of the classes {quoted_each(classes)} in column 'label', "
                f"got {quoted(name)}; correct the row"
            )
    return tuple((texts, name) for _, texts, name in found)
