"""Readings of tables that take long to go wrong: cut off, silent, flipped, and very large."""

import os
import random
import signal
import tracemalloc

import pyarrow as pa
import pytest

from attrition.databases.reader import probe, reading
from attrition.errors import SourceError
from tests.postgres import READER
from tests.tables import all_rows, client, list_rows, unavailable


@pytest.mark.parametrize("how", ["terminate", "restart"])
def test_reading_cut_off_in_the_middle_is_an_error_and_not_an_end(big, server_crm, how):
    server = server_crm.table.server
    with pytest.raises(SourceError) as raised, reading(big, None, seconds=60) as read:
        next(read.chunks)
        {"terminate": server.terminate, "restart": server.restart}[how]()
        rows = list_rows(read)
        assert len(rows) < 300_000
    assert "\n" not in str(raised.value)
    assert len(all_rows(big)) == 300_000


def test_server_that_falls_silent_in_the_middle_is_given_up(big, server_crm):
    server = server_crm.table.server
    given_up = pytest.raises(SourceError, match="in time|timed out")
    with given_up, reading(big, None, seconds=3) as read:
        next(read.chunks)
        pid = server.process.pid  # MariaDB has threads for its sessions
        if server_crm.kind == "postgres":
            with server.connect() as session:
                mine = "SELECT pid FROM pg_stat_activity WHERE usename = %s AND state = 'active'"
                [(pid,)] = session.execute(mine, [READER]).fetchall()
        os.kill(pid, signal.SIGSTOP)
        try:
            list(read.chunks)
        finally:
            os.kill(pid, signal.SIGCONT)


def test_any_flipped_byte_is_told_or_does_no_harm(sqlite_crm):
    """200 single bytes of a good file: what is read is right, or it is told; never a crash."""
    sqlite_crm.insert(*(client(f"client{i}", i, month=i) for i in range(300)))
    sqlite_crm.execute("CREATE INDEX by_change ON clients (updated_at)")
    good = sqlite_crm.table.path.read_bytes()
    rows = len(all_rows(sqlite_crm.database()))
    rng = random.Random(0)
    told = 0
    for at in [*range(0, 100, 2), *rng.sample(range(100, len(good)), 150)]:
        sqlite_crm.table.path.write_bytes(
            good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1 :]
        )
        try:
            probe(sqlite_crm.database(), seconds=20)
            found = all_rows(sqlite_crm.database())
            assert len(found) == rows
        except SourceError:
            told += 1
    assert 20 < told < 200


def test_memory_does_not_grow_with_the_table(big):
    """60 MB of rows, of which a piece and its text are held at a time."""
    tracemalloc.start()
    try:
        with reading(big, None, seconds=60) as read:
            most = max(pa.total_allocated_bytes() for _ in read.chunks)
        assert most < 30e6
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


def test_hostile_view_ends_with_its_time(sqlite_crm):
    sqlite_crm.execute(
        "CREATE VIEW hostile AS SELECT a.name || b.name || c.name || d.name AS x FROM "
        "pragma_function_list a, pragma_function_list b, pragma_function_list c, "
        "pragma_function_list d"
    )
    line = unavailable(sqlite_crm.database(table="hostile", changed_column=None), seconds=0.5)
    assert line.startswith("crm: ")


@pytest.mark.parametrize("n", [0, 1, 49_999, 60_001])
def test_rows_come_in_pieces_that_lose_none(crm, n):
    crm.insert(*(client(f"c{i}", None) for i in range(n)))
    with reading(crm.database(), None, seconds=60) as read:
        rows = list_rows(read)
    assert sorted(row[0] for row in rows) == sorted(f"c{i}" for i in range(n))
    assert read.seen["rows"] == n
