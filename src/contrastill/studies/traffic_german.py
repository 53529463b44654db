"""What German traffic reports say: an event's type by its trigger's stems, sentences, the words before a place.

Written from MobIE's dev split and general German; no word was taken from its test split.
"""

import re
from collections.abc import Sequence

__all__ = [
    "PARTICLE",
    "TYPES",
    "causal",
    "clause_cuts",
    "ends_range",
    "lead",
    "over",
    "place_role",
    "sentences",
    "type_of",
]

TYPES: tuple[tuple[str, str], ...] = (  # the first that is found; bare `aus`, `nicht`: particles, see PARTICLE
    ("RailReplacementService", r"ersatz|\bsev\b|notverkehr|bus\w* statt|durch bus\w* ersetzt"),
    ("CanceledStop", r"\bhalt\b|\bhalte\b|halten nicht|\bh[aä]lt nicht|zwischenhalt"),
    ("Accident", r"unf[aä]ll|kolli[ds]|zusammens?toss|zusammengesto|verletz|\btote|tödlich|stirbt|gestorben|\bcrash"),
    ("Accident", r"überschl|\bgetötet|\berfasst|bergungsarbeit|personenschaden|karambolage|auffahr"),
    ("TrafficJam", r"\bstau|stocken|zähfliess|zäh fliess"),
    ("Delay", r"verspät|verzöger|später|länger|wartezeit|verläng|mehr reisezeit|\bspät\b|taktlücke|verlangsam"),
    (
        "CanceledRoute",
        r"ausf[aä]ll|ausgefallen|gestrichen|\bf[aä]llt\b|\bfallen\b|entf[aä]ll|unterbr[eo]ch|eingestellt",
    ),
    ("CanceledRoute", r"\bkein[e]?\b.*(verkehr|zug|züge|bahn|fahrt)|(fuhr|fährt|fahren|verkehr\w*|hielt)\b.* nicht"),
    ("CanceledRoute", r"weiterfahrt nicht|zugverkehr|bahnverkehr"),
    (
        "Obstruction",
        r"sperr|umleit|umgeleit|umfahr|behinder|beeinträcht|einschr[aä]nk|eingeschr[aä]nk|blockier|\bdicht\b",
    ),
    ("Obstruction", r"baustelle|bauarbeit|baumassnahme|stör|spur(en)? frei|gleisänder|gleiswechsel"),
)
PARTICLE = re.compile(r"(aus|ein|nicht|eingestellt|unterbrochen)\W*", re.IGNORECASE)
"""A trigger that is the rest of the one before it: `fällt … aus`, `Zugverkehr … eingestellt`."""

_TYPES = [(name, re.compile(stems)) for name, stems in TYPES]
_OVER = re.compile(
    r"behoben|beseitigt|beendet|aufgehoben|abgeschlossen|ausgefahren|nicht betroffen|wieder frei|geräumt"
)
_NO = re.compile(r"\b(ohne|keine[rn]?|nicht mehr)\s*#?$")
_END = re.compile(r"[.!?…]+[\"“”')\]]*\s+|\n+|;\s+|\s*\+{2,}\s+|\s[•▪◦‣]\s")
_MONTHS = "jan|feb|mär|apr|mai|jun|jul|aug|sep|okt|nov|dez"
_SHORT = {
    *(
        "ca",
        "zw",
        "bzw",
        "min",
        "std",
        "str",
        "wg",
        "u",
        "v",
        "mind",
        "ggf",
        "vsl",
        "voraussichtl",
        "nr",
        "max",
        "evtl",
    ),
    *("tel", "inkl", "zzt", "z", "b", "d", "h", "abzw", "ri", "ab", "gr", "st", "bstg", "usw"),
}
_PARTS = r"\w*(ausfahrt|abfahrt|stelle|bahnhof|stadtteil|bereich|raum)\w*"
_AFTER = rf"\s*((d(er|en|em|ie|as|es)|einem|einer|eines)\s+)?({_PARTS}\s+)*[#\"„“(@]*$"
_LEADS = [
    (role, re.compile(rf"(?:^|[^\w])(?:{words}){_AFTER}"))
    for role, words in (
        ("between", r"zwischen|zw\.?"),
        ("direction", r"(\w*)richtung(en)?|\bri\.|\bfr|nach|gen|zum|zur"),
        ("via", r"über|via|auf die|ausweich\w*|nutzen sie|nutzt|stattdessen|alternativ\w*"),
        ("until", r"bis(\s+zu[mr]?)?"),
        ("from", r"von|vom|ab|aus"),
        ("near", r"bei|in|im|an|am|höhe|nahe|vor|hinter|kurz nach|kurz vor|in der nähe von|as|ak|ad"),
    )
]
_DIRECTION = re.compile(r"richtung|einwärts|auswärts|beidseitig|gegenricht", re.IGNORECASE)
_RANGE = re.compile(r"\W*(<>|<->|->|=>|→|↔|⇔|>|–|—|-|bis|bis zum?)\W*", re.IGNORECASE)
_CAUSE = re.compile(
    r"\b(wegen|wg\.?|aufgrund|auf grund|infolge|nach|durch|grund|ursache|dank|folge|da)\b[^.;]{0,45}$", re.IGNORECASE
)
_CUT = re.compile(r",|;|\s/\s|\s(und|sowie|während|aber)\s")


def type_of(words: str) -> str | None:
    """The event's type by its trigger; None: no word that is known, so no event."""
    folded = re.sub(r"[#\s]+", " ", words).strip().casefold()
    return next((name for name, stems in _TYPES if stems.search(folded)), None)


def sentences(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, end) of each sentence, list item or line; none ends within a span."""
    found, start = [], 0
    for at in _END.finditer(text):
        mark = at.end() - len(at[0]) + len(at[0].rstrip())  # white space at its end may reach into a span's
        if any(a < mark and at.start() < b - 1 for a, b in spans) or not _ends(text, at):
            continue
        found.append((start, at.end()))
        start = at.end()
    return [*found, (start, len(text))] if start < len(text) else found


def _ends(text: str, at: re.Match[str]) -> bool:
    """Whether a sentence ends at this mark: not after `ca.`, before a small letter or before a month."""
    if text[at.start()] != "." or "\n" in at[0] or at[0].lstrip().startswith(".."):
        return True
    word = re.search(r"([^\W\d_]+|\d+)$", text[: at.start()])
    after = text[at.end() : at.end() + 3]
    if not after or after[0].islower():
        return not after
    if word is None:
        return True
    return word[0].casefold() not in _SHORT and not (word[0].isdigit() and re.match(_MONTHS, after.casefold()))


def clause_cuts(text: str, start: int, end: int) -> list[int]:
    """Where the text between two triggers may be cut."""
    return [start + at.start() for at in _CUT.finditer(text[start:end])]


def lead(text: str, start: int, first: int) -> str:
    """The words before a part, from its sentence's start `first` on, 60 characters at most."""
    return text[max(first, start - 60) : start].casefold()


def place_role(words: str, before: str) -> str:
    """between, direction, via, until, from, near, or `at`: what the words before a place make of it."""
    if _DIRECTION.search(words):
        return "direction"
    return next((role for role, known in _LEADS if known.search(before)), "at")


def ends_range(gap: str) -> bool:
    """Whether what stands between two places or times makes the second the end of a range."""
    return bool(
        _RANGE.fullmatch(re.sub(r"\([^)]*\)|\d{1,2}[:.]\d\d( uhr)?", "", gap, flags=re.IGNORECASE).strip() or " ")
    )


def spans_time(gap: str) -> bool:
    """Whether what stands between two times makes the second an end: `–`, `bis`, or an arrow with a place after it."""
    return (
        ends_range(gap)
        or gap.strip(" .") == "und"
        or (len(gap) < 50 and bool(re.search(r"→|->|<>|\)\s*[>–-]\s*|\bbis\b", gap)))
    )


def empty(words: str) -> bool:
    """Whether a time says no more than now, or a line is none that is named: `derzeit`, `die Züge`."""
    return bool(
        re.fullmatch(
            r"derzeit|zurzeit|zur zeit|aktuell|momentan|jetzt|(die |alle )?(züge|bahnen|busse)", words.casefold()
        )
    )


def follows(gap: str) -> bool:
    """Whether a time goes on after another: `morgen ca. 1:45 Uhr`."""
    return bool(re.fullmatch(r"\W*(ca\.?|gegen|um|früh)?\W*", gap, re.IGNORECASE))


def until(before: str) -> bool:
    return bool(
        re.search(r"\bbis(\s+(ca\.?|etwa|voraussichtlich|vsl\.?|zu[mr]?|in die|gegen|einschl\w*))*\s*$", before)
    )


def joins(gap: str) -> bool:
    """Whether two places are the ends of one stretch after `zwischen`."""
    return bool(
        re.fullmatch(r"[\s\"“”„]*(und|u\.|&|/|,|-|–)\s*(de[rmn]|dem)?[\s\"“”„#]*", gap, re.IGNORECASE)
    ) or ends_range(gap)


def detour(before: str) -> bool:
    """Whether the words before a road say that it is taken in place of another."""
    return bool(
        re.search(
            r"\b(nutz(en|t)|weich(en|t)|ausweich\w*|alternativ\w*|umstieg|umleitung\w* (führt|über))\b[^.]*$",
            before.casefold(),
        )
    )


def is_delay(words: str, after: str) -> bool:
    """Whether a duration is a delay: not an age, not how often trains run."""
    return not re.search("jähr|jahr|woche|tag", words, re.IGNORECASE) and not re.match(
        r"\W{0,2}takt", after, re.IGNORECASE
    )


def causal(before: str) -> bool:
    """Whether the words before a part say that it is a cause."""
    return bool(_CAUSE.search(before))


def reason(before: str) -> bool:
    """Whether the words before a part give the reason of what was said in an earlier sentence."""
    return bool(re.search(r"\b(grund|ursache)\b", before))


def over(before: str, after: str) -> bool:
    """Whether the words around a trigger say that it is over, or is none: `ohne …`, `… behoben`."""
    return bool(_NO.search(before.casefold()) or _OVER.search(after.casefold()))
