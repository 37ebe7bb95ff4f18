"""Read a sheet that people filled in, and append its lines to the contact log, each exactly once.

The columns are found by their headings, so they may be moved, and others may be added. A line that the
log has already is not stored again; a line of one of our sheets that was changed since corrects what it
stored before. Nothing of a line is guessed: it is saved whole, or refused with a reason.
"""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple

from attrition import wording
from attrition.config import Columns, Dialect
from attrition.contacts import log, sentences, standings
from attrition.contacts.log import Entry
from attrition.data import cells
from attrition.data.clients import ClientTable
from attrition.data.schema import Refused, Table
from attrition.entering.validation import read_entry, read_fields
from attrition.entering.workbook import (
    BY,
    CLIENT,
    FOLLOW_UP,
    KEY,
    LINE_KEY,
    MANAGER,
    NOTE,
    OUTCOME,
    key_of,
)
from attrition.rows.forgotten import Forgotten
from attrition.sources.csv_reader import read_csv
from attrition.sources.excel import list_sheets, read_excel

MAX_BYTES = 64 << 20  # of a sheet, unpacked
MAX_SHEETS, MAX_LINES, HEADER_WITHIN = 20, 100_000, 20
NEEDED = (CLIENT, OUTCOME, NOTE, FOLLOW_UP)
KNOWN = (*NEEDED, BY, MANAGER, KEY)
FILLED_IN = (OUTCOME, NOTE, FOLLOW_UP)
SAVED, BEFORE, EMPTY, REFUSED = "saved", "saved before", "nothing filled in", "refused"
OUTCOME_OF = {cells.fold(word): name for name, word in sentences.OUTCOMES.items()} | {
    name: name for name in sentences.OUTCOMES
}
NAMES = {"date": FOLLOW_UP}  # of the fields of a form, as the sheet calls them
WITHOUT_COLUMNS = ("NO_COLUMNS", "NO_HEADER")  # other sheets
ADVICE = {
    "BAD_EXCEL": "expected a sheet saved as .xlsx or CSV",
    "UNTERMINATED_QUOTE": "close the quotation mark that begins there, or save the sheet as .xlsx",
    "TOO_LARGE": "delete what stands far below or beside the table, or copy the table into a new sheet",
}


class Line(NamedTuple):
    """A line as it was filled in: text by column; `problem` if it cannot be read at all."""

    sheet: str
    number: int
    texts: Mapping[str, str]
    problem: str = ""

    @property
    def is_filled_in(self) -> bool:
        return any(self.texts[name] for name in FILLED_IN)

    @property
    def client(self) -> str:
        """The name as names are stored, the text itself if it is none."""
        return cells.read_client(self.texts[CLIENT], CLIENT).value or self.texts[CLIENT]


class Verdict(NamedTuple):
    """What became of a line; line 0 is the whole sheet."""

    sheet: str
    line: int
    client: str
    verdict: str
    reason: str = ""


class Desk(NamedTuple):
    """Where lines are saved: the log and the clients of a project, the day, and who they come from.

    dates: the format of dates beside ISO 8601; by: who has filled in the lines that do not name anybody;
    refuse: as in `log.append`
    """

    path: Path
    table: ClientTable
    project: str
    release: str
    day: str
    at: str
    via: str
    dates: str | None = None
    by: str = ""
    hidden: Forgotten = Forgotten()
    refuse: Callable[[Iterable[str]], str] = lambda _: ""


# ---- read


def read_lines(data: bytes, columns: Columns, dialect: Dialect) -> list[Line]:
    """Return the lines of an Excel workbook or of a CSV file that name a client or are filled in.

    Raises: Refused if there is no sheet with the columns that are needed.
    """
    file = io.BytesIO(data)
    dialect = replace(dialect, sheet=None, header_line=None, separator=None)  # those of the sources
    try:
        if data.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
            return _find_in_sheets(file, columns, dialect)
        return _find_lines(_read_text(file, dialect), "", columns)
    except Refused as error:
        if error.code not in ADVICE:
            raise
        reason = error.reason.removesuffix(" (max_source_mb)")  # that of the sources
        raise Refused(error.code, f"{reason}; {ADVICE[error.code]}") from error


def _read_text(file: io.BytesIO, dialect: Dialect) -> Table:
    """Return the table of a text in UTF-8, or else in the encoding of the sources."""
    try:
        return read_csv(file, replace(dialect, encoding="utf-8"), fast=False)
    except Refused as error:
        if error.code != "ENCODING" or dialect.encoding == "utf-8":
            raise
        return read_csv(file, dialect, fast=False)


def _find_in_sheets(file: io.BytesIO, columns: Columns, dialect: Dialect) -> list[Line]:
    """Return the lines of all visible sheets that have the columns, and the problem of any other."""
    names = list_sheets(file, MAX_BYTES)
    if len(names) > MAX_SHEETS:
        raise Refused("TOO_MANY_SHEETS", f"{len(names)} sheets, expected at most {MAX_SHEETS}")
    lines: list[Line] = []
    problems: dict[str, Refused] = {}
    for title in names:
        shown = title if len(names) > 2 else ""  # beside the one that explains
        try:
            own = replace(dialect, sheet=title)
            table = read_excel(file, own, MAX_BYTES, title_lines=HEADER_WITHIN)
            lines += _find_lines(table, shown, columns)
        except Refused as error:
            problems[title] = error
    unread = {
        title: error for title, error in problems.items() if error.code not in WITHOUT_COLUMNS
    }
    if len(problems) == len(names):
        nothing = Refused("NO_SHEET", "there is no visible sheet")
        raise [*unread.values(), *problems.values(), nothing][0]
    nowhere = dict.fromkeys(KNOWN, "")
    return lines + [Line(title, 0, nowhere, error.reason) for title, error in unread.items()]


def _find_lines(table: Table, sheet: str, columns: Columns) -> list[Line]:
    """Return the lines below the header, which is one of the first lines."""
    rows = [(1, table.header), *islice(_rows(table), MAX_LINES + HEADER_WITHIN)]
    headers = ((i, _match_header(row[1], columns)) for i, row in enumerate(rows[:HEADER_WITHIN]))
    first = next(headers)
    is_header = {CLIENT, OUTCOME}.issubset  # no answer below it is read as a heading
    at, places = next((each for each in chain([first], headers) if is_header(each[1])), first)
    width = len(rows[at][1])
    if lacking := [name for name in NEEDED if name not in places]:
        raise Refused(
            "NO_COLUMNS",
            f"expected the columns {wording.listing(NEEDED, 'and')} in one of the first {HEADER_WITHIN} "
            f"lines, found none called {wording.listing(lacking, 'or')}; download a sheet to fill in "
            "from the page List",
        )
    if len(rows) > MAX_LINES:
        raise Refused("TOO_MANY_LINES", f"more than {MAX_LINES:,} lines")
    lines = [_read_line(sheet, *row, width, places) for row in rows[at + 1 :] if any(row[1])]
    return [line for line in lines if line.problem or line.is_filled_in or line.texts[CLIENT]]


def _rows(table: Table) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the rows of a table with their lines, in order."""
    for chunk in table.chunks:
        columns = [column.to_pylist() for column in chunk.columns]
        whole = zip(chunk.lines, zip(*columns, strict=True), strict=True)
        yield from sorted(chain(whole, chunk.odd), key=lambda row: row[0])


def _match_header(header: Sequence[str], columns: Columns) -> dict[str, int]:
    """Return the place of each known column.

    Raises: Refused if one is there twice.
    """
    names = {_plain(columns.client or CLIENT): CLIENT} | {_plain(name): name for name in KNOWN}
    places: dict[str, int] = {}
    for place, heading in enumerate(header):
        if name := names.get(_plain(heading)):
            if name in places:
                raise Refused("REPEATED_COLUMN", f"the column {name!r} is there twice: rename one")
            places[name] = place
    return places


def _plain(heading: str) -> str:
    """Return a heading without case, blanks and signs, unless it is of signs alone.

    >>> _plain("Follow\u2013Up:"), _plain("Follow up *"), _plain("#")
    ('followup', 'followup', '#')
    """
    text = cells.fold(heading)
    return re.sub(r"[\W_]+", "", text) or text


def _read_line(
    sheet: str, number: int, row: Sequence[str], width: int, places: Mapping[str, int]
) -> Line:
    texts = dict.fromkeys(KNOWN, "")
    texts |= {name: row[at].strip() for name, at in places.items() if at < len(row)}
    is_whole = len(row) >= width and not any(row[width:])
    problem = "" if is_whole else f"has {len(row)} cells, expected {width}"
    return Line(sheet, number, texts, problem)


# ---- save


def save_lines(lines: Sequence[Line], desk: Desk) -> list[Verdict]:
    """Append the lines that are filled in and valid to the contact log; return a verdict for each line.

    Raises: Damaged, AttritionError if the log cannot be read or written.
    """
    lines = [_hide(line, desk.hidden) for line in lines]
    names = list(dict.fromkeys(line.client for line in lines))
    rows, own = desk.table.rows_of(names), standings.by_client(log.read(desk.path)[0])
    risks = desk.table.numbers("risk")
    verdicts: list[Verdict] = []
    entries: dict[int, Entry] = {}  # by the place of the verdict
    seen: dict[str, tuple[str, str]] = {}  # the key of each line: what was filled in, and where
    for line in lines:
        row, before = rows.get(line.client), own.get(line.client, [])
        verdict, reason, entry = _judge(line, desk, before, seen, is_current=row is not None)
        if entry is not None:
            risk = None if row is None else float(risks[row])
            entries[len(verdicts)] = entry._replace(risk=risk)
        verdicts.append(Verdict(line.sheet, line.number, line.client, verdict, reason))
    for place, reason in _append(desk, entries).items():
        verdicts[place] = verdicts[place]._replace(verdict=REFUSED, reason=reason)
    return verdicts or [Verdict("", 0, "", EMPTY, "there is no line below the headings")]


def _hide(line: Line, hidden: Forgotten) -> Line:
    """Return a line with the token of a forgotten client, and then nothing of it is saved."""
    if not (token := hidden.find(line.client)):
        return line
    problem = "this client was forgotten on request: delete the line"
    return line._replace(texts={**line.texts, CLIENT: token}, problem=problem)


def _append(desk: Desk, entries: Mapping[int, Entry]) -> dict[int, str]:
    """Append entries, all at once if possible; return why some were refused, by their place."""
    try:
        log.append(desk.path, [*entries.values()], desk.at, refuse=desk.refuse)
        return {}
    except (log.NotReplaceable, log.KeyTaken):
        refused = {}
    for place, entry in entries.items():  # somebody entered something at this moment
        try:
            log.append(desk.path, [entry], desk.at, refuse=desk.refuse)
        except (log.NotReplaceable, log.KeyTaken) as error:
            refused[place] = str(error)
    return refused


def _judge(
    line: Line,
    desk: Desk,
    before: Sequence[Entry],
    seen: dict[str, tuple[str, str]],
    *,
    is_current: bool,
) -> tuple[str, str, Entry | None]:
    """Return the verdict on a line, the reason, and the entry to append, if any.

    before: the entries of the client; seen: what is to be stored of the lines above, which is added to
    """
    if line.problem:
        return REFUSED, line.problem, None
    if not line.is_filled_in:
        return EMPTY, "", None
    if problem := _check_client(line, desk, is_known=is_current or bool(before)):
        return REFUSED, problem, None
    form, problems = _read_form(line, desk)
    key, content = line.texts[KEY], _digest(line, form)
    prefix, place = f"sheet {key or '-'} ", key or content
    where = _where(line.sheet, line.number)
    if any(entry.key == prefix + content for entry in before):
        seen.setdefault(place, (content, where))
        return BEFORE, "", None
    if place in seen:
        above, its_place = seen[place]
        if above == content:
            return BEFORE, f"is the same as {its_place}", None
        return REFUSED, f"is a copy of {its_place}: empty its {KEY} to save both", None
    if key and (stored := [entry for entry in before if entry.key.startswith(prefix)]):
        numbers = {entry.id for entry in stored}
        old = next((each for each in standings.counting(before) if each.id in numbers), None)
        if old is None:
            return REFUSED, "was corrected or withdrawn on the page since: correct it there", None
        form |= {"replaces": old.id}
    entry = read_entry(form, desk.day, before, 1, problems)
    if problems:
        texts = [f"{NAMES.get(name, name)}: {text}" for name, text in problems.items()]
        return REFUSED, "; ".join(texts), None
    seen[place] = (content, where)
    reason = "corrects what the line stored before" if entry.replaces else ""
    entry = entry._replace(client=line.client, key=prefix + content)
    return SAVED, reason, entry._replace(via=desk.via, release=desk.release)


def _check_client(line: Line, desk: Desk, *, is_known: bool) -> str:
    """Return what is wrong with the client and the key of a line; "" if nothing is.

    A key proves that the client was on a list, even if he or she is no longer current.
    """
    key, shown = line.texts[KEY], cells.shorten(line.client)
    if not line.client:
        return f"{CLIENT}: enter the name"
    if not key:
        unknown = f"there is no client {shown!r}; expected the name as the list shows it"
        return "" if is_known else unknown
    match = LINE_KEY.fullmatch(key)
    if not match:
        return f"the {KEY} {cells.shorten(key)!r} is not one of ours: empty it"
    if match["project"] != desk.project[:8]:
        return f"comes from a sheet of another installation: empty its {KEY} to save it here"
    if key != key_of(desk.project, match["day"], line.client):
        return (
            f"its {KEY} belongs to another client than {shown!r}: if only some columns were sorted, "
            f"undo that; otherwise, empty the {KEY}"
        )
    return ""


def _read_form(line: Line, desk: Desk) -> tuple[dict[str, str | int], dict[str, str]]:
    """Return the fields of the form that a line stands for, and what is wrong with its texts."""
    texts, problems = line.texts, dict[str, str]()
    outcome = OUTCOME_OF.get(cells.fold(texts[OUTCOME]), "")
    if texts[OUTCOME] and not outcome:
        expected = wording.listing([*map(repr, sentences.OUTCOMES.values())], "or")
        problems[OUTCOME] = f"is {cells.shorten(texts[OUTCOME])!r}, expected {expected}"
    date = cells.read_date(texts[FOLLOW_UP], FOLLOW_UP, {""}, desk.dates)
    if date.code:
        problems["date"] = date.problem.removeprefix(f"{FOLLOW_UP} ")
    form: dict[str, str | int] = {
        **{"kind": log.CONTACT, "outcome": outcome, "note": texts[NOTE], "date": date.value},
        "by": texts[BY] or texts[MANAGER] or desk.by,
    }
    return form, problems


def _digest(line: Line, form: Mapping[str, str | int]) -> str:
    """Hash the content of a line: read again, it gives the same hash, whoever sends it."""
    entry = read_fields(form, {})
    date, by = entry.date or line.texts[FOLLOW_UP], line.texts[BY] or line.texts[MANAGER]
    parts = (line.client, entry.outcome, entry.note, date, by)
    text = "\n".join(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# ---- describe


def describe(name: str, verdicts: Iterable[Verdict]) -> str:
    """Describe what became of a sheet in one line.

    >>> anna = [Verdict("", 2, "A", SAVED), Verdict("", 7, "B", REFUSED, "outcome: choose a result")]
    >>> describe("anna.xlsx", anna)
    '1 line of anna.xlsx saved, 1 refused (line 7: outcome: choose a result)'
    >>> describe("bob.xlsx", [Verdict("", 0, "", REFUSED, "an empty file")])
    'bob.xlsx refused: an empty file'
    """
    verdicts = [*verdicts]
    counts = Counter(verdict.verdict for verdict in verdicts)
    refused = [_refusal_text(each) for each in verdicts if each.verdict == REFUSED]
    if len(verdicts) == 1 and refused and not verdicts[0].line:
        return f"{name} refused: {refused[0]}"
    parts = [f"{wording.plural(counts[SAVED], 'line')} of {name} saved"]
    parts += [f"{counts[BEFORE]:,} saved before"] if counts[BEFORE] else []
    more = "; ..." if len(refused) > 1 else ""
    parts += [f"{len(refused):,} refused ({refused[0]}{more})"] if refused else []
    return ", ".join(parts)


def _refusal_text(verdict: Verdict) -> str:
    return ": ".join(filter(None, (_where(verdict.sheet, verdict.line), verdict.reason)))


def _where(sheet: str, line: int) -> str:
    """Return where a line stands; sheet: "" if there is one only; line: 0 for the whole sheet.

    >>> _where("Week 2", 7), _where("Week 2", 0)
    ("line 7 of sheet 'Week 2'", "sheet 'Week 2'")
    """
    parts = (f"line {line}" if line else "", f"sheet {sheet!r}" if sheet else "")
    return " of ".join(filter(None, parts))
