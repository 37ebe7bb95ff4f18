"""Detect how a file writes text, numbers and dates, to propose it to a person.

Ingestion uses only the dialect that config.json names: two readings of one file, such as 1.234 or
03/04/2026, make two different clients of one.
"""

import codecs
import re

# Bytes that Windows-1252 does not define.
UNDEFINED = re.compile(b"[\x81\x8d\x8f\x90\x9d]")
CONTROLS = re.compile(b"[\x80-\x9f]")
UTF8_PAIR = re.compile(b"[\xc2-\xdf][\x80-\xbf](?![\x80-\xbf])|[\xe1-\xef][\x80-\xbf]{2}")
SAMPLE = 1 << 20


def detect_encoding(data: bytes) -> str | None:
    """Detect the encoding of a text by its bytes, None if it looks like none that can be named.

    Windows-1252 and ISO 8859-15 differ in few characters: bytes 0x80-0x9F are letters and signs only in
    the first, and 0xA4 is the euro sign only in the second.

    >>> detect_encoding("Müller;5 €".encode("windows-1252")), detect_encoding(b"M\\xfcller;5 \\xa4")
    ('windows-1252', 'iso-8859-15')
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or utf16_order(data):
        return "utf-16"
    if b"\x00" in data:
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)
        return "utf-8"
    except UnicodeDecodeError:
        pass
    if UTF8_PAIR.search(data):  # UTF-8 with damaged characters
        return None
    if CONTROLS.search(data):
        return None if UNDEFINED.search(data) else "windows-1252"
    return "iso-8859-15" if b"\xa4" in data else "windows-1252"


def utf16_order(data: bytes) -> str | None:
    """Return the byte order of UTF-16 text without a mark, None if it is none.

    In a table most characters are ASCII, so one byte of two is NUL.

    >>> utf16_order("name;value".encode("utf-16-be")), utf16_order(b"name;value")
    ('utf-16-be', None)
    """
    data = data[: SAMPLE // 16 * 2]
    first, second = data[::2].count(0), data[1::2].count(0)
    if max(first, second) < 0.6 * len(data[1::2]) or min(first, second) > 0.05 * len(data):
        return None
    return "utf-16-be" if first > second else "utf-16-le"
