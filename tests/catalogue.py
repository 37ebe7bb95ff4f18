"""The files that ingestion meets, good and bad, and the verdict that each must get.

Each case is a file in a folder of its own (or beside the files that it follows), with the plain
columns. `records == accepted + rejected + duplicates` holds for every one of them.
"""

import gzip
import io
import os
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

HEADER = "corporation,lastmonth_activity,lastyear_activity,number_of_employees,exited"
ROWS = ("acme,10,120,5,0", "bolt,0,7,40,1", "corp,33,400,999,0", "dune,2,90,12,1")
GOOD = "\n".join((HEADER, *ROWS)) + "\n"

ACCEPT, ROWS_OUT, FILE_OUT, SKIP = "accept", "quarantine_rows", "quarantine_file", "skip"


class Case(NamedTuple):
    """A file and its verdict; `after` says which cases lie in the folder, ingested, before it."""

    name: str
    write: Callable[[Path], object]
    outcome: str
    code: str = ""
    counts: tuple[int, int, int] = (0, 0, 0)
    after: tuple["Case", ...] = ()


def case(
    name: str,
    content: str | bytes | Callable[[Path], object],
    outcome: str = ACCEPT,
    code: str = "",
    counts: tuple[int, int, int] = (0, 0, 0),
    after: tuple[Case, ...] = (),
) -> Case:
    if callable(content):
        return Case(name, content, outcome, code, counts, after)
    data = content if isinstance(content, bytes) else content.encode()
    return Case(name, lambda path: path.write_bytes(data), outcome, code, counts, after)


def lines(*rows: str, header: str = HEADER, end: str = "\n") -> str:
    return end.join((header, *rows)) + end


def with_row(row: str) -> str:
    """The four good rows and a fifth."""
    return GOOD + row + "\n"


def with_number(value: str) -> str:
    return with_row(f"echo,{quoted(value)},100,5,0")


def with_outcome(value: str) -> str:
    return with_row(f"echo,1,100,5,{quoted(value)}")


def with_client(value: str) -> str:
    return with_row(f"{quoted(value)},1,100,5,0")


def quoted(value: str) -> str:
    return f'"{value}"' if "," in value or "\n" in value else value


# ---- a: what lies in a folder


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", GOOD)
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


def link_to(target: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        inside = path.parent / "target.txt"
        inside.write_text(GOOD)
        (path.parent.parent / "outside.csv").write_text(GOOD)
        path.symlink_to(target)

    return write


def write_unreadable(path: Path) -> None:
    path.write_text(GOOD)
    path.chmod(0)


def write_nested(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(GOOD)


PAGE = "<!DOCTYPE html>\n<html><body>504 Gateway Timeout</body></html>\n"
JSON = '[{"corporation":"acme","lastmonth_activity":1,"exited":0}]\n'
PICKLE = pickle.dumps({"corporation": ["acme"]}, protocol=4)
LONG_NAME = "a34_" + "n" * 240 + ".csv"

A01 = case("a01_good.csv", GOOD, counts=(4, 0, 0))
A02 = case("a02_empty.csv", b"", FILE_OUT, "EMPTY_FILE")
FILES = [
    A01,
    A02,
    case("a03_header_only.csv", lines(), ACCEPT, "NO_ROWS"),
    case("a04_blank_lines_only.csv", "\n \n\n\t\n", FILE_OUT, "NO_HEADER"),
    case("a05_no_header.csv", "\n".join(ROWS) + "\n", FILE_OUT, "NO_HEADER"),
    case("a06_gzip_disguised.csv", gzip.compress(GOOD.encode()), FILE_OUT, "BINARY_GZIP"),
    case("a07_zip_disguised.csv", zipped(), FILE_OUT, "BINARY_ZIP"),
    case("a08_xlsx_renamed.csv", zipped(), FILE_OUT, "BINARY_ZIP"),
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
    case("a17_symlink_escape.csv", link_to("../outside.csv"), FILE_OUT, "SYMLINK"),
    case("a18_symlink_inside.csv", link_to("target.txt"), FILE_OUT, "SYMLINK"),
    case("a19_symlink_dangling.csv", link_to("nowhere.csv"), FILE_OUT, "SYMLINK"),
    case("a20_symlink_loop.csv", link_to("a20_symlink_loop.csv"), FILE_OUT, "SYMLINK"),
    case("a21_dev_zero.csv", link_to("/dev/zero"), FILE_OUT, "SYMLINK"),
    case("a22_unreadable.csv", write_unreadable, FILE_OUT, "UNREADABLE")
    if os.geteuid()
    else case("a22_unreadable.csv", write_unreadable, counts=(4, 0, 0)),
    case(".a23_hidden.csv", GOOD, SKIP, "HIDDEN"),
    case("a24_upload.csv.part", GOOD, SKIP, "NOT_AN_INPUT_NAME"),
    case("a25_x.csv.tmp", GOOD, SKIP, "NOT_AN_INPUT_NAME"),
    case("a26_y.csv~", GOOD, SKIP, "NOT_AN_INPUT_NAME"),
    case("a27_z.csv.swp", GOOD, SKIP, "NOT_AN_INPUT_NAME"),
    case("a28_w.csv.crdownload", GOOD, SKIP, "NOT_AN_INPUT_NAME"),
    case("a29_UPPER.CSV", GOOD, counts=(4, 0, 0)),
    case("a30 space & $(id);`id` 'q'.csv", GOOD, counts=(4, 0, 0)),
    case("a31_ünïcöde_\u202etxt.csv", GOOD, counts=(4, 0, 0)),
    case("a32_\udcff\udcfe.csv", GOOD, counts=(4, 0, 0)),
    case("a33_newline\nname.csv", GOOD, counts=(4, 0, 0)),
    case(LONG_NAME, GOOD, counts=(4, 0, 0)),
    case("sub/a35_nested.csv", write_nested, SKIP, "NOT_TOP_LEVEL"),
    case("=a36_formula.csv", GOOD, counts=(4, 0, 0)),
]

# ---- b: bytes, encodings, ends of lines

B05 = case("b05_latin1.csv", with_client("Café").encode("latin-1"), FILE_OUT, "ENCODING")
B11 = case("b11_crlf.csv", GOOD.replace("\n", "\r\n"), counts=(4, 0, 0))
SMART = with_client("\u201cacme\u201d").encode("cp1252")
MIXED = GOOD.encode() + "Café,1,2,3,0\n".encode() + "Café,1,2,3,0\n".encode("latin-1")
SEPARATOR = lines(*ROWS[:3], "du\u2028ne,2,90,12,1")
FILES += [
    case("b01_utf8_bom.csv", b"\xef\xbb\xbf" + GOOD.encode(), ACCEPT, "BOM", (4, 0, 0)),
    case("b02_utf16le_bom.csv", b"\xff\xfe" + GOOD.encode("utf-16-le"), ACCEPT, "UTF16", (4, 0, 0)),
    case("b03_utf16_no_bom.csv", GOOD.encode("utf-16-le"), FILE_OUT, "BINARY_NUL"),
    case("b04_utf32.csv", GOOD.encode("utf-32"), FILE_OUT, "ENCODING"),
    B05,
    case("b06_cp1252_smart.csv", SMART, FILE_OUT, "ENCODING"),
    case("b07_mixed_encoding.csv", MIXED, FILE_OUT, "ENCODING"),
    case("b08_invalid_utf8_tail.csv", with_client("Café").encode()[:-12], FILE_OUT, "ENCODING"),
    case("b09_overlong_utf8.csv", GOOD.encode() + b"\xc0\xaf,1,2,3,0\n", FILE_OUT, "ENCODING"),
    case("b10_surrogate_utf8.csv", GOOD.encode() + b"\xed\xa0\x80,1,2,3,0\n", FILE_OUT, "ENCODING"),
    B11,
    case("b12_cr_only.csv", GOOD.replace("\n", "\r"), counts=(4, 0, 0)),
    case("b13_mixed_eol.csv", lines(*ROWS[:2], end="\r\n") + "\n".join(ROWS[2:]) + "\r",
         counts=(4, 0, 0)),
    case("b14_nul_inside.csv", with_client("ac\x00me"), FILE_OUT, "BINARY_NUL"),
    case("b15_nul_padded_tail.csv", GOOD.encode() + b"\x00" * 4096, FILE_OUT, "BINARY_NUL"),
    case("b16_ctrl_z.csv", GOOD + "\x1a", ROWS_OUT, "RAGGED_SHORT", (4, 1, 0)),
    case("b17_no_final_eol.csv", GOOD[:-1], ACCEPT, "NO_FINAL_EOL", (4, 0, 0)),
    case("b18_blank_lines_between.csv", GOOD.replace("\n", "\n\n \n"), counts=(4, 0, 0)),
    case("b19_unicode_line_sep.csv", SEPARATOR, ROWS_OUT, "CONTROL_CHAR", (3, 1, 0)),
    case("b20_bom_twice.csv", "\ufeff\ufeff" + GOOD, FILE_OUT, "HEADER_MISMATCH"),
    case("b21_bom_mid_concat.csv", lines(*ROWS[:2]) + "\ufeff" + lines(*ROWS[2:]), ROWS_OUT,
         "REPEATED_HEADER", (4, 1, 0)),
]  # fmt: skip

# ---- c: the shape of CSV

CUT = lines(*ROWS[:3], "dune,2,9")[:-1]
C24 = case("c24_cut_last_row.csv", CUT, ROWS_OUT, "RAGGED_SHORT", (3, 1, 0))
ALL_QUOTED = GOOD.replace(",", '","').replace("\n", '"\n"')[:-1]
LONG_ROWS = [f"{row},9" for row in ROWS]
TITLED = f"Export of all clients\n\n{GOOD}"
FILES += [
    case("c01_semicolon.csv", GOOD.replace(",", ";"), ACCEPT, "DELIMITER", (4, 0, 0)),
    case("c02_tab.csv", GOOD.replace(",", "\t"), ACCEPT, "DELIMITER", (4, 0, 0)),
    case("c03_pipe.csv", GOOD.replace(",", "|"), ACCEPT, "DELIMITER", (4, 0, 0)),
    case("c04_excel_sep_line.csv", "sep=;\r\n" + GOOD.replace(",", ";"), ACCEPT, "SEP_LINE",
         (4, 0, 0)),
    case("c05_quoted_all.csv", '"' + ALL_QUOTED, counts=(4, 0, 0)),
    case("c06_unterminated_quote.csv", lines('"acme,1,2,3,0', *ROWS), FILE_OUT,
         "UNTERMINATED_QUOTE"),
    case("c07_quote_in_middle.csv", with_row('ec"ho,1,2,3,0'), counts=(5, 0, 0)),
    case("c08_text_after_quote.csv", with_row('"echo"x,1,2,3,0'), FILE_OUT, "BAD_QUOTING"),
    case("c09_backslash_quote.csv", with_row('"ec\\"ho",1,2,3,0'), FILE_OUT, "BAD_QUOTING"),
    case("c10_doubled_quote.csv", with_row('"ec""ho",1,2,3,0'), counts=(5, 0, 0)),
    case("c11_comma_in_quotes.csv", with_row('"echo, Inc.",1,2,3,0'), counts=(5, 0, 0)),
    case("c12_newline_in_quotes.csv", with_row('"ec\nho",1,2,3,0'), ROWS_OUT, "CONTROL_CHAR",
         (4, 1, 0)),
    case("c13_short_row.csv", with_row("echo,1,2"), ROWS_OUT, "RAGGED_SHORT", (4, 1, 0)),
    case("c14_long_row.csv", with_row("echo,1,2,3,0,7"), ROWS_OUT, "RAGGED_LONG", (4, 1, 0)),
    case("c15_long_first_row.csv", lines("echo,1,2,3,0,7", *ROWS), ROWS_OUT, "RAGGED_LONG",
         (4, 1, 0)),
    case("c16_all_rows_long.csv", lines(*LONG_ROWS), ROWS_OUT, "RAGGED_LONG", (0, 4, 0)),
    case("c17_trailing_comma_all.csv", GOOD.replace("\n", ",\n"), ACCEPT, "EMPTY_COLUMN",
         (4, 0, 0)),
    case("c18_unquoted_comma.csv", with_row("echo, Inc.,1,2,3,0"), ROWS_OUT, "RAGGED_LONG",
         (4, 1, 0)),
    case("c19_empty_fields.csv", with_row("echo,,,5,1"), counts=(5, 0, 0)),
    case("c20_comment_line.csv", with_row("# made by the export"), ROWS_OUT, "RAGGED_SHORT",
         (4, 1, 0)),
    case("c21_totals_footer.csv", with_row("TOTAL,,,,"), ROWS_OUT, "EMPTY_ROW", (4, 1, 0)),
    case("c22_repeated_header.csv", lines(*ROWS[:2], HEADER, *ROWS[2:]), ROWS_OUT,
         "REPEATED_HEADER", (4, 1, 0)),
    case("c23_title_above.csv", TITLED, FILE_OUT, "HEADER_MISMATCH"),
    C24,
    case("c25_cut_header.csv", HEADER[:40], FILE_OUT, "HEADER_MISMATCH"),
]  # fmt: skip

# ---- d: headers

LAST = "exited\n"
MANY = ",".join(["x"] * 3000)
REORDERED = lines("0,5,acme,10,120", header="exited,number_of_employees,corporation,"
                  "lastmonth_activity,lastyear_activity")  # fmt: skip
INDEXED = "\n".join(f"{i},{row}" for i, row in enumerate(ROWS))
FOLDED = GOOD.replace(HEADER, " Corporation ,LastMonth_Activity,lastyear_activity,"
                      "number_of_employees,EXITED")  # fmt: skip
FILES += [
    case("d01_missing_column.csv", GOOD.replace("number_of_employees,", "", 1), FILE_OUT,
         "HEADER_MISMATCH"),
    case("d02_extra_column.csv", lines(*LONG_ROWS, header=HEADER + ",note"), ACCEPT,
         "EXTRA_COLUMN", (4, 0, 0)),
    case("d03_reordered.csv", REORDERED, ACCEPT, "REORDERED", (1, 0, 0)),
    case("d04_duplicate_header.csv", lines(*LONG_ROWS, header=HEADER + ",exited"), FILE_OUT,
         "DUP_HEADER"),
    case("d05_dup_after_fold.csv", lines(*LONG_ROWS, header=HEADER + ", Exited"), FILE_OUT,
         "DUP_HEADER"),
    case("d06_case_and_space.csv", FOLDED, ACCEPT, "HEADER_FOLDED", (4, 0, 0)),
    case("d07_renamed_column.csv", GOOD.replace("corporation", "company"), FILE_OUT,
         "HEADER_MISMATCH"),
    case("d08_empty_name.csv", GOOD.replace("corporation", "", 1), FILE_OUT, "HEADER_MISMATCH"),
    case("d09_nbsp_header.csv", GOOD.replace(LAST, "exited\xa0\n"), FILE_OUT, "HEADER_MISMATCH"),
    case("d10_homoglyph.csv", GOOD.replace(LAST, "\u0435xited\n"), FILE_OUT, "HEADER_MISMATCH"),
    case("d11_index_column.csv", f",{HEADER}\n{INDEXED}\n", ACCEPT, "EXTRA_COLUMN", (4, 0, 0)),
    case("d12_many_columns.csv", f"{HEADER},{MANY}\n", FILE_OUT, "TOO_MANY_COLUMNS"),
    case("d13_extra_named_like_code.csv", lines(*LONG_ROWS, header=HEADER + ",@os.system('id')"),
         ACCEPT, "EXTRA_COLUMN", (4, 0, 0)),
]  # fmt: skip

# ---- e: numbers

WHOLE, ONE_BAD = (5, 0, 0), (4, 1, 0)
NUMBERS_TAKEN = {
    "e01_nan": "NaN", "e04_na": "NA", "e05_null": "null", "e06_none": "None", "e07_dash": "-",
    "e08_qmark": "?", "e09_empty": "", "e10_spaces": "   ", "e17_fraction": "12.5",
    "e18_tiny": "5e-324", "e41_month_gt_year": "5000",
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
    "e31_excel_error": ("#DIV/0!", "BAD_NUMBER"),
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
FILES += [case(f"{n}.csv", with_number(v), ACCEPT, "", WHOLE) for n, v in NUMBERS_TAKEN.items()]
FILES += [
    case(f"{name}.csv", with_number(value), ACCEPT, "NORMALISED", WHOLE)
    for name, value in NUMBERS_NORMALISED.items()
]
FILES += [
    case(f"{name}.csv", with_number(value), ROWS_OUT, code, ONE_BAD)
    for name, (value, code) in NUMBERS_REFUSED.items()
]

# ---- f: outcomes

BAD_LABELS = {
    "f01_two": "2", "f02_minus": "-1", "f03_maybe": "maybe", "f04_half": "0.5", "f05_word": "left"
}  # fmt: skip
GOOD_LABELS = {
    "f10_yes": "Yes", "f11_no": "no", "f12_true": "TRUE", "f13_false": "false", "f14_y": "y",
    "f15_float": "1.0",
}  # fmt: skip
FILES += [
    case(f"{name}.csv", with_outcome(value), ROWS_OUT, "BAD_LABEL", ONE_BAD)
    for name, value in BAD_LABELS.items()
]
FILES += [case("f06_missing.csv", with_outcome(""), ACCEPT, "", WHOLE)]
FILES += [
    case(f"{name}.csv", with_outcome(value), ACCEPT, "LABEL", WHOLE)
    for name, value in GOOD_LABELS.items()
]
ONE_CLASS = lines(*(f"client{i},1,2,{i},0" for i in range(4)))
FILES += [case("f20_single_class.csv", ONE_CLASS, counts=(4, 0, 0))]

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
FILES += [case(f"{n}.csv", with_client(v), ACCEPT, "", WHOLE) for n, v in CLIENTS_TAKEN.items()]
FILES += [
    case(f"{name}.csv", with_client(value), ROWS_OUT, code, ONE_BAD)
    for name, (value, code) in CLIENTS_REFUSED.items()
]
FILES += [
    case("g30_padded.csv", with_client("  echo "), ACCEPT, "NORMALISED", WHOLE),
    case("g31_nfd.csv", with_client("Cafe\u0301"), ACCEPT, "NFC", WHOLE),
    case("g50_huge_field.csv", with_client(HUGE), FILE_OUT, "FIELD_TOO_LONG"),
    case("g50_huge_header.csv", GOOD.replace(LAST, f"exited,{HUGE}\n"), FILE_OUT, "FIELD_TOO_LONG"),
    case("g51_one_long_line.csv", GOOD.replace("\n", ",") * 200, FILE_OUT, "TOO_MANY_COLUMNS"),
]

# ---- h: repeats and conflicts

PADDED = lines("acme,10,120,5,0", " acme ,10.0,+120,5,no")
BOTH = lines("acme,1,2,3,0", "acme,1,2,3,1", *ROWS[1:])
H05 = case("h05_cross_a.csv", lines(*ROWS[:3]), counts=(3, 0, 0))
H07 = case("h07_conflict_a.csv", lines("acme,1,2,3,1"), counts=(1, 0, 0))
CROSS = lines(ROWS[1], ROWS[2], "echo,1,2,3,0", "fox,1,2,3,1")
FILES += [
    case("h01_dup_rows.csv", with_row(ROWS[0]), ACCEPT, "DUP_ROWS", (4, 0, 1)),
    case("h02_dup_after_norm.csv", PADDED, ACCEPT, "DUP_ROWS", (1, 0, 1)),
    case("h03_conflicting_label.csv", BOTH, ROWS_OUT, "CONFLICT", (3, 2, 0)),
    case("h04_all_dup.csv", lines(*[ROWS[0]] * 5), ACCEPT, "DUP_ROWS", (1, 0, 4)),
    H05,
    case("h06_cross_b.csv", CROSS, ACCEPT, "DUP_ROWS", (2, 0, 2), (H05,)),
    H07,
    case("h08_conflict_b.csv", lines("acme,1,2,3,0"), ROWS_OUT, "CONFLICT", (0, 1, 0), (H07,)),
    case("h09_copy_of_a01.csv", GOOD, SKIP, "SAME_CONTENT", after=(A01,)),
]

# ---- the same folder at the next run

NEW = ("echo,1,2,3,0", "fox,1,2,3,1")
SECOND_TICK = [
    case(A01.name, GOOD, SKIP, after=(A01,)),
    case(H05.name, lines(*ROWS[:3], *NEW), ACCEPT, "CHANGED", (2, 0, 3), (H05,)),
    case(B11.name, lines(*NEW, end="\r\n"), ACCEPT, "CHANGED", (2, 0, 0), (B11,)),
    case("i04_renamed_good.csv", GOOD, SKIP, "SAME_CONTENT", after=(A01,)),
    case(A02.name, lines(*NEW), counts=(2, 0, 0), after=(A02,)),
    case(C24.name, GOOD, ACCEPT, "CHANGED", (1, 0, 3), (C24,)),
    case("i07_fixed_encoding.csv", with_client("Café"), ACCEPT, "", WHOLE, (B05,)),
]
