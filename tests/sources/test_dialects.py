import pytest

from attrition.config import DEFAULT_DIALECT, Dialect
from attrition.sources.dialects import detect_dates, detect_encoding, detect_numbers

WORDS = "Name;Wert\nMüller & Söhne;5\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"name;value", "utf-8"),
        (WORDS.encode(), "utf-8"),
        (WORDS.encode("utf-16"), "utf-16"),
        (WORDS.encode("utf-16-be"), "utf-16"),
        (WORDS.encode("windows-1252"), "windows-1252"),
        (f"{WORDS}5 €".encode("windows-1252"), "windows-1252"),
        (f"{WORDS}5 €".encode("iso-8859-15"), "iso-8859-15"),
        (WORDS.encode() + WORDS.encode("windows-1252"), None),
        (b"M\x81ller", None),
        (b"a,b\n1,\x00\n", None),
    ],
)
def test_encoding_is_detected_by_the_bytes_alone(data, encoding):
    assert detect_encoding(data) == encoding


@pytest.mark.parametrize(
    ("texts", "keys"),
    [
        (["1.5", "2"], {}),
        (["45,0", "3"], {"decimal": ","}),
        (["1.234", "1.234,56"], {"decimal": ","}),
        (["1,234", "1,234.56"], {"thousands": ","}),
        (["1'234.5", "7"], {"thousands": "'"}),
        (["1 234,5"], {"decimal": ",", "thousands": " "}),
        (["0,125", "0,250"], {"decimal": ","}),
        (["x", "", "NA"], {}),
    ],
)
def test_number_that_decides_is_enough(texts, keys):
    proposal = detect_numbers({text: i for i, text in enumerate(texts)}, DEFAULT_DIALECT)
    assert (proposal.keys, proposal.ambiguities) == (keys, ())


def test_typed_numbers_are_never_ambiguous():
    assert detect_numbers({"1.234": 2}, DEFAULT_DIALECT, is_typed=True).ambiguities == ()
    assert detect_numbers({"1.234": 2}, DEFAULT_DIALECT).ambiguities != ()


@pytest.mark.parametrize(
    ("texts", "dates"),
    [
        (["2026-08-31", "2026-08-31T10:00:00Z"], None),
        (["31.08.2026", "01.09.2026 12:30"], "%d.%m.%Y"),
        (["03/04/2026", "03/14/2026"], "%m/%d/%Y"),
        (["03/04/2026", "14/03/2026"], "%d/%m/%Y"),
        (["31-Aug-2026"], "%d-%b-%Y"),
        (["08/31/2026 01:30 PM"], "%m/%d/%Y %I:%M %p"),
        (["31.08.26"], "%d.%m.%y"),
    ],
)
def test_date_that_decides_is_enough(texts, dates):
    proposal = detect_dates({text: i for i, text in enumerate(texts)}, DEFAULT_DIALECT)
    assert (proposal.keys.get("dates"), proposal.ambiguities) == (dates, ())


def test_dialect_that_reads_all_is_kept():
    german = Dialect(decimal=",", thousands=".", dates="%d.%m.%Y")
    assert detect_numbers({"1.234,5": 2, "45,0": 3}, german).keys == {}
    assert detect_dates({"31.08.2026": 2}, german).keys == {}
