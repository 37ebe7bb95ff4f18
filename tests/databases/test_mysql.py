"""Tables of a real MariaDB server: types, sessions, and what it can refuse."""

import math
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from attrition.config import Database
from attrition.databases import mysql
from attrition.databases import reader as databases
from attrition.databases.reader import probe, reading
from attrition.errors import SourceError
from tests.tables import all_rows, client, unavailable


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("BOOLEAN", "true", "1"),
        ("BOOLEAN", "NULL", ""),
        ("BIT(1)", "b'1'", "1"),
        ("BIT(64)", "b'101'", "5"),
        ("TEXT", "NULL", ""),
        ("TEXT", "''", ""),
        ("TEXT", "'NULL'", "NULL"),
        ("TEXT", "'two\r\nlines'", "two\r\nlines"),
        ("TEXT", r"'\\N ''%s'' 50% :x'", r"\N '%s' 50% :x"),
        ("TEXT", "'é🚀'", "é🚀"),
        ("TEXT", "repeat('é', 9000)", "é" * 8192),
        ("TEXT CHARACTER SET latin1", "'é'", "é"),
        ("VARCHAR(9) CHARACTER SET ucs2 COLLATE ucs2_bin", "'é'", "é"),
        ("CHAR(9)", "'acme'", "acme"),
        ("VARCHAR(9)", "' acme '", " acme "),
        ("BIGINT", "9223372036854775807", "9223372036854775807"),
        ("BIGINT UNSIGNED", "18446744073709551615", "18446744073709551615"),
        ("INT(5) ZEROFILL", "42", "00042"),
        ("DECIMAL(9, 2)", "12.5", "12.50"),
        ("DECIMAL(65, 30)", "0.1", "0.100000000000000000000000000000"),
        ("DOUBLE", "0.1e0 + 0.2e0", "0.30000000000000004"),
        ("DOUBLE", "1e300", "1e300"),
        ("FLOAT", "0.1", "0.1"),
        ("FLOAT", "1.2345678", "1.2345678"),
        ("FLOAT", "NULL", ""),
        ("YEAR", "2026", "2026"),
        ("DATE", "'2026-03-01'", "2026-03-01"),
        ("DATE", "'0000-00-00'", "0000-00-00"),
        ("DATETIME", "'0000-00-00'", "0000-00-00 00:00:00"),
        ("DATETIME(6)", "'2026-03-01 12:30:00.5'", "2026-03-01 12:30:00.500000"),
        ("TIMESTAMP NULL", "'2026-03-01 12:30:00'", "2026-03-01 10:30:00"),
        ("TIME", "'12:30:00'", "12:30:00"),
        ("ENUM('a', 'b')", "'b'", "b"),
        ("SET('a', 'b')", "'a,b'", "a,b"),
        ("JSON", """'{"a": 1}'""", '{"a": 1}'),
        ("UUID", "'00000000-0000-0000-0000-000000000001'", "00000000-0000-0000-0000-000000000001"),
        ("BLOB", "'acme'", "\x0161636d65"),
        ("BLOB", "repeat('x', 100)", "\x01" + "78" * 20),
        ("VARBINARY(9)", "NULL", ""),
        ("BINARY(2)", "'a'", "\x016100"),
        (
            "POINT",
            "point(1, 1)",
            "\x01" + "0000000001" + "01000000" + "000000000000f03f" + "000000",
        ),
    ],
)
def test_type_of_mysql_is_the_text_that_a_csv_would_hold(mariadb_crm, kind, value, text):
    mariadb_crm.execute(f"CREATE TABLE typed (n INTEGER, value {kind})")
    mariadb_crm.execute(f"INSERT INTO typed VALUES (1, {value})")
    assert all_rows(mariadb_crm.database(table="typed", changed_column=None)) == [["1", text]]


def test_names_that_a_collation_counts_as_equal_are_two_clients(mariadb_crm):
    mariadb_crm.insert(client("ann", 1), client("Ann", 1), client("ann ", 1))
    assert set(mariadb_crm.read()[1]) == {"ann", "Ann", "ann "}
    before = mariadb_crm.mark()
    mariadb_crm.execute("UPDATE clients SET corporation = 'ANN' WHERE corporation = BINARY 'Ann'")
    assert mariadb_crm.mark() != before


@pytest.mark.parametrize("time", ["BLOB", "BIT(8)", "TIME", "JSON"])
def test_column_that_has_no_order_in_time_has_the_table_read_whole(mariadb_crm, time):
    mariadb_crm.execute(f"ALTER TABLE clients ADD COLUMN odd {time}")
    mariadb_crm.execute("INSERT INTO clients (corporation) VALUES ('a')")
    seen = mariadb_crm.read(changed_column="odd")[2]
    assert mariadb_crm.read(seen, changed_column="odd")[:2] == (True, ["a"])


@pytest.mark.parametrize("newest", ["0000-00-00", "9999-12-31"])
def test_time_beyond_all_clocks_hides_nothing(mariadb_crm, newest):
    mariadb_crm.insert(client("odd", newest))
    _, names, seen = mariadb_crm.read()
    mariadb_crm.insert(client("next", 1))
    assert names == ["odd"]
    assert "next" in mariadb_crm.read(seen)[1]


# ---- any change is noticed


@pytest.mark.parametrize(
    ("columns", "contents"),
    [
        (
            "a TEXT, b TEXT",
            [
                *("('x', NULL)", "(NULL, 'x')", "('', 'x')", "('NULL', 'x')", "('', '')"),
                *("('x'',''y', 'z')", "('x', 'y'',''z')"),
                *("('a', 'b'), ('c', 'd')", "('a', 'd'), ('c', 'b')"),
                *("('a', 'a'), ('a', 'a')", "('b', 'b'), ('b', 'b')"),
                *("('ann', '')", "('Ann', '')", "('ann ', '')"),
                *("(repeat('a', 99999), '')", "(concat('b', repeat('a', 99998)), '')"),
            ],
        ),
        ("a FLOAT", ["(1.2345678)", "(1.2345679)"]),
        ("a DOUBLE", ["(0.1e0)", "(0.1e0 + 2e-17)"]),
        ("a BIGINT UNSIGNED", ["(18446744073709551615)", "(18446744073709551614)"]),
        ("a BIT(2), b BLOB", ["(b'01', x'00')", "(b'10', x'00')", "(b'01', x'01')"]),
        ("a TEXT CHARACTER SET latin1, b TEXT", ["('é', 'é')", "('e', 'é')"]),
    ],
)
def test_mark_tells_any_two_contents_apart(mariadb_crm, columns, contents):
    mariadb_crm.execute(f"CREATE TABLE hard ({columns})")
    marks = set()
    for rows in contents:
        mariadb_crm.execute("DELETE FROM hard")
        mariadb_crm.execute(f"INSERT INTO hard VALUES {rows}")
        marks.add(mariadb_crm.mark(table="hard", changed_column=None))
    assert len(marks) == len(contents)


def test_mark_does_not_depend_on_the_order_of_the_rows(mariadb_crm):
    mariadb_crm.execute("CREATE TABLE hard (a TEXT)")
    marks = set()
    for rows in ("('a'), ('b'), (NULL)", "(NULL), ('b'), ('a')"):
        mariadb_crm.execute("DELETE FROM hard")
        mariadb_crm.execute(f"INSERT INTO hard VALUES {rows}")
        marks.add(mariadb_crm.mark(table="hard", changed_column=None))
    assert len(marks) == 1


def test_row_too_long_for_the_server_counts_as_changed(mariadb_crm):
    """A text function that exceeds max_allowed_packet returns NULL, whatever the row."""
    columns = ", ".join(f"repeat('🚀', 10000) AS c{i}" for i in range(600))
    mariadb_crm.execute(f"CREATE VIEW wide AS SELECT {columns}")
    database = mariadb_crm.database(table="wide", changed_column=None)
    assert probe(database, seconds=60) != probe(database, seconds=60)


# ---- which rows are new, and of which table


@pytest.mark.parametrize(
    "change",
    [
        "CREATE OR REPLACE TABLE clients AS SELECT * FROM kept",
        "ALTER TABLE clients ENGINE = InnoDB",
    ],
)
def test_table_made_anew_is_read_whole(mariadb_crm, change):
    mariadb_crm.insert(client("a", 1), client("b", 2))
    mariadb_crm.execute("CREATE TABLE kept AS SELECT * FROM clients")
    seen = mariadb_crm.read()[2]
    assert not mariadb_crm.read(seen)[0]
    time.sleep(1.01)  # the server counts the creation of a table in seconds
    mariadb_crm.execute(change)
    assert mariadb_crm.read(seen)[0]


def test_server_that_was_restarted_has_its_table_read_whole(mariadb_crm):
    mariadb_crm.insert(client("a", 1))
    seen = mariadb_crm.read()[2]
    mariadb_crm.table.server.restart()
    assert mariadb_crm.read(seen)[:2] == (True, ["a"])


@pytest.mark.parametrize("engine", ["MyISAM", "Aria", "MEMORY"])
def test_table_without_transactions_is_refused(mariadb_crm, engine):
    mariadb_crm.execute(f"CREATE TABLE odd (n INTEGER) ENGINE = {engine}")
    assert unavailable(mariadb_crm.database(table="odd", changed_column=None)) == (
        f"crm: odd is a table of {engine}, which cannot be read as of one moment; convert it: "
        "ALTER TABLE odd ENGINE = InnoDB"
    )


# ---- sessions


def ask(database, query):
    with databases._opened(database, 60) as found:
        return found.ask(sa.text(query))[-1]


@pytest.mark.parametrize("kind", ["mysql", "mariadb", "mysql+pymysql", "mariadb+mariadbconnector"])
def test_url_may_say_how_to_connect(mariadb_crm, kind):
    mariadb_crm.insert(client("é"))
    url = mariadb_crm.table.url.replace("mysql:", f"{kind}:")
    database = mariadb_crm.database(url=f"{url}?connect_timeout=3&charset=latin1&sql_mode=ANSI")
    assert [row[0] for row in all_rows(database)] == ["é"]
    wanted = {"sql_mode": "", "time_zone": "+00:00", "max_statement_time": 60, "tx_read_only": 1}
    for name, value in wanted.items():
        assert ask(database, f"SELECT @@{name}") == value
    assert ask(database, "SELECT @@tx_isolation") == "REPEATABLE-READ"


class MysqlCursor:
    """A session of MySQL 8, which answers as we expect it to: such a server is not at hand."""

    connection = SimpleNamespace(get_server_info=lambda: "8.4.6")

    def __init__(self):
        self.queries = []

    def execute(self, query, values=()):
        self.queries.append(query)

    def __iter__(self):
        return iter([("1772323200",), ("a3b2",)])

    def fetchone(self):
        return "InnoDB", "YES", "2026-03-01 00:00:00"


def test_server_of_mysql_is_asked_in_its_own_words():
    cursor = MysqlCursor()
    mysql._begin(cursor, 1.5)
    assert "max_execution_time = 1500" in cursor.queries[0]
    place = mysql._find_place(cursor, Database("crm", "mysql://h/db", "clients"))
    assert place == {"server": "1772323200/a3b2", "relation": "2026-03-01 00:00:00"}
    assert "performance_schema.global_status" in cursor.queries[-1]


def test_session_uses_tls_if_the_server_offers_it(mariadb_crm):
    status = "SHOW SESSION STATUS LIKE 'Ssl_version'"
    assert ask(mariadb_crm.database(), status).startswith("TLSv1.")
    for option, is_plain in {"true": True, "false": False}.items():
        url = f"{mariadb_crm.table.url}?ssl_disabled={option}"
        assert (ask(mariadb_crm.database(url=url), status) == "") == is_plain


def test_certificate_is_verified_if_the_url_names_an_authority(mariadb_crm):
    folder, url = mariadb_crm.table.server.folder, mariadb_crm.table.url
    assert mariadb_crm.read(url=f"{url}?ssl_ca={folder}/ca.pem")[0]
    other = url.replace("127.0.0.1", "localhost")
    line = unavailable(mariadb_crm.database(url=f"{other}?ssl_ca={folder}/ca.pem"))
    assert "certificate is not valid for 'localhost'" in line


def test_table_that_may_not_be_read_is_told(mariadb_crm):
    line = unavailable(mariadb_crm.database(table="mysql.user", changed_column=None))
    assert line.startswith("crm: SELECT command denied to user 'reader'@")


@pytest.mark.parametrize(
    "greeting", [b"SSH-2.0\r\n", b"\x01\0\0\0\x0a", b"\x05\0\0\0\x0a5.5\0", b""]
)
def test_server_that_is_not_of_mysql_is_told(greeting):
    def answer():
        with server.accept()[0] as session:
            session.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mysql://joe:hunter2@127.0.0.1:{server.getsockname()[1]}/db"
        answering = threading.Thread(target=answer)
        answering.start()
        assert unavailable(Database("crm", url, "clients"))
        answering.join()


def test_rows_that_take_too_long_to_fetch_are_given_up(mariadb_crm, monkeypatch):
    mariadb_crm.insert(client("acme"))
    with (
        pytest.raises(SourceError, match="does not deliver all rows in time"),
        reading(mariadb_crm.database(), None, seconds=60) as read,
    ):
        monkeypatch.setattr(mysql, "time", SimpleNamespace(monotonic=lambda: math.inf))
        next(read.chunks)
