import io

import numpy as np
import pypdf
import pytest
from PIL import Image
from reportlab.graphics import shapes
from reportlab.lib.colors import white
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import Spacer

from attrition.data import clients
from attrition.data.cells import Reason
from attrition.reporting import charts, pdf, svg
from tests.effect.records import FIRST, SECOND

MARKUP = ("<b>&Bold</b>", "<img src='http://127.0.0.1:9/x.png'/>", '<font color="[[1]]">', "a & b")
CLIENT = dict.fromkeys(clients.COLUMNS) | {
    **{"rank": 1, "client": "Søn Ltd", "risk": 0.9},
    **{"reasons": [], "list_reasons": [], "changes": [], "cautions": []},
}


@pytest.fixture(autouse=True, scope="module")
def _fonts():
    pdf.register_fonts()


def read(*story):
    """What the pages of a story say, every run of white space a blank."""
    document, n_pages = pdf.build(list(story), name="Name", running="running")
    found = [
        " ".join(page.extract_text().split())
        for page in pypdf.PdfReader(io.BytesIO(document)).pages
    ]
    assert len(found) == n_pages
    return found


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_the_data_is_text(text):
    tile = pdf.tiles([(text, text, text)])
    (page,) = read(pdf.paragraph(text, lead=text), pdf.table({text: 1}, [[text]]), tile)
    assert page.replace(" ", "").count(text.replace(" ", "")) == 7


def test_every_page_has_its_number_and_both_headers():
    found = read(*(pdf.note(f"line {i}") for i in range(80)))
    assert len(found) == 2
    assert all(f"Name running Page {i}" in page for i, page in enumerate(found, 1))


def test_same_story_gives_the_same_bytes():
    first, second = (pdf.build([pdf.note("x")], name="n", running="r") for _ in range(2))
    assert first == second


@pytest.mark.parametrize("lead", ["", "In bold:"])
def test_paragraph_that_begins_at_the_end_of_a_page_goes_on_on_the_next(lead):
    words = [f"w{n}" for n in range(300)]
    text = pdf.paragraph(" ".join(words), lead=lead)
    first, second = (page.split() for page in read(Spacer(0, pdf.HEIGHT - 30), text))
    assert "w0" in first
    assert [word for word in (*first, *second) if word in words] == words


def test_picture_has_every_pixel_of_its_png_and_its_shape():
    png = charts.png(charts.importance({"a": 0.7, "b": 0.3}))
    story = [
        pdf.picture(png, 300),
        pdf.picture(png, 200),
        pdf.picture(charts.png(charts.roc(None, None))),
    ]
    document, _ = pdf.build(story, name="n", running="r")
    (page,) = pypdf.PdfReader(io.BytesIO(document)).pages
    images = [np.asarray(each.image) for each in page.images]
    assert len(images) == 2
    assert any(np.array_equal(each, np.asarray(Image.open(io.BytesIO(png)))) for each in images)
    n_rows, n_columns, _ = np.asarray(Image.open(io.BytesIO(png))).shape
    assert pdf.picture(png, 300).wrap(400, 400) == (300, pytest.approx(300 * n_rows / n_columns))


def test_number_keeps_its_unit_on_its_line_but_in_a_cell():
    text, room = "W 5\xa0% W", stringWidth("% W", pdf.FONT, pdf.CELL.fontSize) + 0.1
    text, cell = pdf.paragraph(text, pdf.CELL), pdf._cell(text, pdf.CELL, room)
    lines = [each.wrap(room, 100)[1] / pdf.CELL.leading for each in (text, cell)]
    assert lines == [3, 2]  # W, 5 %, W and W 5, % W


def test_drawing_has_the_lines_dots_and_texts_of_its_svg_upside_up():
    chart = svg.effect_by_look([FIRST, SECOND])
    drawn = pdf.drawing(chart.drawing, 230)
    assert drawn.wrap(400, 400) == (230, 140)
    (group,) = drawn.contents
    first, second = [each for each in group.contents if isinstance(each, shapes.Circle)]
    assert first.cy > second.cy  # 10 fewer left, then 8
    assert (first.fillColor, second.fillColor) == (white, pdf.ACCENT)
    lines = [each for each in group.contents if isinstance(each, shapes.Line)]
    (zero,) = [line for line in lines if line.strokeDashArray]
    assert zero.y1 == zero.y2 < second.cy
    (page,) = read(drawn)
    assert all(text in page for text in ("+10", "Apr 2026", "fewer left, in points", "look"))


def test_cell_is_the_longest_wording_of_two_lines():
    fits, long, short = "a b c", "too long " * 20, "short"
    (page,) = read(pdf.table({"x": 1}, [[(fits, "-")], [(long, short)]], width=100))
    assert "a b c short" in page


def test_table_without_rows_says_so():
    (page,) = read(pdf.table({"x": 1}, [], empty="Nothing yet."))
    assert "Nothing yet." in page


def test_largest_is_the_first_that_fits():
    made = pdf.largest(lambda n: pdf.table({"x": 1}, [["y"]] * n), range(12, 0, -1), 100)
    assert 80 < pdf.height(made) <= 100
    assert pdf.largest(lambda n: pdf.note("x" * n), (1,), 0) is None


def test_contact_table_leaves_out_what_no_client_has():
    (page,) = read(pdf.contact_table([CLIENT], "EUR", {}))
    assert "rank client risk 1 Søn Ltd 90 %" in page


def test_contacts_show_two_reasons_where_both_fit_in_two_lines():
    short = [Reason("tickets", 9.0, 1.0, 1.0), Reason("age", 4.0, 38.0, 0.5)]
    long = [Reason("contract_type", "month-to-month " * 8, "multi-year", 1.0), *short]
    reasons = [[*short, *long], long, short[:1], []]
    rows = [CLIENT | {"manager": "M", "list_reasons": each} for each in reasons]
    (page,) = read(pdf.contact_table(rows, "EUR", {}))
    assert "tickets: 9 (baseline: 1); age: 4 (baseline: 38) 1" in page
    assert "(baseline: multi-year) 1" in page
    assert "M tickets: 9 (baseline: 1) 1" in page
    assert "M –" in page


def test_reason_with_a_semicolon_is_one_reason():
    plan = Reason("plan", "plan A; legacy", "plan B", 1.0)
    other = Reason("tickets", 9.0, 1.0, 0.5)
    (page,) = read(pdf.contact_table([CLIENT | {"list_reasons": [plan, other]}], "EUR", {}))
    assert "plan: plan A; legacy (baseline: plan B); tickets: 9 (baseline: 1)" in page


def test_work_of_the_team_is_shown_if_it_was_recorded():
    listed = {"manager": "Ann", "listed": 12, "value": 51_234.0}
    (page,) = read(pdf.team_table([listed], "EUR"))
    assert page.endswith("client manager on the list value, EUR Ann 12 51,200")
    work = {"reached": 7, "follow_ups_due": 4, "follow_ups_kept": 3}
    others = [{"manager": "", "listed": 0, "value": None}]
    (page,) = read(pdf.team_table([listed | work, *others], "EUR"))
    assert "Ann 12 51,200 7 3 of 4" in page
    assert "no client manager 0 – 0 –" in page


@pytest.mark.parametrize("colour", ["green", "amber", "red"])
def test_one_lamp_of_the_traffic_light_is_lit(colour):
    light = pdf.light(colour, [pdf.note("why")])
    lamps, _ = light._cellvalues[0]
    lit = [shape.fillColor for shape in lamps.contents[1:]]
    assert [each for each in lit if each != pdf.GREY] == [pdf.LAMPS[colour]]
    assert lit.index(pdf.LAMPS[colour]) == ["red", "amber", "green"].index(colour)


def test_compact_contact_table_shows_the_last_contact_and_one_reason():
    reasons = [Reason("tickets", 9.0, 1.0, 1.0), Reason("age", 4.0, 38.0, 0.5)]
    log = {"last_contact": "2026-10-02", "last_outcome": "not_reached", "last_contact_by": "Ann"}
    row = CLIENT | log | {"list_reasons": reasons, "follow_up": "2026-12-01", "due": "2027-01-31"}
    (page,) = read(pdf.contact_table([row], "EUR", {}, is_compact=True))
    assert (
        "90 % 2027-01-31 tickets: 9 (baseline: 1) 2026-10-02: not reached (Ann) 2026-12-01" in page
    )


def test_change_of_a_client_who_came_back_is_back():
    (page,) = read(pdf.contact_table([CLIENT, CLIENT | {"last_contact": "2026-10-02"}], "EUR", {}))
    assert "90 % new" in page
    assert "90 % back" in page


def test_long_last_contact_is_shown_without_who():
    by = {"last_contact": "2026-10-02", "last_contact_by": "Ann " * 20, "last_outcome": "will_stay"}
    (page,) = read(pdf.contact_table([CLIENT | by], "EUR", {}, is_compact=True))
    assert page.endswith("2026-10-02: reached, will stay")


def test_printed_row_names_how_to_reach_a_client_and_why():
    row = CLIENT | {"phone": "+49 30 123", "email": "a@b.example", "status": "risen"}
    row |= {"reasons": [Reason("tickets", 9.0, 1.0, 1.0)], "due": "2027-01-31"}
    row |= {"last_outcome": "will_stay", "last_contact_by": "Ann"}
    row |= {"last_contact": "2026-10-02", "follow_up": "2026-12-01", "value_at_risk": 1234.0}
    (page,) = read(pdf.call_table([row], "2027-01-30", "EUR", {}))
    assert (
        "Søn Ltd +49 30 123 a@b.example due 2027-01-31 (in 1 day) risk 90 % EUR 1,230 at risk risen"
        in page
    )
    assert "tickets: 9 (baseline: 1) Last contact 2026-10-02: reached, will stay (Ann)" in page
    assert "Follow-up on 2026-12-01" in page
    assert "☐ reached ☐ not reached" in page


def test_step_that_never_ran_has_no_duration():
    (page,) = read(pdf.duration_table({"training": [], "trend": {}}))
    assert "training 0 – – – – not run yet" in page


def test_costs_of_a_step_are_those_of_its_last_run():
    first = {"at": "2026-01-01T00:00:00Z", "elapsed_s": 2.0}
    rows = [first, first | {"cpu_s": 5.25, "peak_mb": 1234.5}]
    (page,) = read(pdf.duration_table({"training": rows, "trend": {}, "doubled": []}))
    assert "training 2 2.0 s 2.0 s 5.2 s 1,234 MB" in page
