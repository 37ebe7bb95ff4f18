"""What the lead reads about the experiment: the verdict first, then what it rests on."""

import pytest

from attrition.effect import sentences
from tests.effect.records import FIRST, SECOND, make_open, make_record

MOVED = make_record()["draws"] | {"differ": 2, "first": 17, "is_valid": False}
VANISHED = {"treated": 0.12, "control": 0.02, "p": 4e-5, "is_valid": False}
VOID = {"expected": 0.2, "observed": 0.31, "p": 4e-5, "is_valid": False}
HARM = {"difference": 0.06, "low": 0.01, "high": 0.11, "method": "welch"}
NOTHING = {"difference": -0.03, "low": -0.08, "high": 0.02, "method": "welch"}


def plain(text):
    return text.replace("\xa0", " ")


def headline(record):
    return plain(sentences.verdict(record, "EUR").headline)


@pytest.mark.parametrize(
    ("record", "tone", "line"),
    [
        (
            make_record(),
            "good",
            "Contacting keeps clients: 8 fewer in 100 left (95 % interval 2 to 14), worth EUR 1.2 M.",
        ),
        (
            make_record(verdict="harms", last_look=SECOND | {"effect": HARM, "verdict": "harms"}),
            "bad",
            "Contacting does harm: 6 more in 100 left (95 % interval 1 to 11).",
        ),
        (
            make_record(
                verdict="no_effect", last_look=SECOND | {"effect": NOTHING, "verdict": "open"}
            ),
            "warn",
            "A year without a proven effect: 3 fewer in 100 left (95 % interval from 2 more to 8 "
            "fewer).",
        ),
        (
            make_open(),
            "",
            "Not known yet: next look in July 2026, with about 120 more outcomes; it will not show "
            "effects under 12 points.",
        ),
        (make_open(next_look=None), "", "Not known yet: nobody has been held out so far."),
        (
            make_open(next_look=None, state="off"),
            "",
            "Unknown: the experiment was switched off before it proved anything.",
        ),
        (
            make_open(next_look=make_open()["next_look"] | {"smallest_effect": 1.3}),
            "",
            "Not known yet: next look in July 2026, with about 120 more outcomes; that is too early to "
            "see any effect.",
        ),
        (
            make_record(verdict="void", ratio=VOID),
            "bad",
            "Void: 31 % of the clients were held out, 20 % planned.",
        ),
        (
            make_record(verdict="void", draws=MOVED),
            "bad",
            "Void: 2 of 600 assignments differ from the draw.",
        ),
        (
            make_record(verdict="void", draws=MOVED | {"differ": 1}, ratio=None),
            "bad",
            "Void: 1 of 600 assignments differs from the draw.",
        ),
        (
            make_record(verdict="void", lost=VANISHED),
            "bad",
            "Void: 12 % of the listed clients have vanished from the data, and 2.0 % of the held-out "
            "ones.",
        ),
    ],
)
def test_first_line_is_the_verdict(record, tone, line):
    assert headline(record) == line
    assert sentences.verdict(record, "EUR").tone == tone
    assert plain(sentences.all_sentences(record, "EUR")[0]) == line


def test_void_by_the_draw_names_the_first_assignment_and_what_to_do():
    detail = sentences.all_sentences(make_record(verdict="void", draws=MOVED), "EUR")[1]
    assert (
        "The first one is number 17 in the table assignments of contacts/contacts.sqlite" in detail
    )
    assert "Compare the file with a backup" in detail


def test_fault_of_the_running_year_is_a_remark_beside_an_earlier_verdict():
    assert sentences.remarks(make_record(verdict="void", ratio=VOID)) == []
    (text,) = sentences.remarks(make_record(ratio=VOID))
    assert "so that look will be void: 31\xa0% of the clients were held out" in text
    assert text.endswith("or in the settings, before that look.")


def test_void_by_lost_clients_says_what_to_do():
    detail = sentences.all_sentences(make_record(verdict="void", lost=VANISHED), "EUR")[1]
    assert detail.startswith("Chance alone explains that once in 25,000 times")
    assert (
        "Find out why clients vanish (are they renamed or merged after a contact?), before you"
        in detail
    )


def test_assignments_that_were_all_recomputed_need_no_explanation():
    every = make_record()["draws"] | {"recomputed": 631}
    texts = sentences.all_sentences(make_record(draws=every, looks=[]), "EUR")
    assert "Assignments recomputed: 631 of 631; differences from the draw: 0." in texts


def test_a_proven_effect_is_that_of_the_look_that_proved_it():
    later = SECOND | {"number": 3, "verdict": "open", "effect": NOTHING, "money": None}
    record = make_record(looks=[FIRST, SECOND, later], last_look=later)
    assert "8 fewer in 100 left (95 % interval 2 to 14)" in headline(record)


def test_interval_without_zero_that_proves_nothing_is_explained():
    record = make_open(last_look=FIRST)
    detail = sentences.verdict(record, "EUR").detail
    assert "proved nothing" in detail
    assert "z beyond ±3.93" in detail
    assert detail.endswith("An effect of 12 points means that 12 fewer in 100 leave.")
    crossing = FIRST | {"effect": NOTHING}
    detail = sentences.verdict(make_open(last_look=crossing), "EUR").detail
    assert "excludes zero" not in detail


def test_worth_that_may_be_nothing_is_no_part_of_the_first_line():
    look = SECOND | {"money": SECOND["money"] | {"low": -1e5}}
    assert "worth" not in headline(make_record(last_look=look))
    detail = plain(sentences.verdict(make_record(last_look=look), "EUR").detail)
    assert "kept EUR 1.2 M (95 % interval -100,000 to 2.1 M)" in detail


def test_no_effect_is_that_at_the_end_of_the_year():
    last = SECOND | {"number": 4, "verdict": "open", "effect": NOTHING}
    later = FIRST | {"effect": HARM}
    record = make_record(verdict="no_effect", looks=[FIRST, SECOND, last, later], last_look=later)
    assert "3 fewer in 100 left" in headline(record)


def test_harm_is_shown_as_a_cost():
    look = SECOND | {"effect": HARM, "verdict": "harms"}
    look |= {"money": {"clients": 400, "value": -4e5, "low": -9e5, "high": -1e4}}
    record = make_record(verdict="harms", last_look=look)
    detail = plain(sentences.verdict(record, "EUR").detail)
    assert "400 listed clients lost EUR 400,000 (95 % interval 10,000 to 900,000)" in detail


def test_everything_behind_the_verdict_is_stated():
    text = plain(" ".join(sentences.all_sentences(make_record(), "EUR")))
    for part in (
        "25 clients who would be listed are held out by chance this quarter",
        "Last look: 1 July 2026, number 2 of 4 in its year. Strength of the evidence: z = −3.02; proven "
        "beyond ±2.78. Estimated from each outcome minus the risk of the client (Welch).",
        "Next look: 1 October 2026, number 3 of 4 in its year, with about 120 more outcomes.",
        "Among those who were reached (61 % of the listed, 2.0 % of the held out by chance), "
        "13 fewer in 100 left (95 % interval 3 to 23)",
        "Sample ratio: At the look on 1 July 2026: 20 % were held out, 20 % planned: as expected by "
        "chance (p = 0.430). For the next look, so far: 20 % were held out",
        "Assignments recomputed: At the look on 1 July 2026: 600 of 631; differences from "
        "the draw: 0. For the next look, so far: 600 of 631; differences from the draw: 0. "
        "The others cannot be recomputed",
        "3 held-out clients (3.0 %) were contacted all the same",
        "What it costs: This quarter the list has 92 % of the value at risk that it would have without "
        "held-out clients.",
        "Of 80 held-out clients whose outcome is known and whom nobody contacted, 31 left (39 %, 95 % "
        "interval 29 % to 49 %); their risks predicted 33.",
        "left 45 days after they would first have been listed (median of the 12 whose dates are known)",
    ):
        assert part in text


@pytest.mark.parametrize("key", [*make_record()])
def test_a_figure_that_is_not_known_breaks_no_sentence(key):
    if key not in ("state", "units", "verdict"):
        record = make_record(**{key: None})
        assert all(sentences.all_sentences(record, "EUR"))
        assert sentences.arm_table(record)[1][0][0] == "Listed"


@pytest.mark.parametrize("part", ["effect", "money", "per_reached", "z"])
def test_a_look_without_a_figure_breaks_no_sentence(part):
    look = SECOND | {part: None}
    text = sentences.all_sentences(make_record(last_look=look), "EUR")
    assert not any("None" in one or "nan" in one for one in text)


def test_what_is_not_as_it_should_be_is_remarked():
    high = {"clients": 12, "share": 0.12, "is_high": True}
    assert sentences.remarks(make_record()) == []
    (text,) = sentences.remarks(make_record(contacted_controls=high))
    assert "so far: 12 held-out clients (12\xa0%) were contacted all the same" in text
    look = SECOND | {"contacted_controls": high}
    (text,) = sentences.remarks(make_record(looks=[look]))
    assert "July 2026: 12 held-out clients (12\xa0%) were contacted all the same" in text
    terms = [
        dict(sentences.background(make_record(contacted_controls=each, looks=[])))
        for each in (None, high)
    ]
    assert not any("Contacted all the same" in each for each in terms)  # unknown, or remarked
    (text,) = sentences.remarks(make_record(state="no_key"))
    assert "key" in text
    (text,) = sentences.remarks(make_record(state="off"))
    assert "switched off" in text


def test_list_costs_nothing_if_nobody_is_held_out():
    assert "What it costs" in dict(sentences.background(make_record()))
    assert "What it costs" not in dict(sentences.background(make_record(held_out=0)))


def test_groups_before_the_first_look_have_no_outcome_that_could_be_peeked_at():
    columns, rows = sentences.arm_table(make_open())
    assert [name for name, _ in columns][1:4] == [
        "Compared at the last look",
        "Left",
        "Expected to leave",
    ]
    assert [row[1:4] for row in rows] == [["–"] * 3] * 2
    _, rows = sentences.arm_table(make_record())
    assert [plain(cell) for cell in rows[1]] == [
        *("Held out by chance", "100", "31 (31 %)", "33"),
        *("104", "25", "0", "2.0 %"),
    ]
