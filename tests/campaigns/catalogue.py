"""The files that ingestion meets, good and bad, and the verdict that each must get.

Each case is a file in a folder of its own (or beside the files that it follows), written in the columns
of a `Form`: the verdicts do not depend on the columns, save for the words that an outcome may have.
`records == accepted + rejected + duplicates` holds for every one of them.
"""

import gzip
import io
import json
import os
import pickle
import sqlite3
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
ACCEPT, ROWS_OUT, FILE_OUT, SKIP = "accept", "quarantine_rows", "quarantine_file", "skip"
# Small enough for a bomb to be made and refused in a moment, large enough for all other cases.
MAX_SOURCE_MB = 32


# ---- the columns that it is written in

PLAIN_LABELS = {
    "f10_yes": "Yes", "f11_no": "no", "f12_true": "TRUE", "f13_false": "false", "f14_y": "y",
    "f15_float": "1.0",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Form:
    """Columns, four good rows in them, and what config.json says of them.

    `number` is a feature >= 0; `stayed` and `left` are the outcomes as the rows have them; `labels`
    are the other ways of the catalogue to write one, and `not_labels` those that this form refuses.
    `always` is noted of every file: config.json lists columns by their kind, the public table does not.
    """

    name: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    client: str
    number: str
    outcome: str
    stayed: str = "0"
    left: str = "1"
    labels: Mapping[str, str] = field(default_factory=dict)
    not_labels: Mapping[str, str] = field(default_factory=dict)
    always: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def header(self) -> str:
        return ",".join(self.columns)

    @property
    def good(self) -> str:
        return self.lines(*self.rows)

    @property
    def folded(self) -> str:
        """The header, with other capitals and a blank around the first name."""
        return f" {self.header.replace(',', ' ,', 1).swapcase()}"

    def lines(self, *rows: str, header: str | None = None, end: str = "\n") -> str:
        return end.join((self.header if header is None else header, *rows)) + end

    def row(self, client: str = "echo", number: str = "1", outcome: str | None = None) -> str:
        """A good row that is none of the four; each argument is the text of its cell, as it stands."""
        return self.cells({
            self.client: client,
            self.number: number,
            self.outcome: self.stayed if outcome is None else outcome,
        })  # fmt: skip

    def cells(self, changes: Mapping[str, str]) -> str:
        """The first row, with other texts in some of its columns."""
        found = dict(zip(self.columns, self.rows[0].split(","), strict=True))
        return ",".join((found | changes).values())

    def empty_but(self, *kept: str) -> str:
        """A row with its client and a value in these columns alone."""
        empty = {name: "" for name in self.columns if name not in kept}
        return self.cells({**empty, self.client: "echo"})

    def with_row(self, row: str) -> str:
        """The four good rows and a fifth."""
        return self.good + row + "\n"

    def with_number(self, value: str) -> str:
        return self.with_row(self.row(number=quoted(value)))

    def with_outcome(self, value: str) -> str:
        return self.with_row(self.row(outcome=quoted(value)))

    def with_client(self, value: str) -> str:
        return self.with_row(self.row(client=quoted(value)))


def quoted(value: str) -> str:
    return f'"{value}"' if "," in value or "\n" in value else value


PLAIN = Form(
    name="plain",
    columns=(
        "corporation", "lastmonth_activity", "lastyear_activity", "number_of_employees", "exited",
    ),
    rows=("acme,10,120,5,0", "bolt,0,7,40,1", "corp,33,400,999,0", "dune,2,90,12,1"),
    client="corporation",
    number="lastmonth_activity",
    outcome="exited",
    labels=PLAIN_LABELS,
)  # fmt: skip

TELCO = Form(
    name="telco",
    columns=(
        "customerID", "gender", "SeniorCitizen", "Partner", "Dependents", "tenure", "PhoneService",
        "MultipleLines", "InternetService", "OnlineSecurity", "OnlineBackup", "DeviceProtection",
        "TechSupport", "StreamingTV", "StreamingMovies", "Contract", "PaperlessBilling",
        "PaymentMethod", "MonthlyCharges", "TotalCharges", "Churn",
    ),
    rows=(
        "0001-ACMEA,Female,0,Yes,No,10,No,No phone service,DSL,No,Yes,No,No,No,No,Month-to-month,Yes,"
        "Electronic check,29.85,298.5,No",
        "0002-BOLTB,Male,1,No,No,0,Yes,No,Fiber optic,No,No,No,No,Yes,Yes,Month-to-month,Yes,"
        "Mailed check,99.65,,Yes",
        "0003-CORPC,Female,0,No,Yes,33,Yes,Yes,DSL,Yes,No,Yes,Yes,No,No,One year,No,"
        "Bank transfer (automatic),56.95,1889.5,No",
        "0004-DUNED,Male,0,No,No,2,Yes,No,No,No internet service,No internet service,"
        "No internet service,No internet service,No internet service,No internet service,"
        "Month-to-month,No,Mailed check,20.25,40.5,Yes",
    ),
    client="customerID",
    number="tenure",
    outcome="Churn",
    stayed="No",
    left="Yes",
    labels={"f10_yes": "YES", "f11_no": "no"},
    not_labels={name: text for name, text in PLAIN_LABELS.items() if text.lower() not in ("yes", "no")}
    | {"f16_one": "1", "f17_zero": "0"},
    always="REORDERED",
    settings={"columns": json.loads((ROOT / "examples" / "telco.json").read_text())["columns"]},
)  # fmt: skip

FORMS = (PLAIN, TELCO)
HEADER, ROWS, GOOD, lines = PLAIN.header, PLAIN.rows, PLAIN.good, PLAIN.lines


# ---- a case


class Case(NamedTuple):
    """A file and its verdict; `after` says which cases lie in the folder, ingested, before it.

    `content` is what the file holds, or what makes it.
    """

    name: str
    content: bytes | Callable[[Path], object]
    outcome: str
    code: str = ""
    counts: tuple[int, int, int] = (0, 0, 0)
    after: tuple["Case", ...] = ()

    def write(self, path: Path) -> None:
        if callable(self.content):
            self.content(path)
        else:
            path.write_bytes(self.content)


def case(
    name: str,
    content: str | bytes | Callable[[Path], object],
    outcome: str = ACCEPT,
    code: str = "",
    counts: tuple[int, int, int] = (0, 0, 0),
    after: tuple[Case, ...] = (),
) -> Case:
    data = content.encode() if isinstance(content, str) else content
    return Case(name, data, outcome, code, counts, after)


def first_tick(form: Form) -> list[Case]:
    """Every case but those of the next run."""
    groups = (
        in_folder, of_bytes, of_shape, of_header, of_numbers, of_outcomes, of_clients, of_repeats,
        of_size,
    )  # fmt: skip
    return [found for group in groups for found in group(form)]


def all_cases(form: Form) -> list[Case]:
    return first_tick(form) + second_tick(form)


WHOLE, ONE_BAD = (5, 0, 0), (4, 1, 0)


# ---- a: what lies in a folder


def zipped(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", text)
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"corporation": ["acme"]}), buffer)
    return buffer.getvalue()


def write_sqlite(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()


def link_to(target: str, text: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        inside = path.parent / "target.txt"
        inside.write_text(text)
        (path.parent.parent / "outside.csv").write_text(text)
        path.symlink_to(target)

    return write


def write_unreadable(text: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.write_text(text)
        path.chmod(0)

    return write


def write_nested(text: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        path.parent.mkdir()
        path.write_text(text)

    return write


PAGE = "<!DOCTYPE html>\n<html><body>504 Gateway Timeout</body></html>\n"
JSON = '[{"corporation":"acme","lastmonth_activity":1,"exited":0}]\n'
PICKLE = pickle.dumps({"corporation": ["acme"]}, protocol=4)
LONG_NAME = "a34_" + "n" * 240 + ".csv"


def a01(form: Form) -> Case:
    return case("a01_good.csv", form.good, counts=(4, 0, 0))


def a02() -> Case:
    return case("a02_empty.csv", b"", FILE_OUT, "EMPTY_FILE")


def in_folder(form: Form) -> list[Case]:
    good, taken = form.good, (4, 0, 0)
    secret = write_unreadable(good)
    return [
        a01(form),
        a02(),
        case("a03_header_only.csv", form.lines(), ACCEPT, "NO_ROWS"),
        case("a04_blank_lines_only.csv", "\n \n\n\t\n", FILE_OUT, "NO_HEADER"),
        case("a05_no_header.csv", "\n".join(form.rows) + "\n", FILE_OUT, "NO_HEADER"),
        case("a06_gzip_disguised.csv", gzip.compress(good.encode()), FILE_OUT, "BINARY_GZIP"),
        case("a07_zip_disguised.csv", zipped(good), FILE_OUT, "BINARY_ZIP"),
        case("a08_xlsx_renamed.csv", zipped(good), FILE_OUT, "BINARY_ZIP"),
        case("a09_pdf.csv", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", FILE_OUT, "BINARY_PDF"),
        case("a10_sqlite.csv", write_sqlite, FILE_OUT, "BINARY_SQLITE"),
        case("a11_parquet.csv", parquet(), FILE_OUT, "BINARY_PARQUET"),
        case("a12_html_error_page.csv", PAGE, FILE_OUT, "NOT_CSV_HTML"),
        case("a13_json.csv", JSON, FILE_OUT, "HEADER_MISMATCH"),
        case("a13_json_lines.csv", JSON.strip("[]\n") + "\n", FILE_OUT, "HEADER_MISMATCH"),
        case("a13_json_pretty.csv", "[\n  {\n" + JSON[2:], FILE_OUT, "HEADER_MISMATCH"),
        case("a14_pickle.csv", PICKLE, FILE_OUT, "BINARY_NUL"),
        case("a15_dir_named.csv", Path.mkdir, FILE_OUT, "NOT_REGULAR"),
        case("a16_fifo.csv", os.mkfifo, FILE_OUT, "NOT_REGULAR"),
        case("a17_symlink_escape.csv", link_to("../outside.csv", good), FILE_OUT, "SYMLINK"),
        case("a18_symlink_inside.csv", link_to("target.txt", good), FILE_OUT, "SYMLINK"),
        case("a19_symlink_dangling.csv", link_to("nowhere.csv", good), FILE_OUT, "SYMLINK"),
        case("a20_symlink_loop.csv", link_to("a20_symlink_loop.csv", good), FILE_OUT, "SYMLINK"),
        case("a21_dev_zero.csv", link_to("/dev/zero", good), FILE_OUT, "SYMLINK"),
        # Anybody else than root cannot read it now: it is no verdict, and it is tried again.
        *([] if os.geteuid() else [case("a22_unreadable.csv", secret, counts=taken)]),
        case(".a23_hidden.csv", good, SKIP, "HIDDEN"),
        case("a24_upload.csv.part", good, SKIP, "NOT_AN_INPUT_NAME"),
        case("a25_x.csv.tmp", good, SKIP, "NOT_AN_INPUT_NAME"),
        case("a26_y.csv~", good, SKIP, "NOT_AN_INPUT_NAME"),
        case("a27_z.csv.swp", good, SKIP, "NOT_AN_INPUT_NAME"),
        case("a28_w.csv.crdownload", good, SKIP, "NOT_AN_INPUT_NAME"),
        case("a29_UPPER.CSV", good, counts=taken),
        case("a30 space & $(id);`id` 'q'.csv", good, counts=taken),
        case("a31_ünïcöde_\u202etxt.csv", good, counts=taken),
        case("a32_\udcff\udcfe.csv", good, counts=taken),
        case("a33_newline\nname.csv", good, counts=taken),
        case(LONG_NAME, good, counts=taken),
        case("sub/a35_nested.csv", write_nested(good), SKIP, "NOT_TOP_LEVEL"),
        case("=a36_formula.csv", good, counts=taken),
    ]


# ---- b: bytes, encodings, ends of lines


def b05(form: Form) -> Case:
    text = form.with_client("Café").encode("latin-1")
    return case("b05_latin1.csv", text, FILE_OUT, "ENCODING")


def b11(form: Form) -> Case:
    return case("b11_crlf.csv", form.good.replace("\n", "\r\n"), counts=(4, 0, 0))


def of_bytes(form: Form) -> list[Case]:
    good, rows, taken = form.good, form.rows, (4, 0, 0)
    data = good.encode()
    cafe = form.with_client("Café").encode()
    smart = form.with_client("\u201cacme\u201d").encode("cp1252")
    mixed = cafe + form.row("Café").encode("latin-1") + b"\n"
    strange = form.with_client("@@").encode()
    separator = form.lines(*rows[:3], rows[3][:2] + "\u2028" + rows[3][2:])
    ends = form.lines(*rows[:2], end="\r\n") + "\n".join(rows[2:]) + "\r"
    again = form.lines(*rows[:2]) + "\ufeff" + form.lines(*rows[2:])
    return [
        case("b01_utf8_bom.csv", b"\xef\xbb\xbf" + data, ACCEPT, "BOM", taken),
        case("b02_utf16le_bom.csv", b"\xff\xfe" + good.encode("utf-16-le"), ACCEPT, "UTF16", taken),
        case("b03_utf16_no_bom.csv", good.encode("utf-16-le"), FILE_OUT, "BINARY_NUL"),
        case("b04_utf32.csv", good.encode("utf-32"), FILE_OUT, "ENCODING"),
        b05(form),
        case("b06_cp1252_smart.csv", smart, FILE_OUT, "ENCODING"),
        case("b07_mixed_encoding.csv", mixed, FILE_OUT, "ENCODING"),
        case("b08_invalid_utf8_tail.csv", cafe[: cafe.index(b"\xc3") + 1], FILE_OUT, "ENCODING"),
        case("b09_overlong_utf8.csv", strange.replace(b"@@", b"\xc0\xaf"), FILE_OUT, "ENCODING"),
        case("b10_surrogate_utf8.csv", strange.replace(b"@@", b"\xed\xa0\x80"), FILE_OUT,
             "ENCODING"),
        b11(form),
        case("b12_cr_only.csv", good.replace("\n", "\r"), counts=taken),
        case("b13_mixed_eol.csv", ends, counts=taken),
        case("b14_nul_inside.csv", form.with_client("ac\x00me"), FILE_OUT, "BINARY_NUL"),
        case("b15_nul_padded_tail.csv", data + b"\x00" * 4096, FILE_OUT, "BINARY_NUL"),
        case("b16_ctrl_z.csv", good + "\x1a", ROWS_OUT, "RAGGED_SHORT", ONE_BAD),
        case("b17_no_final_eol.csv", good[:-1], ACCEPT, "NO_FINAL_EOL", taken),
        case("b18_blank_lines_between.csv", good.replace("\n", "\n\n \n"), counts=taken),
        case("b19_unicode_line_sep.csv", separator, ROWS_OUT, "CONTROL_CHAR", (3, 1, 0)),
        case("b20_bom_twice.csv", "\ufeff\ufeff" + good, ACCEPT, "HEADER_FOLDED", taken),
        case("b21_bom_mid_concat.csv", again, ROWS_OUT, "REPEATED_HEADER", ONE_BAD),
    ]  # fmt: skip


# ---- c: the shape of CSV


def c24(form: Form) -> Case:
    cut = form.rows[3][: len(form.rows[3]) // 2]
    text = form.lines(*form.rows[:3], cut)[:-1]
    return case("c24_cut_last_row.csv", text, ROWS_OUT, "RAGGED_SHORT", (3, 1, 0))


def of_shape(form: Form) -> list[Case]:
    good, rows, header, taken = form.good, form.rows, form.header, (4, 0, 0)
    all_quoted = '"' + good.replace(",", '","').replace("\n", '"\n"')[:-1]
    too_long = [f"{row},9" for row in rows]
    unquoted = form.with_row(form.row("echo, Inc."))
    short = form.with_row(form.row().rsplit(",", 2)[0])
    return [
        case("c01_semicolon.csv", good.replace(",", ";"), ACCEPT, "DELIMITER", taken),
        case("c02_tab.csv", good.replace(",", "\t"), ACCEPT, "DELIMITER", taken),
        case("c03_pipe.csv", good.replace(",", "|"), ACCEPT, "DELIMITER", taken),
        case("c04_excel_sep_line.csv", "sep=;\r\n" + good.replace(",", ";"), ACCEPT, "SEP_LINE",
             taken),
        case("c05_quoted_all.csv", all_quoted, counts=taken),
        case("c06_unterminated_quote.csv", form.lines(form.row('"acme'), *rows), FILE_OUT,
             "UNTERMINATED_QUOTE"),
        case("c07_quote_in_middle.csv", form.with_row(form.row('ec"ho')), counts=WHOLE),
        case("c08_text_after_quote.csv", form.with_row(form.row('"echo"x')), FILE_OUT,
             "BAD_QUOTING"),
        case("c09_backslash_quote.csv", form.with_row(form.row('"ec\\"ho"')), FILE_OUT,
             "BAD_QUOTING"),
        case("c10_doubled_quote.csv", form.with_row(form.row('"ec""ho"')), counts=WHOLE),
        case("c11_comma_in_quotes.csv", form.with_client("echo, Inc."), counts=WHOLE),
        case("c12_newline_in_quotes.csv", form.with_client("ec\nho"), ROWS_OUT, "CONTROL_CHAR",
             ONE_BAD),
        case("c13_short_row.csv", short, ROWS_OUT, "RAGGED_SHORT", ONE_BAD),
        case("c14_long_row.csv", form.with_row(form.row() + ",7"), ROWS_OUT, "RAGGED_LONG", ONE_BAD),
        case("c15_long_first_row.csv", form.lines(form.row() + ",7", *rows), ROWS_OUT,
             "RAGGED_LONG", ONE_BAD),
        case("c16_all_rows_long.csv", form.lines(*too_long), ROWS_OUT, "RAGGED_LONG", (0, 4, 0)),
        case("c17_trailing_comma_all.csv", good.replace("\n", ",\n"), ACCEPT, "EMPTY_COLUMN", taken),
        case("c18_unquoted_comma.csv", unquoted, ROWS_OUT, "RAGGED_LONG", ONE_BAD),
        case("c19_empty_fields.csv", form.with_row(form.empty_but(form.number, form.outcome)),
             counts=WHOLE),
        case("c20_comment_line.csv", form.with_row("# made by the export"), ROWS_OUT,
             "RAGGED_SHORT", ONE_BAD),
        case("c21_totals_footer.csv", form.with_row(form.empty_but().replace("echo", "TOTAL")),
             ROWS_OUT, "TOTAL_ROW", ONE_BAD),
        case("c22_repeated_header.csv", form.lines(*rows[:2], header, *rows[2:]), ROWS_OUT,
             "REPEATED_HEADER", ONE_BAD),
        case("c23_title_above.csv", f"Export of all clients\n\n{good}", FILE_OUT, "HEADER_MISMATCH"),
        c24(form),
        case("c25_cut_header.csv", header[: len(header) // 2], FILE_OUT, "HEADER_MISMATCH"),
    ]  # fmt: skip


# ---- d: headers


def write_million_columns(header: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(f"{header}{',x' * 1_000_000}\n")


def of_header(form: Form) -> list[Case]:
    rows, header, taken = form.rows, form.header, (4, 0, 0)
    too_long = [f"{row},9" for row in rows]
    indexed = [f"{i},{row}" for i, row in enumerate(rows)]
    backwards = [",".join(line.split(",")[::-1]) for line in (header, rows[0])]
    at = form.columns.index(form.number)
    without = [line.split(",") for line in (header, *rows)]
    missing = "".join(",".join(cells[:at] + cells[at + 1 :]) + "\n" for cells in without)
    renamed = header.replace(form.client, "company", 1)
    nameless = header.replace(form.client, "", 1)
    alike = form.outcome[0].translate(str.maketrans("eC", "\u0435\u0421")) + form.outcome[1:]
    homoglyph = header.removesuffix(form.outcome) + alike
    assert alike != form.outcome
    return [
        case("d01_missing_column.csv", missing, FILE_OUT, "HEADER_MISMATCH"),
        case("d02_extra_column.csv", form.lines(*too_long, header=f"{header},note"), ACCEPT,
             "EXTRA_COLUMN", taken),
        case("d03_reordered.csv", "\n".join(backwards) + "\n", ACCEPT, "REORDERED", (1, 0, 0)),
        case("d04_duplicate_header.csv", form.lines(*too_long, header=f"{header},{form.outcome}"),
             FILE_OUT, "DUP_HEADER"),
        case("d05_dup_after_fold.csv",
             form.lines(*too_long, header=f"{header}, {form.outcome.swapcase()}"), FILE_OUT,
             "DUP_HEADER"),
        case("d06_case_and_space.csv", form.lines(*rows, header=form.folded), ACCEPT,
             "HEADER_FOLDED", taken),
        case("d07_renamed_column.csv", form.lines(*rows, header=renamed), FILE_OUT,
             "HEADER_MISMATCH"),
        case("d08_empty_name.csv", form.lines(*rows, header=nameless), FILE_OUT, "HEADER_MISMATCH"),
        case("d09_nbsp_header.csv", form.lines(*rows, header=f"{header}\xa0"), ACCEPT,
             "HEADER_FOLDED", taken),
        case("d10_homoglyph.csv", form.lines(*rows, header=homoglyph), FILE_OUT, "HEADER_MISMATCH"),
        case("d11_index_column.csv", form.lines(*indexed, header=f",{header}"), ACCEPT,
             "EXTRA_COLUMN", taken),
        case("d12_million_columns.csv", write_million_columns(header), FILE_OUT, "TOO_MANY_COLUMNS"),
        case("d12_many_columns.csv", f"{header}{',x' * 3000}\n", FILE_OUT, "TOO_MANY_COLUMNS"),
        case("d13_extra_named_like_code.csv",
             form.lines(*too_long, header=f"{header},@os.system('id')"), ACCEPT, "EXTRA_COLUMN",
             taken),
    ]  # fmt: skip


# ---- e: numbers

NUMBERS_TAKEN = {
    "e01_nan": "NaN", "e04_na": "NA", "e05_null": "null", "e06_none": "None", "e07_dash": "-",
    "e08_qmark": "?", "e09_empty": "", "e10_spaces": "   ", "e17_fraction": "12.5",
    "e18_tiny": "5e-324", "e31_excel_error": "#DIV/0!", "e41_month_gt_year": "5000",
}  # fmt: skip
NUMBERS_NORMALISED = {
    "e50_float_int": "12.0", "e51_sci": "1.2e1", "e52_leading_zero": "012", "e53_plus": "+12",
    "e54_padded": " 12 ", "e55_neg_zero": "-0",
}  # fmt: skip
NUMBERS_REFUSED = {
    "e02_inf": ("inf", "NOT_FINITE"),
    "e03_neginf": ("-Infinity", "NOT_FINITE"),
    "e11_negative": ("-3", "OUT_OF_RANGE"),
    "e12_1e308": ("1e308", "OUT_OF_RANGE"),
    "e13_1e400": ("1e400", "OUT_OF_RANGE"),
    "e14_2p63": (str(2**63), "OUT_OF_RANGE"),
    "e15_1e30int": ("1" + "0" * 30, "OUT_OF_RANGE"),
    "e16_5000digits": ("9" * 5000, "OUT_OF_RANGE"),
    "e19_thousands": ("1,234", "LOCALE_NUMBER"),
    "e20_eu_decimal": ("12,5", "LOCALE_NUMBER"),
    "e21_swiss": ("1'234", "LOCALE_NUMBER"),
    "e22_currency": ("€12", "BAD_NUMBER"),
    "e23_percent": ("12%", "BAD_NUMBER"),
    "e24_hex": ("0x1F", "BAD_NUMBER"),
    "e25_underscore": ("1_000", "BAD_NUMBER"),
    "e26_arabic_digits": ("١٢", "BAD_NUMBER"),
    "e27_fullwidth": ("１２", "BAD_NUMBER"),
    "e28_unicode_minus": ("\u221212", "BAD_NUMBER"),
    "e29_nbsp": ("12\xa0", "BAD_NUMBER"),
    "e30_word": ("twelve", "BAD_NUMBER"),
    "e32_excel_hash": ("#####", "BAD_NUMBER"),
    "e33_date": ("2026-01-05", "BAD_NUMBER"),
    "e34_date_us": ("01/05/2026", "BAD_NUMBER"),
    "e35_formula": ("=1+1", "BAD_NUMBER"),
    "e36_bool": ("True", "BAD_NUMBER"),
    "e37_complex": ("1+2j", "BAD_NUMBER"),
    "e38_two": ("1 2", "BAD_NUMBER"),
    "e39_dots": ("1.2.3", "BAD_NUMBER"),
    "e40_expo_half": ("1e", "BAD_NUMBER"),
}


def of_numbers(form: Form) -> list[Case]:
    taken = NUMBERS_TAKEN.items()
    normalised = NUMBERS_NORMALISED.items()
    refused = NUMBERS_REFUSED.items()
    return [
        *(case(f"{n}.csv", form.with_number(v), counts=WHOLE) for n, v in taken),
        *(case(f"{n}.csv", form.with_number(v), ACCEPT, "NORMALISED", WHOLE)
          for n, v in normalised),
        *(case(f"{n}.csv", form.with_number(v), ROWS_OUT, code, ONE_BAD)
          for n, (v, code) in refused),
    ]  # fmt: skip


# ---- f: outcomes

NEVER_LABELS = {
    "f01_two": "2", "f02_minus": "-1", "f03_maybe": "maybe", "f04_half": "0.5", "f05_word": "left"
}  # fmt: skip


def of_outcomes(form: Form) -> list[Case]:
    refused = {**NEVER_LABELS, **form.not_labels}.items()
    one_class = form.lines(*(form.row(f"client{i}") for i in range(4)))
    return [
        *(case(f"{n}.csv", form.with_outcome(v), ROWS_OUT, "BAD_LABEL", ONE_BAD)
          for n, v in refused),
        *(case(f"{n}.csv", form.with_outcome(v), ACCEPT, "LABEL", WHOLE)
          for n, v in form.labels.items()),
        case("f06_missing.csv", form.with_outcome(""), counts=WHOLE),
        case("f07_stayed.csv", form.with_outcome(form.stayed), counts=WHOLE),
        case("f08_left.csv", form.with_outcome(form.left), counts=WHOLE),
        case("f20_single_class.csv", one_class, counts=(4, 0, 0)),
    ]  # fmt: skip


# ---- g: clients

CLIENTS_TAKEN = {
    "g01_leading_zero": "007", "g02_sci": "1e5", "g03_date": "2026-01-05", "g04_na": "NA",
    "g05_null": "null", "g06_none": "None", "g07_nan": "NaN", "g08_true": "True",
    "g09_formula": "=cmd|' /C calc'!A0", "g10_at": "@SUM(1)", "g11_plus": "+1+1",
    "g12_minus": "-1-1", "g13_html": "<script>alert(1)</script>",
    "g14_rl_font": "<font color=red>x</font>", "g15_mathtext": "$\\frac{1}$",
    "g16_jinja": "{{ 7*7 }}", "g17_sql": "'; DROP TABLE clients;--", "g18_path": "../../etc/passwd",
    "g19_percent": "%s %(x)s %n", "g20_emoji": "🚀 Ltd", "g21_rtl": "חברה בע״מ",
    "g22_quote": "O'Neil", "g23_single_char": "x", "g24_ansi_text": "[31mred[0m",
}  # fmt: skip
CLIENTS_REFUSED = {
    "g40_empty": ("", "MISSING_VALUE"),
    "g41_blank": ("   ", "MISSING_VALUE"),
    "g42_ctrl": ("ec\x07ho", "CONTROL_CHAR"),
    "g43_esc": ("\x1b[31mecho", "CONTROL_CHAR"),
    "g44_bidi": ("ec\u202eho", "CONTROL_CHAR"),
    "g45_zero_width": ("ec\u200bho", "CONTROL_CHAR"),
    "g46_long": ("x" * 10_000, "BAD_ID"),
    "g47_zalgo": ("z" + "\u0301" * 30, "BAD_ID"),
}
HUGE = "x" * 200_000


def of_clients(form: Form) -> list[Case]:
    taken, refused = CLIENTS_TAKEN.items(), CLIENTS_REFUSED.items()
    huge_header = form.lines(*form.rows, header=f"{form.header},{HUGE}")
    one_line = form.good.replace("\n", ",") * 200
    return [
        *(case(f"{n}.csv", form.with_client(v), counts=WHOLE) for n, v in taken),
        *(case(f"{n}.csv", form.with_client(v), ROWS_OUT, code, ONE_BAD)
          for n, (v, code) in refused),
        case("g30_padded.csv", form.with_client("  echo "), ACCEPT, "NORMALISED", WHOLE),
        case("g32_nbsp.csv", form.with_client("ec\xa0ho\u202f"), ACCEPT, "NORMALISED", WHOLE),
        case("g31_nfd.csv", form.with_client("Cafe\u0301"), ACCEPT, "NFC", WHOLE),
        case("g50_huge_field.csv", form.with_client(HUGE), FILE_OUT, "FIELD_TOO_LONG"),
        case("g50_huge_header.csv", huge_header, FILE_OUT, "FIELD_TOO_LONG"),
        case("g51_one_long_line.csv", one_line, FILE_OUT, "TOO_MANY_COLUMNS"),
    ]  # fmt: skip


# ---- h: repeats and conflicts


def h05(form: Form) -> Case:
    return case("h05_cross_a.csv", form.lines(*form.rows[:3]), counts=(3, 0, 0))


def of_repeats(form: Form) -> list[Case]:
    rows = form.rows
    padded = form.lines(form.row(), form.row(" echo ", "+1.0"))
    stayed, left = form.row(), form.row(outcome=form.left)
    cross = form.lines(rows[1], rows[2], form.row("echo"), form.row("fox"))
    h07 = case("h07_conflict_a.csv", form.lines(left), counts=(1, 0, 0))
    return [
        case("h01_dup_rows.csv", form.with_row(rows[0]), ACCEPT, "DUP_ROWS", (4, 0, 1)),
        case("h02_dup_after_norm.csv", padded, ACCEPT, "DUP_ROWS", (1, 0, 1)),
        case("h03_conflicting_label.csv", form.lines(stayed, left, *rows[1:]), ROWS_OUT, "CONFLICT",
             (3, 2, 0)),
        case("h04_all_dup.csv", form.lines(*[rows[0]] * 5), ACCEPT, "DUP_ROWS", (1, 0, 4)),
        h05(form),
        case("h06_cross_b.csv", cross, ACCEPT, "DUP_ROWS", (2, 0, 2), (h05(form),)),
        h07,
        case("h08_conflict_b.csv", form.lines(stayed), ROWS_OUT, "CONFLICT", (0, 1, 0), (h07,)),
        case("h09_copy_of_a01.csv", form.good, SKIP, "SAME_CONTENT", after=(a01(form),)),
    ]  # fmt: skip


# ---- z: what is too large


def write_sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)  # it costs nothing, until somebody reads it


def write_bomb(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(2 * MAX_SOURCE_MB):
            file.write(b"0" * (1 << 20))


def of_size(form: Form) -> list[Case]:
    whole = gzip.compress(form.good.encode())
    return [
        case("z01_sparse.csv", write_sparse, FILE_OUT, "TOO_LARGE"),
        case("z02_bomb.csv.gz", write_bomb, FILE_OUT, "TOO_LARGE"),
        case("z03_good.csv.gz", whole, counts=(4, 0, 0)),
        case("z04_cut.csv.gz", whole[: len(whole) // 2], FILE_OUT, "BAD_GZIP"),
    ]


# ---- the same folder at the next run


def second_tick(form: Form) -> list[Case]:
    first, rows = a01(form), form.rows
    new = (form.row("echo"), form.row("fox"))
    grown, other = form.lines(*rows[:3], *new), form.lines(*new, end="\r\n")
    cut, crlf, latin1, empty = c24(form), b11(form), b05(form), a02()
    return [
        case(first.name, form.good, SKIP, after=(first,)),
        case(h05(form).name, grown, ACCEPT, "CHANGED", (2, 0, 3), (h05(form),)),
        case(crlf.name, other, ACCEPT, "CHANGED", (2, 0, 0), (crlf,)),
        case("i04_renamed_good.csv", form.good, SKIP, "SAME_CONTENT", after=(first,)),
        case(empty.name, form.lines(*new), counts=(2, 0, 0), after=(empty,)),
        case(cut.name, form.good, ACCEPT, "CHANGED", (1, 0, 3), (cut,)),
        case("i07_fixed_encoding.csv", form.with_client("Café"), counts=WHOLE, after=(latin1,)),
    ]
