"""The table of risks in SQLite files and on a server: its form, its transaction, its limits."""

import os
import re
import signal

import pyarrow as pa
import pytest

from attrition.config import Database
from attrition.databases import risk_table
from attrition.errors import SourceError

NOON = "2026-03-01T12:00:00Z"
KINDS = {"risk": pa.float64(), "rank": pa.int64(), "value_at_risk": pa.float64()}


def rows(*clients, reasons=None, release="r1", risk=0.5):
    """A batch of rows, one a client."""
    count = len(clients)
    values = {"client": clients, "risk": [risk] * count, "rank": range(1, count + 1)}
    values |= {"value_at_risk": [None] * count, "reasons": reasons or [""] * count}
    values |= {"release": [release] * count, "assessed_at": [NOON] * count}
    return {name: pa.array(each, KINDS.get(name, pa.string())) for name, each in values.items()}


def opened(target, name="risks", seconds=60, **options):
    return risk_table.opened(Database("write_back", target.config_url, name), seconds, **options)


def put(target, *clients, name="risks", **more):
    with opened(target, name) as table:
        list(table.read("r1"))
        table.put([rows(*clients, **more)])


def names(target):
    return [name for (name,) in target.execute("SELECT client FROM risks ORDER BY client")]


def test_table_is_created_with_its_first_rows_and_read_back(target):
    put(target, "b", "a", risk=1e-7)
    with opened(target, read_only=True) as table:
        (batch,) = table.read("r1")
    assert sorted(batch["client"].to_pylist()) == ["a", "b"]
    assert batch["risk"].to_pylist() == [1e-7, 1e-7]
    assert batch["value_at_risk"].to_pylist() == [None, None]


@pytest.mark.parametrize("name", ["risks", "staged_risks"])
def test_row_of_the_same_client_is_updated(target, name):
    put(target, "a", "b", name=name)
    put(target, "b", "c", name=name, risk=0.25)
    assert dict(target.execute(f"SELECT client, risk FROM {name}")) == {
        "a": 0.5,
        "b": 0.25,
        "c": 0.25,
    }


def test_texts_of_any_characters_and_length_are_inserted_and_updated(target):
    texts = ["", "NULL", r"\N", r"\.", 'a,"b"', "\t\r\n\n", "Zoë 🜚", "'; %s {} $1", "wide" * 50_000]
    for release in ("r1", "r2"):
        put(target, *texts, reasons=texts[::-1], release=release)
        with opened(target, read_only=True) as table:
            (batch,) = table.read(release)
        stored = dict(zip(batch["client"].to_pylist(), batch["reasons"].to_pylist(), strict=True))
        assert stored == dict(zip(texts, texts[::-1], strict=True))


def test_only_the_name_is_read_of_rows_of_other_releases(target):
    put(target, "a", "b", "c")
    target.execute("UPDATE risks SET release = NULL WHERE client = 'a'")
    target.execute("UPDATE risks SET release = 'r2' WHERE client = 'b'")
    with opened(target) as table:
        (batch,) = table.read("r1")
    assert dict(zip(*(batch[name].to_pylist() for name in ("client", "risk")), strict=True)) == {
        "a": None,
        "b": None,
        "c": 0.5,
    }


def test_table_of_any_name_is_quoted(target):
    schema = "main" if target.kind == "sqlite" else "public"
    name = "ri\"sk; %s {} 'of'"
    for _ in range(2):
        with opened(target, f"{schema}.{name}") as table:
            list(table.read("r1"))
            table.put([rows("a")])
            table.delete(["b"])
    quoted = name.replace('"', '""')
    assert target.execute(f'SELECT client FROM {schema}."{quoted}"') == [("a",)]


def test_reading_a_table_that_does_not_exist_creates_nothing(target):
    with opened(target, read_only=True) as table:
        assert list(table.read("r1")) == []
    assert target.kind != "sqlite" or not target.path.exists()


def test_numbers_beyond_all_numbers_are_read(target):
    put(target, "a", "b", risk=float("inf"))
    with opened(target) as table:
        assert [each["risk"].to_pylist() for each in table.read("r1")] == [[float("inf")] * 2]


# ---- tables of another form


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("CREATE TABLE risks (client TEXT PRIMARY KEY, phone TEXT)", "no column risk; .*'phone'"),
        ("CREATE TABLE risks ({columns})", "client is not its primary key"),
        ("CREATE TABLE risks ({columns}, PRIMARY KEY (client, rank))", "is not its primary key"),
        (
            "CREATE TABLE risks ({columns}, note TEXT, PRIMARY KEY (client))",
            "an unknown column 'note'",
        ),
        ("CREATE TABLE risks ({other}, PRIMARY KEY (client))", "rank is bigint, not integer"),
        ("CREATE VIEW risks AS SELECT 'x' AS client, 1 AS rank", "is not a table of risks"),
    ],
)
def test_table_of_another_form_is_refused_and_left_alone(target, statement, problem):
    at = int(target.kind == "sqlite")
    columns = ", ".join(f"{name} {kinds[at]}" for name, kinds in risk_table.COLUMNS.items())
    other = columns.replace("rank integer", "rank bigint").replace("rank INTEGER", "rank BIGINT")
    target.execute(statement.format(columns=columns, other=other))
    if "VIEW" not in statement:
        rank = ", rank" if "rank" in statement or "{" in statement else ""
        target.execute(f"INSERT INTO risks (client{rank}) VALUES ('x'{', 1' if rank else ''})")
    with pytest.raises(SourceError, match="nothing is written to it") as raised, opened(target):
        pass
    assert re.search(problem, str(raised.value), re.IGNORECASE)
    assert names(target) == ["x"]


def test_updated_rows_leave_the_index_as_it_is(postgres_target):
    """Each row has room in its own page, again and again."""
    names = [f"c{i}" for i in range(2_000)]
    put(postgres_target, *names)
    size = "SELECT pg_relation_size('risks_pkey')"
    before = postgres_target.execute(size)
    for release in ("r2", "r3"):
        put(postgres_target, *names, release=release)
    assert postgres_target.execute(size) == before


def test_row_that_is_updated_keeps_what_refers_to_it(postgres_target):
    put(postgres_target, "a", "b")
    postgres_target.execute("CREATE TABLE notes (client text REFERENCES risks ON DELETE CASCADE)")
    postgres_target.execute("INSERT INTO notes VALUES ('a'), ('b')")
    put(postgres_target, "a", "b", risk=0.25)
    assert postgres_target.execute("SELECT client FROM notes") == [("a",), ("b",)]


def test_other_tables_are_left_alone(target):
    target.execute("CREATE TABLE other AS SELECT 1 AS n")
    put(target, "a")
    assert target.execute("SELECT n FROM other") == [(1,)]


# ---- the transaction and its limits


def test_reader_sees_the_table_as_it_was_until_all_is_written(target):
    put(target, "a", "b")
    with opened(target) as table:
        list(table.read("r1"))
        table.put([rows("c")])
        table.delete(["a"])
        assert names(target) == ["a", "b"]
    assert names(target) == ["b", "c"]


def test_server_that_does_not_answer_is_given_up_in_time(postgres_target):
    def stopped_server():
        [(backend,)] = postgres_target.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND pid <> pg_backend_pid()"
        )
        os.kill(backend, signal.SIGSTOP)
        stopped.append(backend)
        yield rows("a")

    stopped = []
    try:
        with (
            pytest.raises(
                SourceError, match="writing risks took longer than write_back.max_seconds"
            ),
            opened(postgres_target, seconds=1) as table,
        ):
            table.put(stopped_server())
    finally:
        os.kill(stopped[0], signal.SIGCONT)


def test_row_with_a_key_that_is_no_text_is_removed(sqlite_target):
    put(sqlite_target, "a")
    sqlite_target.execute("INSERT INTO risks (client) VALUES (NULL), (x'61')")
    put(sqlite_target, "b")
    assert names(sqlite_target) == ["a", "b"]
