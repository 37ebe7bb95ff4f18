"""Hash columns of text by array operations: what identifies a row, equal to pandas' `hash_array`."""

import sys

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

SLICE = 1 << 13  # texts at a time, so that the state stays in the cache of a core
# Little-endian words of pandas' key 0123456789123456.
KEY = tuple(np.frombuffer(b"0123456789123456", "<u8"))
START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def text_bytes(texts: pa.Array) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the bytes of all texts, and where each begins: (n + 1,), the last one is their end."""
    _, offsets, data = texts.buffers()
    if offsets is None or not len(texts):
        return np.zeros(0, "uint8"), np.zeros(1, "int64")
    starts = np.frombuffer(offsets, "int32")[texts.offset :][: len(texts) + 1].astype("int64")
    return np.frombuffer(data or b"", "uint8")[starts[0] : starts[-1]], starts - starts[0]


def find_texts(starts: NDArray[np.int64], places: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return which texts have a byte at one of the places, perhaps more than once.

    starts: where each text begins, see `text_bytes`; places: of bytes, (bytes,) bool
    """
    return np.searchsorted(starts, np.flatnonzero(places), side="right") - 1


def hash_texts(texts: pa.Array) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each text, which may not be null: (n,) uint64.

    >>> hash_texts(pa.array(["", "1.0"])).tolist()
    [1760245841805064774, 7736021350537868001]

    Source: Aumasson and Bernstein (2012), SipHash-2-4, and Steele et al. (2014), SplitMix, as in
    pandas' `hash_array`.
    """
    content, starts = text_bytes(texts)
    words = np.zeros(len(content) // 8 + 2, "uint64")
    words.view("uint8")[: len(content)] = content
    if sys.byteorder == "big":
        words.byteswap(inplace=True)
    lengths = np.diff(starts)
    blocks = lengths >> 3
    result = np.empty(len(lengths), "uint64")
    for count in np.flatnonzero(np.bincount(blocks)):
        places = np.flatnonzero(blocks == count) if blocks.min() < blocks.max() else None
        for at in range(0, len(result) if places is None else len(places), SLICE):
            some = slice(at, at + SLICE) if places is None else places[at : at + SLICE]
            result[some] = _siphash(words, starts[:-1][some], lengths[some], int(count))
    return result


def _siphash(
    words: NDArray[np.uint64], starts: NDArray[np.int64], lengths: NDArray[np.int64], blocks: int
) -> NDArray[np.uint64]:
    """Hash texts that have equally many whole blocks of eight bytes."""
    state = [np.full(len(starts), np.uint64(word) ^ KEY[i % 2]) for i, word in enumerate(START)]
    place, shift = starts >> 3, ((starts & 7) << 3).astype("uint64")
    back, spare = np.uint64(64) - shift, np.empty(len(starts), "uint64")
    for i in range(blocks + 1):
        # a shift by 64 bits leaves nothing
        block = (words[place + i] >> shift) | (words[place + i + 1] << back)
        if i == blocks:
            rest = ((lengths & 7) << 3).astype("uint64")
            block &= (np.uint64(1) << rest) - np.uint64(1)
            block |= (lengths.astype("uint64") & np.uint64(255)) << np.uint64(56)
        state[3] ^= block
        _rounds(state, 2, spare)
        state[0] ^= block
    state[2] ^= np.uint64(255)
    _rounds(state, 4, spare)
    mixed = state[0] ^ state[1] ^ state[2] ^ state[3]
    for bits, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(bits))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _rounds(state: list[NDArray[np.uint64]], count: int, spare: NDArray[np.uint64]) -> None:
    """Mix the four words of each text `count` times, in place."""
    v0, v1, v2, v3 = state
    for _ in range(count):
        for a, b, bits in ((v0, v1, 13), (v2, v3, 16)):
            a += b
            _rotate(b, bits, spare)
            b ^= a
        _rotate(v0, 32, spare)
        for a, b, bits in ((v0, v3, 21), (v2, v1, 17)):
            a += b
            _rotate(b, bits, spare)
            b ^= a
        _rotate(v2, 32, spare)


def _rotate(word: NDArray[np.uint64], bits: int, spare: NDArray[np.uint64]) -> None:
    np.right_shift(word, np.uint64(64 - bits), out=spare)
    np.left_shift(word, np.uint64(bits), out=word)
    word |= spare
