"""The current clients, one typed table: features, risk, rank, reasons and cautions as data.

`clients.parquet` has one row for each client, sorted by risk, in row groups of `GROUP_ROWS`, so that
reading one client reads one row group. Every list of clients is rendered from it. The name of a feature
gets the prefix `FEATURE`, because a company may have a feature named "risk" or "rank".
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, reduce
from pathlib import Path
from threading import RLock
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from attrition.config import Columns
from attrition.data.cells import Caution, Reason
from attrition.storage import tables

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]

# A page of 50 clients reads up to 50 groups. Of a million clients, in CPU ms: groups of 1,000, 2,000 and
# 4,000 rows take 58, 79 and 118 for that page, and 26, 13 and 8 to open the table.
GROUP_ROWS = 2_000
BUFFER = 1 << 20
DECODED = 1_000  # clients that are kept in memory as rows
LONG_AGO_DAYS, LONG_AGO_MEDIANS = 92, 5
FEATURE = "feature_"
# For comparison of names: accents and apostrophes, and letters that do not decompose.
IGNORED = r"[\p{Mn}'’ʼ`]"
LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "þ": "th"} | dict(zip("øłđðı", "olddi", strict=True))
_TEXT, _NUMBER, _PLACE = pa.string(), pa.float64(), pa.int32()
REASON = pa.struct(
    {
        "feature": _TEXT,
        **{"number": _NUMBER, "level": _TEXT},
        **{"baseline_number": _NUMBER, "baseline_level": _TEXT},
        "contribution": _NUMBER,
    }
)
CAUTION = pa.struct(
    {"code": _TEXT, "feature": _TEXT, "number": _NUMBER, "level": _TEXT}
    | {"low": _NUMBER, "high": _NUMBER}
)
# Columns without the features. `list_rank` is the place on the contact list, null if a client is not on
# it; `previous_rank` is that of the list of an earlier day, and `risk_change` the change since, null if
# the client is new. `reasons` are against the baseline client. Listed clients and those who may come
# next also have `list_reasons`, which tell one apart from those on the list, and `changes`, the features
# that changed the risk since that earlier day, with their values of then as the baseline.
COLUMNS = {
    **{"client": _TEXT, "rank": _PLACE, "risk": _NUMBER, "observed_at": _TEXT},
    **{"value": _NUMBER, "value_at_risk": _NUMBER, "manager": _TEXT},
    **{"due": _TEXT, "phone": _TEXT, "email": _TEXT},
    **{"list_rank": _PLACE, "previous_rank": _PLACE, "risk_change": _NUMBER},
    **{"reasons": pa.list_(REASON), "cautions": pa.list_(CAUTION)},
    **{"list_reasons": pa.list_(REASON), "changes": pa.list_(REASON)},
}
# Lists that few clients have, each with a leaf whose statistics show the row groups that have none.
SPARSE = {
    "cautions": "cautions.list.element.code",
    "list_reasons": "list_reasons.list.element.contribution",
    "changes": "changes.list.element.contribution",
}
KEY = "client_key"
EARLIER = (KEY, "client", "list_rank", "risk")
# Nearly all values are distinct, so a dictionary would only add bytes.
_DISTINCT = (KEY, "client", "rank", "risk", "value_at_risk", "contribution")


def current_clients(
    rows: "pd.DataFrame", columns: Columns, latest_time: str = "", has_open: bool | None = None
) -> "pd.DataFrame":
    """Return the latest open row of each client that has not left since, sorted by client.

    If no row is open, return the latest row of each client that has not left. `rows` are typed; if the
    table has no time column, the order of arrival decides. Rows after `latest_time`, which only an
    earlier version accepted, count only if a client has no other row.

    has_open: whether any row is open, if `rows` are only those of some clients
    """
    import pandas as pd

    client, names = pd.factorize(rows[columns.client_name])
    outcome = rows[columns.outcome].to_numpy()
    order, is_kept = np.arange(len(rows)), np.ones(len(rows), dtype=bool)
    if columns.time:
        codes, times = pd.factorize(rows[columns.time])
        order = np.argsort(_places(times)[codes], kind="stable")
        if latest_time:
            is_future = np.array([time > latest_time for time in times], dtype=bool)[codes]
            has_other = np.zeros(len(names), dtype=bool)
            has_other[client[~is_future]] = True
            is_kept = ~(is_future & has_other[client])
    is_open = np.isnan(outcome)
    if is_open[is_kept].any() if has_open is None else has_open:
        is_kept &= is_open | (outcome == 1)
    order = order[is_kept[order]]
    latest = np.full(len(names), -1)
    latest[client[order]] = order  # of several rows of a client, the last one stays
    latest = latest[pc.sort_indices(pa.array(names).cast(_TEXT)).to_numpy()]
    return rows.iloc[latest[(latest >= 0) & ~(outcome[latest] == 1)]] if len(rows) else rows


def _places(texts: Any) -> NDArray[np.intp]:
    """Return the place of each distinct text among them sorted."""
    places = np.empty(len(texts), np.intp)
    places[pc.sort_indices(pa.array(texts, _TEXT)).to_numpy()] = np.arange(len(texts))
    return places


def last_seen_long_ago(days: NDArray[np.float64], newest: float) -> NDArray[np.bool_]:
    """Return which current clients were last seen long before the newest rows: (n,) bool.

    Long is more than a quarter, and more than `LONG_AGO_MEDIANS` times as long as the most recent half
    of the clients are apart. So one old row among many is found, and neither clients seen at even
    intervals over years, nor (but for 1 in 32) clients whose number halves with each such time.

    days: (n,) day numbers of the times, NaN if unknown; newest: that of the latest time of any row

    >>> last_seen_long_ago(np.array([2190.0, 2160.0, 0.0, np.nan]), 2190.0).tolist()
    [False, False, True, False]
    >>> last_seen_long_ago(np.arange(8) * 365.0, 7 * 365.0).any()
    np.False_
    """
    age = np.maximum(newest - days, 0)
    known = np.sort(age[~np.isnan(age)])
    if not len(known):
        return np.zeros(len(age), dtype=bool)
    apart = known[(len(known) - 1) // 2] - known[0]
    return age > max(LONG_AGO_DAYS, LONG_AGO_MEDIANS * apart)


# ---- write


def write_clients(destination: Path | IO[bytes], ranked: "pd.DataFrame") -> None:
    """Write the table, sorted by rank: same rows, same bytes.

    ranked: `COLUMNS` and the features, each with the prefix `FEATURE`; the lists contain `Reason` or
    `Caution`
    """
    features = [name for name in ranked.columns if name.startswith(FEATURE)]
    arrays = {KEY: pa.array(client_keys(ranked["client"]))}
    arrays |= {name: to_array(ranked[name], kind) for name, kind in COLUMNS.items()}
    arrays |= {name: to_array(ranked[name], feature_type(ranked[name])) for name in features}
    write_tables(destination, [pa.table(arrays)])


def write_tables(destination: Path | IO[bytes], parts: Iterable[pa.Table]) -> None:
    """Write parts of the table, sorted by rank; all but the last have multiples of `GROUP_ROWS` rows."""
    if not isinstance(destination, Path):
        with _buffered(destination) as file:
            _write_parts(file, parts)
    else:
        _write_parts(destination, parts)


@contextmanager
def _buffered(file: IO[bytes]) -> Iterator[Any]:
    """Collect what arrow writes, page by page, and write it in few calls; the file stays open."""
    stream = pa.BufferedOutputStream(pa.PythonFile(file, "w"), BUFFER)
    try:
        yield stream
        stream.detach()
    except BaseException:
        with suppress(OSError, ValueError):
            stream.close()  # otherwise arrow writes the rest later, to a closed file
        raise


def _write_parts(destination: Any, parts: Iterable[pa.Table]) -> None:
    writer = None
    for table in parts:
        if writer is None:
            paths = [leaf for name in table.schema.names for leaf in _leaves(name, table.schema)]
            writer = pq.ParquetWriter(
                destination,
                table.schema,
                compression="snappy",  # takes two thirds of the CPU time of zstd
                write_statistics=[*SPARSE.values()],
                use_dictionary=[leaf for leaf in paths if leaf.rpartition(".")[2] not in _DISTINCT],
            )
        writer.write_table(table, row_group_size=GROUP_ROWS)
    assert writer is not None, "no part to write"
    writer.close()


def client_keys(names: Iterable[str]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each name: (n,) uint64."""
    return hash_names(str(name).encode("utf-8", "surrogatepass") for name in names)


def hash_names(names: Iterable[bytes]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each name in UTF-8: (n,) uint64."""
    digests, empty = [], hashlib.blake2b(digest_size=8)
    for name in names:
        digest = empty.copy()  # takes half the time of creating one
        digest.update(name)
        digests.append(digest.digest())
    return np.frombuffer(b"".join(digests), dtype="<u8")


def feature_type(values: "pd.Series") -> pa.DataType:
    return _NUMBER if values.dtype.kind == "f" else _TEXT


def to_array(values: Any, kind: pa.DataType) -> pa.Array:
    """Return a column as `COLUMNS` has it; the lists contain `Reason` or `Caution`."""
    if not pa.types.is_list(kind):
        return pa.array(values, kind, from_pandas=True)
    flat = _flat_reasons if kind == COLUMNS["reasons"] else _flat_cautions
    fields = list(kind.value_type)
    columns = flat([item for each in values for item in each]) or [()] * len(fields)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)]
    return _lists(np.cumsum([0, *map(len, values)]), arrays, kind)


def reason_array(
    order: NDArray[np.intp],
    counts: NDArray[np.intp],
    added: NDArray[np.float64],
    columns: Mapping[str, Any],
    baseline: Mapping[str, Any],
) -> pa.Array:
    """Return the reasons of each client as `COLUMNS` has them, without an object for each.

    order: (n, shown) numbers of features, of which the first `counts` are shown; added: (n, features)
    columns: numbers (n,) float64, NaN if missing, or lists of text, "" if missing, in the order of
    `added`
    """
    row, place = np.nonzero(np.arange(order.shape[1]) < counts[:, np.newaxis])
    feature, names = order[row, place], list(columns)
    number, level = np.full(len(row), np.nan), np.full(len(row), None, dtype=object)
    for i, values in enumerate(columns.values()):
        at = np.flatnonzero(feature == i)
        if isinstance(values, np.ndarray):
            number[at] = values[row[at]]
        else:
            texts = np.array(values, dtype=object)[row[at]]
            texts[texts == ""] = None
            level[at] = texts
    base = [baseline[name] for name in names]
    base_numbers, base_levels = _numbers_and_levels(base)
    arrays = [
        pa.array(names, _TEXT).take(pa.array(feature)),
        pa.array(number, from_pandas=True),
        pa.array(level, _TEXT),
        pa.array(base_numbers, _NUMBER).take(pa.array(feature)),
        pa.array(base_levels, _TEXT).take(pa.array(feature)),
        pa.array(added[row, feature]),
    ]
    return _lists(np.append(0, np.cumsum(counts)), arrays, COLUMNS["reasons"])


def to_list_array(of_row: Mapping[int, Sequence[Any]], count: int, kind: pa.DataType) -> pa.Array:
    """Return a column of lists that are empty but in some rows."""
    rows = sorted(of_row)
    some = to_array([of_row[row] for row in rows], kind)
    lengths = np.zeros(count, np.int32)
    lengths[rows] = [len(of_row[row]) for row in rows]
    return pa.ListArray.from_arrays(
        pa.array(np.append(0, np.cumsum(lengths)), pa.int32()), some.values
    )


def _lists(ends: NDArray[Any], columns: Sequence[pa.Array], kind: pa.DataType) -> pa.Array:
    items = pa.StructArray.from_arrays(columns, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items)


def _flat_reasons(reasons: Sequence[Reason]) -> list[Sequence[Any]]:
    """Return the columns of reasons: a number and a level for each value and baseline."""
    if not reasons:
        return []
    name, value, baseline, contribution = zip(*reasons, strict=True)
    return [name, *_numbers_and_levels(value), *_numbers_and_levels(baseline), contribution]


def _flat_cautions(cautions: Sequence[Caution]) -> list[Sequence[Any]]:
    if not cautions:
        return []
    code, feature, value, *limits = zip(*cautions, strict=True)
    return [code, feature, *_numbers_and_levels(value), *limits]


def _numbers_and_levels(values: Sequence[float | str | None]) -> tuple[list[Any], list[Any]]:
    return (
        [None if isinstance(value, str) else value for value in values],
        [value if isinstance(value, str) else None for value in values],
    )


def _leaves(name: str, schema: pa.Schema) -> list[str]:
    kind = schema.field(name).type
    if not pa.types.is_list(kind):
        return [name]
    return [f"{name}.list.element.{field.name}" for field in kind.value_type]


# ---- read


def read_clients(path: Path, names: Sequence[str]) -> "pd.DataFrame":
    """Read columns of the table, sorted by rank."""
    table = tables.open_parquet(path).read(list(names), use_threads=False)
    return table.select(list(names)).to_pandas(use_threads=False)


def read_column(path: Path, name: str) -> "pd.Series":
    """Read one column of the table, sorted by rank; text as categories, if it is not the client."""
    texts = [] if name in _DISTINCT else [name]  # of other columns, it is ignored
    file = tables.open_parquet(path, read_dictionary=texts)
    return file.read([name], use_threads=False)[name].to_pandas(use_threads=False)


def read_earlier(path: Path) -> pa.Table:
    """Read what the list of a later day is compared with: keys, names, places, risks and features."""
    file = tables.open_parquet(path)
    names = [n for n in file.schema_arrow.names if n in EARLIER or n.startswith(FEATURE)]
    return file.read(names, use_threads=False)


def write_earlier(file: IO[bytes], table: pa.Table) -> None:
    """Write what `read_earlier` returned: same rows, same bytes."""
    tables.write_parquet(file, [table], unique=EARLIER)


def find_rows(keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return the place of each wanted key among the keys, -1 if it is not there."""
    if not len(keys):
        return np.full(len(wanted), -1, np.intp)
    order = np.argsort(keys, kind="stable")
    at = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), len(keys) - 1)]
    return np.where(keys[at] == wanted, at, -1)


def read_assessed(
    path: Path, columns: Columns, most: int | None = None
) -> "tuple[pd.DataFrame, NDArray[np.float64]]":
    """Read the clients' features, values and times, typed, and their risks, sorted by their keys.

    most: if there are more clients, only those with the smallest hashes, which is a random sample
    """
    import pandas as pd

    keys = read_column(path, KEY).to_numpy()
    places = np.arange(len(keys))
    if most is not None and len(keys) > most:
        places = np.argpartition(keys, most)[:most]
    places = places[np.argsort(keys[places], kind="stable")]
    stored = {name: FEATURE + name for name in columns.features}
    stored |= {columns.value: "value"} if columns.value else {}
    stored |= {columns.time: "observed_at"} if columns.time else {}
    rows = {
        name: read_column(path, column).iloc[places].to_numpy() for name, column in stored.items()
    }
    return pd.DataFrame(rows), read_column(path, "risk").to_numpy()[places]


def open_hashed(path: Path) -> tuple[str, pa.OSFile]:
    """Open a file; return its sha256 and the open file, so that the bytes read are those hashed."""
    file = pa.OSFile(str(path))
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    return digest, file


class ClientTable:
    """The table, opened to look up single clients; it keeps 8 bytes of each in memory.

    A row maps the names in `COLUMNS` to values, None if unknown, with lists of `Reason` and `Caution`;
    a row from `find` has `features` too, by their own names.
    """

    def __init__(self, source: Any) -> None:
        """Open a path or a file; read only the footer."""
        self._file = tables.open_parquet(source)
        self._lock = RLock()  # one reader serves every thread
        self.total: int = self._file.metadata.num_rows
        self._names: list[str] = self._file.schema_arrow.names
        groups = self._file.metadata.num_row_groups  # an earlier version wrote larger ones
        self._group_rows: int = self._file.metadata.row_group(0).num_rows if groups else GROUP_ROWS
        schema = self._file.metadata.schema
        numbers = {schema.column(n).path: n for n in range(len(schema))}
        self._sparse = {name: numbers[leaf] for name, leaf in SPARSE.items() if leaf in numbers}
        self._decoded: dict[int, Row] = {}

    def find(self, name: str) -> Row | None:
        """Return one client; None if there is no such client."""
        (key,) = client_keys([name])
        with self._lock:
            for i in np.flatnonzero(self._keys == key).tolist():
                row = self._rows([i])[0]
                if row["client"] == name:
                    return row
        return None

    @cached_property
    def listed(self) -> list[Row]:
        """The contact list, sorted; `rank` is the place on it."""
        with self._lock:
            ranks = self._column("list_rank")
            places = pc.indices_nonzero(ranks.is_valid()).to_pylist()
            rows = self._rows(places, list(COLUMNS))
        listed = [row | {"rank": row["list_rank"]} for row in rows]
        return sorted(listed, key=lambda row: row["rank"])

    def rows_of(self, names: Sequence[str]) -> dict[str, int]:
        """Return client -> row of the clients that are in the table."""
        if not names or not self.total:
            return {}
        keys = client_keys(names)
        with self._lock:
            at = np.searchsorted(self._keys, keys, sorter=self._by_key)
            rows = self._by_key[np.minimum(at, self.total - 1)]
            is_known = self._keys[rows] == keys
        known = zip(names, rows.tolist(), is_known.tolist(), strict=True)
        return {name: row for name, row, is_there in known if is_there}

    def keys_of(self, rows: NDArray[np.intp]) -> NDArray[np.uint64]:
        """Return the hashes of the names of the clients in these rows; no name is read."""
        with self._lock:
            return self._keys[rows]

    def read(self, rows: Sequence[int]) -> list[Row]:
        """Return the clients in these rows, in this order, without their features.

        Those on the pages of the day are decoded once: over many clients, each is in another row group.
        """
        with self._lock:
            if len(self._decoded) > DECODED:
                self._decoded.clear()
            new = sorted(set(rows) - self._decoded.keys())
            self._decoded |= zip(new, self._rows(new, list(COLUMNS)), strict=True)
            return [self._decoded[row] for row in rows]

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers, NaN if missing: (n,) float64."""
        with self._lock:
            column = self._column(name).cast(pa.float64())
        return _to_numpy(pc.fill_null(column, float("nan")))

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """Return a column of texts as numbers into its distinct values: (n,) int32."""
        with self._lock:
            encoded = pc.fill_null(self._column(name), "").dictionary_encode()
        return _to_numpy(encoded.indices), encoded.dictionary.to_pylist()

    def search(self, query: str) -> NDArray[np.intp]:
        """Return the rows of clients whose names contain every word, as `plain_text` compares them."""
        words = plain_text(pa.array([query])).to_pylist()[0].split()
        if not words:
            return np.arange(self.total)
        with self._lock:
            matches = [pc.match_substring(self._plain_names, word) for word in words]
        return _to_numpy(pc.indices_nonzero(reduce(pc.and_, matches))).astype(np.intp)

    @cached_property
    def _plain_names(self) -> pa.ChunkedArray:
        """The names for comparison; made in parts, because that takes several times their memory."""
        names = self._column("client")
        parts = [names.slice(i, GROUP_ROWS) for i in range(0, self.total, GROUP_ROWS)]
        plain = pa.chunked_array([plain_text(part) for part in parts], _TEXT)
        tables.release_memory()
        return plain

    @cached_property
    def _by_key(self) -> NDArray[np.int32]:
        return np.argsort(self._keys, kind="stable").astype(np.int32)

    @cached_property
    def _keys(self) -> NDArray[np.uint64]:
        return _to_numpy(self._column(KEY))

    def _column(self, name: str) -> pa.Array:
        if name not in self._names:  # a table of an earlier version has fewer
            return pa.nulls(self.total, COLUMNS.get(name, _TEXT))
        return self._file.read([name], use_threads=False)[name].combine_chunks()

    def _rows(self, places: Sequence[int], names: list[str] | None = None) -> list[Row]:
        """Return the rows at ascending places; read each row group once."""
        groups: dict[int, list[int]] = {}
        for place in places:
            groups.setdefault(place // self._group_rows, []).append(place % self._group_rows)
        return [
            decode(row)
            for i, within in groups.items()
            for group in [self._read_group(i, names)]
            for place in within
            for row in group.slice(place, 1).to_pylist()
        ]

    def _read_group(self, i: int, names: list[str] | None) -> pa.Table:
        """Read a row group without the lists that are empty in it: a quarter of the cost."""
        group = self._file.metadata.row_group(i)
        limits = {name: group.column(n).statistics for name, n in self._sparse.items()}
        empty = {name for name, limit in limits.items() if limit and not limit.num_values}
        present = [name for name in names or self._names if name not in empty]
        return self._file.read_row_group(i, present, use_threads=False)


def plain_text(texts: pa.Array) -> pa.Array:
    """Return texts in lower case, without accents and apostrophes, for comparison.

    >>> plain_text(pa.array(["Émile Straße", "ŁÓDŹ", "O’Hara & Søn"])).to_pylist()
    ['emile strasse', 'lodz', 'ohara & son']
    """
    apart = pc.utf8_normalize(texts, "NFKD")
    bare = pc.utf8_lower(pc.replace_substring_regex(apart, IGNORED, ""))
    if pc.all(pc.string_is_ascii(bare), min_count=0).as_py():
        return bare
    for letter, plain in LETTERS.items():
        bare = pc.replace_substring(bare, letter, plain)
    return bare


def _to_numpy(column: pa.Array) -> NDArray[Any]:
    """Convert numbers without nulls; arrow's own `to_numpy`, and `take`, import pandas: 40 MB."""
    return np.asarray(np.from_dlpack(column))


def decode(row: Row) -> Row:
    """Convert a stored row."""
    reasons = {
        name: [*map(decode_reason, row.get(name, ()))]  # an earlier version has fewer lists
        for name in ("reasons", "list_reasons", "changes")
    }
    kept = {name: None if row.get(name) == "" else row.get(name) for name in COLUMNS}
    features = {
        name.removeprefix(FEATURE): None if value == "" else value
        for name, value in row.items()
        if name.startswith(FEATURE)
    }
    cautions = decode_cautions(row.get("cautions", ()))
    return kept | reasons | {"cautions": cautions, "features": features}


def decode_reason(stored: Row) -> Reason:
    return Reason(
        stored["feature"],
        _value(stored["number"], stored["level"]),
        _value(stored["baseline_number"], stored["baseline_level"]),
        stored["contribution"],
    )


def decode_cautions(stored: Iterable[Row]) -> list[Caution]:
    return [
        Caution(each["code"], each["feature"], _value(each["number"], each["level"]))._replace(
            low=each["low"], high=each["high"]
        )
        for each in stored
    ]


def _value(number: float | None, level: str | None) -> float | str | None:
    return number if level is None else level
