"""Hostile workbooks, made from a good one whose header has five texts: edited, torn, bits flipped."""

import io
import random
import zipfile

SHEET, BOOK = "xl/worksheets/sheet1.xml", "xl/workbook.xml"
RELATIONS, STRINGS, STYLES = "xl/_rels/workbook.xml.rels", "xl/sharedStrings.xml", "xl/styles.xml"
MAX_SOURCE_MB = 24
CELL = '<c r="A2" t="s"><v>5</v></c>'


def with_part(book, name, change):
    """Return a workbook with one part changed, added or, if that is None, left out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old:
        parts = {info.filename: old.read(info) for info in old.infolist()}
    text = change(parts.get(name, b"").decode())
    parts[name] = text if isinstance(text, bytes | None) else text.encode()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for part, content in parts.items():
            if content is not None:
                new.writestr(part, content)
    return buffer.getvalue()


# What stands in a part, and what is put in its place.
EDITS = [
    *((SHEET, CELL, new) for new in (
        '<c r="A99999999999" t="s"><v>5</v></c>',
        '<c r="AAAAAAAAAAAAAAAA2" t="s"><v>5</v></c>',
        '<c r="A0" t="s"><v>5</v></c>',
        '<c r="2A" t="s"><v>5</v></c>',
        '<c r="" t="s"><v>5</v></c>',
        '<c r="A2" t="s"><v>-1</v></c>',
        '<c r="A2" t="s"><v>99999999999999999999</v></c>',
        '<c r="A2" t="s"><v>1e3</v></c>',
        '<c r="A2" t="s"><v></v></c>',
        '<c r="A2" t="s"/>',
        '<c r="A2" t="n"><v>many</v></c>',
        '<c r="A2" t="d"><v>2026-13-45</v></c>',
        '<c r="A2" t="e"><v>#NEW!</v></c>',
        '<c r="A2" t="str"><v>&#0;</v></c>',
        '<c r="A2" t="str"><v>_x0000_</v></c>',
        '<c r="A2" t="str"><v>&#x202e;txt</v></c>',
        '<c r="A2" t="str"><v>&undefined;</v></c>',
        '<c r="A2" t="str"><v>=1+1</v></c>',
        '<c r="A2" t="zip"><v>1</v></c>',
        '<c r="A2" s="99999"><v>1</v></c>',
        '<c r="A2" s="-1"><v>1e308</v></c>',
        '<c r="A2"><v>1e999</v></c>',
        '<c r="A2"><v>nan</v></c>',
        '<c r="A2"><v>1</v><v>2</v></c>',
        '<c r="A2"><f>1+1</f></c>',
        '<c r="A2"><v>1</v><f>1+1</f></c>',
        '<c r="A2"><f t="shared" si="99999999999"/><v>1</v></c>',
        '<c r="A2"><c r="A2"><v>1</v></c></c>',
        '<c r="A2" t="inlineStr"><is><t>a</t></is><v>b</v></c>',
        '<c r="A2" t="inlineStr"><is/></c>',
        '<c r="A2"><unknown><v>1</v></unknown></c>',
        f"{CELL}{CELL}",
        f'<c r="C2"><v>1</v></c>{CELL}',
        f"<!-- {CELL} --><![CDATA[{CELL}]]>",
        f"<row r='9'>{CELL}</row>",
        f'<c r="A2" t="str"><v>{"x" * 40_000}</v></c>',
        f'<c r="A2" t="str"><v>{"a" * 300}</v></c>',
    )),
    *((SHEET, '<row r="3"', new) for new in (
        '<row r="1"', '<row r="2"', '<row r="0"', '<row r="-3"', '<row r="1048577"', '<row r="x"',
        '<row r="4294967297"', '<row r="3" r="3"', "<row", "<Row",
    )),
    *((SHEET, "<sheetData>", new) for new in (
        "<sheetData><row/><row/>", "<sheetData/><sheetData>", "<data>", "<!DOCTYPE a []><sheetData>",
        "<sheetData><c><v>1</v></c>", "<?php x ?><sheetData>", "<sheetData xmlns='urn:other'>",
        "\x00<sheetData>", "\ufffe<sheetData>", "<sheetData>" * 50_000,
    )),
    *((SHEET, "</sheetData>", f"</sheetData><mergeCells>{new}</mergeCells>") for new in (
        '<mergeCell ref="A1:C1"/>', '<mergeCell ref="A2:A3"/>', '<mergeCell ref="A:XFD"/>',
        '<mergeCell/>', '<mergeCell ref="A1:A1048576"/>', '<mergeCell ref="A1"/>' * 100_000,
    )),
    *((SHEET, "</sheetData>", new + "</sheetData>") for new in (
        '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>',
        '<row r="1048576"><c r="BXX1048576"><v>1</v></c></row>',
        '<row r="1048576"><c r="A1048576"/></row>',
        '<row r="6"><c r="ALL6"><v>1</v></c></row>',
        "<row/>" * 1_100_000,
        " " * (MAX_SOURCE_MB << 20),
    )),
    *((SHEET, '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>', new) for new in (
        "", '<?xml version="1.0" encoding="UTF-16"?>', '<?xml version="1.0" encoding="latin1"?>',
        '<?xml version="9.9"?>', "\ufeff", " ", "<?xml?>",
    )),
    *((BOOK, "<sheets>", new) for new in ("<sheets><sheet/>", "", "<sheets>" * 9, "<sheets><!--")),
    *((BOOK, 'name="Sheet1"', new) for new in (
        'name=""', 'name="../../etc/passwd"', f'name="{"x" * 100_000}"', 'name="a" state="veryHidden"',
    )),
    *((BOOK, 'r:id="rId1"', new) for new in ('r:id="rId9"', 'id="rId1"', "", 'r:id="rId2"')),
    *((RELATIONS, "worksheets/sheet1.xml", new) for new in (
        "../../../../etc/passwd", "/xl/worksheets/sheet1.xml", "worksheets\\sheet1.xml", "",
        "styles.xml",
        "http://example.com/sheet1.xml", "worksheets/nowhere.xml", "workbook.xml",
        "Worksheets/SHEET1.XML",
    )),
    *((RELATIONS, "/worksheet\"", new) for new in ('/chartsheet"', '"', '/dialogsheet"')),
    *((STRINGS, "<si>", new) for new in ("<si/><si>", "", "<si><si>", "<si/>" * 600_000)),
    *((STYLES, "<cellXfs", new) for new in ("<cellXfs><xf numFmtId='-1'/></cellXfs><cellXfs", "<x")),
    ("_rels/.rels", "xl/workbook.xml", "xl/nowhere.xml"),
    ("_rels/.rels", "officeDocument\"", 'other"'),
]  # fmt: skip
ENTITIES = "<!DOCTYPE a [{}]><workbook>&e9;</workbook>".format(
    '<!ENTITY e0 "lol">' + "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
)


def edited(book):
    for name, old, new in EDITS:
        yield with_part(book, name, lambda text, old=old, new=new: text.replace(old, new, 1))


def without_parts(book):
    for name in (SHEET, BOOK, RELATIONS, STRINGS, STYLES, "_rels/.rels", "[Content_Types].xml"):
        yield with_part(book, name, lambda text: None)
        yield with_part(book, name, lambda text: "")
        yield with_part(book, name, lambda text: text[: len(text) // 2])
        yield with_part(book, name, lambda text: text.encode("utf-16"))
    yield with_part(book, BOOK, lambda text: ENTITIES)
    yield with_part(book, "xl/media/bomb.png", lambda text: bytes(MAX_SOURCE_MB + 1 << 20))


def damaged(book, seed=1):
    rng = random.Random(seed)
    for _ in range(30):
        yield book[: rng.randrange(len(book))]
    for _ in range(50):
        data = bytearray(book)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        yield bytes(data)
    yield book + book
    yield b"PK\x03\x04" + bytes(5000)
    yield book[:-22] + book[-22:].replace(b"PK\x05\x06", b"PK\x05\x07")


def hostile(book):
    """Yield some two hundred workbooks."""
    yield from edited(book)
    yield from without_parts(book)
    yield from damaged(book)
