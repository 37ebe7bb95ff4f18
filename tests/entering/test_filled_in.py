"""A sheet that people filled in: each line saved once, or refused with a reason; nothing is guessed."""

import io
import zipfile
from datetime import date, datetime

import pytest
import xlsxwriter

from attrition.config import DEFAULT_DIALECT, Columns, Dialect
from attrition.contacts import log
from attrition.data.schema import Refused
from attrition.entering import filled_in
from attrition.entering.filled_in import Desk, Verdict, describe, read_lines, save_lines
from attrition.entering.workbook import make_workbook
from attrition.rows.forgotten import Forgotten
from tests.contacts.samples import write_table
from tests.entering.sheets import ABOUT, HEADINGS, cells, client, write


def packed(name):
    """Return an archive with one file."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(name, "")
    return data.getvalue()


NAMES = ("Acme", "007", "=1+1", "Ærø 東京", "Dunn")
DAY = "2026-11-28"


def make_table(folder, names):
    return write_table(folder / "clients.parquet", [0.5] * len(names), client=names)


@pytest.fixture
def desk(tmp_path):
    at = f"{DAY}T09:00:00Z"
    path = tmp_path / "contacts" / "contacts.sqlite"
    return Desk(path, make_table(tmp_path, NAMES), ABOUT.project, "r1", DAY, at, "sheet")


def sent(desk, data, dialect=DEFAULT_DIALECT):
    """Read a sheet, save its lines, and return the verdicts."""
    lines = read_lines(data, Columns(), dialect)
    return save_lines(lines, desk._replace(dates=dialect.dates))


def saved(desk):
    return [
        (entry.client, entry.outcome, entry.note, entry.date, entry.by)
        for entry in log.read(desk.path)[0]
    ]


def kinds(verdicts):
    return [verdict.verdict for verdict in verdicts]


def our_sheet(*filled, **options):
    """Return our own sheet as another program saves it, with cells filled in by (line, heading)."""
    header, *rows = cells(make_workbook([client(name, **options) for name in NAMES], ABOUT))
    lines = [[*header], *map(list, rows)]
    for line, heading, value in filled:
        lines[line][header.index(heading)] = value
    return lines


def fill(*answers):
    return our_sheet(
        *(
            (line, name, value)
            for line, *values in answers
            for name, value in zip(("outcome", "note", "follow-up", "by"), values, strict=False)
        )
    )


def test_our_sheet_filled_in_is_saved_and_only_once(desk):
    data = write(
        fill((1, "not reached"), (2, "reached, will stay", "=SUM(A1)\nok", date(2026, 12, 5)))
    )
    assert kinds(sent(desk, data)) == ["saved", "saved", *["nothing filled in"] * 3]
    expected = [
        ("Acme", "not_reached", "", "", "Ann"),
        ("007", "will_stay", "=SUM(A1)\nok", "2026-12-05", "Ann"),
    ]
    assert saved(desk) == expected
    later = desk._replace(day="2026-12-20", at="2026-12-20T09:00:00Z")
    assert kinds(sent(later, data)) == ["saved before", "saved before", *["nothing filled in"] * 3]
    assert saved(desk) == expected
    first = log.read(desk.path)[0][0]
    assert (first.via, first.release, first.at) == ("sheet", "r1", desk.at)
    assert first.risk == 0.5


def test_a_line_changed_since_corrects_what_it_stored_and_an_old_copy_changes_nothing(desk):
    old, new = write(fill((1, "not reached"))), write(fill((1, "reached", "spoke to Jo")))
    sent(desk, old)
    assert sent(desk, new)[0] == Verdict(
        "", 2, "Acme", "saved", "corrects what the line stored before"
    )
    assert [entry.replaces for entry in log.read(desk.path)[0]] == [None, 1]
    assert kinds(sent(desk, old))[0] == kinds(sent(desk, new))[0] == "saved before"


def test_a_date_in_another_format_changes_nothing(desk):
    for day in (date(2026, 12, 5), datetime(2026, 12, 5, 9, 30), "2026-12-05"):  # noqa: DTZ001
        verdicts = sent(desk, write(fill((1, "reached", "n", day))))
        assert len(saved(desk)) == 1, verdicts[0]
    assert kinds(sent(desk, write(fill((1, "reached", "n", "tomorrow")))))[0] == "refused"


def test_a_line_that_the_page_corrected_since_is_not_overwritten(desk):
    sent(desk, write(fill((1, "not reached"))))
    page = log.Entry("Acme", log.CONTACT, "Bob", "will_leave", replaces=1)
    log.append(desk.path, [page], desk.at)
    verdict = sent(desk, write(fill((1, "reached"))))[0]
    assert verdict.verdict == "refused" and "on the page" in verdict.reason


def test_columns_moved_added_and_titled_and_lines_added_or_blank_are_read(desk):
    lines = [
        ["Calls of Anna", None, None, None, None, None],
        [],
        ["My remark", "Follow up", "NOTE", "by", " Outcome ", "Client"],
        ["x", "2026-12-01", "n1", "Bob", "REACHED", "Acme"],
        [None, None, None, None, None, None],
        ["y", date(2026, 12, 2), None, "Bob", "not_reached", 7],
        ["z", datetime(2026, 12, 3, 9, 30), "n3", "Bob", "wrong  contact person", "Ærø 東京"],  # noqa: DTZ001
    ]
    verdicts = sent(desk, write(lines))
    assert [(each.line, each.verdict) for each in verdicts] == [
        *((4, "saved"), (6, "refused"), (7, "saved")),
    ]
    assert "there is no client '7'" in verdicts[1].reason
    assert saved(desk) == [
        ("Acme", "reached", "n1", "2026-12-01", "Bob"),
        ("Ærø 東京", "wrong_person", "n3", "2026-12-03", "Bob"),
    ]


@pytest.mark.parametrize("options", [{}, {"default_date_format": "dd/mm/yy"}, {"date_1904": True}])
def test_a_date_is_a_date_in_both_systems_of_excel(desk, options):
    data = write([HEADINGS, ["Acme", "reached", "n", date(2026, 12, 5), "Ann"]], **options)
    assert kinds(sent(desk, data)) == ["saved"]
    assert saved(desk)[0][3] == "2026-12-05"


REFUSED = [
    (["Acme", "called", "", "", "Ann"], "outcome: is 'called', expected 'reached', "),
    (["Acme", "", "a note", "", "Ann"], "outcome: choose a result"),
    (["Acme", "reached", "", "5.12.2026", "Ann"], 'set "files": {"dates": "%d.%m.%Y"}'),
    (["Acme", "reached", "", 46361, "Ann"], "follow-up: is '46361', expected an ISO 8601"),
    (["Acme", "reached", "", date(2026, 11, 27), "Ann"], "follow-up: is 2026-11-27, expected"),
    (["Acme", "reached", "", "2026-12-01", ""], "by: enter your name"),
    (["Acme", "reached", "x" * 2_001, "", "Ann"], "note: has 2,001 characters"),
    (["Acme", "reached", "bell \x07", "", "Ann"], "note: contains a character"),
    (["Acme", "do not contact again", "", "2026-12-01", "Ann"], "follow-up: a client who"),
    (["acme", "reached", "", "", "Ann"], "there is no client 'acme'; expected the name as"),
    ([None, "reached", "", "", "Ann"], "client: enter the name"),
    (["Acme", True, "", "", "Ann"], "outcome: is 'true'"),
    (["Acme", "==1/0", "", "", "Ann"], "outcome: is '0'"),
]


@pytest.mark.parametrize(("line", "reason"), REFUSED)
def test_a_line_that_is_not_valid_is_refused_with_what_is_wrong(desk, line, reason):
    (verdict,) = sent(desk, write([HEADINGS, line]))
    assert verdict.verdict == "refused" and reason in verdict.reason, verdict.reason
    assert verdict.line == 2 and not saved(desk)


def test_a_line_of_a_forgotten_client_is_refused_without_the_name(desk):
    hidden = Forgotten("11").add("Acme", "forgotten-1")
    verdicts = sent(desk._replace(hidden=hidden), write(fill((1, "not reached"), (2, "reached"))))
    assert verdicts[0].client == "forgotten-1"
    assert verdicts[0].reason == "this client was forgotten on request: delete the line"
    assert [each[0] for each in saved(desk)] == ["007"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((1, "client", "007"), "belongs to another client than '007'"),
        ((1, "key", "mine"), "the key 'mine' is not one of ours"),
        ((1, "key", "00000000-2026-11-28-0123456789ab"), "of another installation"),
    ],
)
def test_a_line_whose_key_and_client_differ_is_refused(desk, change, reason):
    verdict = sent(desk, write(our_sheet((1, "outcome", "reached"), change)))[0]
    assert verdict.verdict == "refused" and reason in verdict.reason


def test_a_line_of_our_sheet_counts_although_the_client_has_left_since(desk, tmp_path):
    gone = desk._replace(table=make_table(tmp_path, ["Dunn"]))
    assert kinds(sent(gone, write(fill((1, "reached")))))[0] == "saved"
    assert log.read(desk.path)[0][0].risk is None


def test_a_copied_line_is_refused_until_its_key_is_empty(desk):
    lines = fill((1, "not reached"))
    copy = [*lines[1]]
    copy[lines[0].index("outcome")] = "reached"
    verdicts = sent(desk, write([*lines, copy]))
    assert verdicts[-1].reason == "is a copy of line 2: empty its key to save both"
    copy[lines[0].index("key")] = None
    assert kinds(sent(desk, write([*lines, copy])))[::5] == ["saved before", "saved"]
    assert [each[1] for each in saved(desk)] == ["not_reached", "reached"]


def test_the_same_line_twice_in_a_sheet_without_keys_is_saved_once(desk):
    line = ["Acme", "reached", "n", "", "Ann"]
    verdicts = sent(desk, write([HEADINGS, line, line]))
    assert kinds(verdicts) == ["saved", "saved before"]
    assert verdicts[1].reason == "is the same as line 2"
    assert kinds(sent(desk, write([HEADINGS, line]))) == ["saved before"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "windows-1252"])
def test_csv_of_another_language_is_read_by_the_dialect_of_the_sources(desk, encoding):
    text = "client;outcome;note;follow-up;by\r\n007;reached;Müller;05.12.2026;Ann\r\n"
    dialect = Dialect(encoding="windows-1252", dates="%d.%m.%Y", header_line=4, sheet="data")
    assert kinds(sent(desk, text.encode(encoding), dialect)) == ["saved"]
    assert saved(desk) == [("007", "reached", "Müller", "2026-12-05", "Ann")]


def test_a_line_of_csv_with_too_many_cells_is_refused(desk):
    text = "client,outcome,note,follow-up,by\nAcme,reached,well, yes,,Ann\nDunn,reached,,,Ann,,\n"
    verdicts = sent(desk, text.encode())
    assert [each.reason for each in verdicts] == ["has 6 cells, expected 5", ""]
    assert kinds(verdicts) == ["refused", "saved"]


def test_a_sheet_without_lines_is_accounted_for_too(desk):
    assert kinds(sent(desk, write([HEADINGS, [], ["", "", "", "", ""]]))) == ["nothing filled in"]


def test_a_sheet_without_the_columns_is_refused_and_names_them(desk):
    for lines in ([["a", "b"], ["1", "2"]], [["client", "outcome"], ["Acme", "reached"]]):
        with pytest.raises(
            Refused, match="expected the columns client, outcome, note and follow-up"
        ):
            sent(desk, write(lines))
    with pytest.raises(Refused, match="'note' is there twice"):
        sent(desk, write([[*HEADINGS, "Note"], ["Acme", "reached", "", "", "Ann", ""]]))


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"\xd0\xcf\x11\xe0", "save it as .xlsx without a password, or as CSV"),
        (b"PK\x03\x04" + bytes(100), "expected a sheet saved as .xlsx or CSV"),
        (packed("word/document.xml"), "expected a sheet saved as .xlsx or CSV"),
        (b'client,outcome,note\nAcme,reached,"open\n', "line 2: .*; close the quotation mark"),
        (packed("content.xml"), "expected a sheet saved as .xlsx or CSV"),
        (write([HEADINGS, *[[]] * ((1 << 20) - 2), HEADINGS]), "delete what stands far below"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(desk, data, advice):
    with pytest.raises(Refused, match=advice) as error:
        sent(desk, data)
    assert "max_source_mb" not in error.value.reason


@pytest.mark.parametrize(
    "heading", ["Follow up", "FOLLOW-UP:", "Followup", "follow\u2013up *", "follow-\nup"]
)
def test_headings_are_compared_without_case_blanks_and_signs(desk, heading):
    header = ["Client:", "outcome *", "Note", heading, "by?"]
    assert kinds(sent(desk, write([header, ["Acme", "reached", "", "", "Ann"]]))) == ["saved"]


def test_answers_that_are_headings_too_are_no_second_header(desk):
    line = ["Acme", "reached", "note", "", "Note"]
    assert kinds(sent(desk, write([HEADINGS, line]))) == ["saved"]


def test_a_heading_of_signs_alone_is_not_that_of_columns_without_one():
    header, line = ["#", *HEADINGS[1:], "", ""], ["Acme", "reached", "", "", "Ann", "", ""]
    (read,) = read_lines(write([header, line]), Columns(client="#"), DEFAULT_DIALECT)
    assert read.client == "Acme"


def test_a_title_may_stand_in_merged_cells_of_its_line_but_no_answer_in_those_of_several(desk):
    def book(merged):
        data = io.BytesIO()
        with xlsxwriter.Workbook(data, {"in_memory": True}) as workbook:
            sheet = workbook.add_worksheet()
            for i, line in enumerate([[], HEADINGS, ["Acme", "reached", "", "", "Ann"], ["Dunn"]]):
                sheet.write_row(i, 0, line)
            sheet.merge_range("A1:E1", "Calls of Anna")
            if merged:
                sheet.merge_range(merged, "reached")
        return data.getvalue()

    assert kinds(sent(desk, book(""))) == ["saved", "nothing filled in"]
    with pytest.raises(Refused, match="cells B3:B4 are merged; unmerge them"):
        sent(desk, book("B3:B4"))


def test_a_line_of_csv_without_any_text_is_no_line(desk):
    text = "client,outcome,note,follow-up,by\nAcme,reached,,,Ann\n,,\n"
    assert kinds(sent(desk, text.encode())) == ["saved"]


def test_every_sheet_with_the_columns_is_read_and_one_that_cannot_be_is_named(desk):
    data = io.BytesIO()
    with xlsxwriter.Workbook(data, {"in_memory": True}) as book:
        for title, client_ in (("Week 1", "Acme"), ("Week 2", "Dunn"), ("Odd", "007")):
            sheet = book.add_worksheet(title)
            sheet.write_row(0, 0, HEADINGS)
            sheet.write_row(1, 0, [client_, "reached"])
            sheet.write(1, 4, "Ann")
        sheet.merge_range("A2:A3", "007")
    verdicts = sent(desk, data.getvalue())
    assert [(each.sheet, each.line, each.verdict) for each in verdicts] == [
        *(("Week 1", 2, "saved"), ("Week 2", 2, "saved"), ("Odd", 0, "refused")),
    ]
    assert verdicts[-1].reason.startswith("the cells A2:A3 are merged")


def test_a_copy_in_another_sheet_is_named_with_its_sheet(desk):
    data = io.BytesIO()
    with xlsxwriter.Workbook(data, {"in_memory": True}) as book:
        for title, outcome in (("Week 1", "reached"), ("Week 2", "not reached"), ("Help", "")):
            sheet = book.add_worksheet(title)
            for i, line in enumerate(fill((1, outcome))[: 2 if outcome else 0]):
                sheet.write_row(i, 0, line)
    verdicts = sent(desk, data.getvalue())
    assert kinds(verdicts) == ["saved", "refused"]
    assert verdicts[1].reason.startswith("is a copy of line 2 of sheet 'Week 1': empty its key")


def test_lines_that_cannot_be_read_are_named_beside_those_that_are():
    verdicts = [
        Verdict("", 2, "A", filled_in.SAVED),
        Verdict("Week 2", 0, "", filled_in.REFUSED, "odd"),
    ]
    assert describe("a.xlsx", verdicts) == "1 line of a.xlsx saved, 1 refused (sheet 'Week 2': odd)"
