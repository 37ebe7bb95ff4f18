"""A PostgreSQL server that is killed again and again while the risks are written into its table."""

import random
import signal
import threading
import time

import psycopg

from attrition.databases import write_back
from tests.conftest import write_config
from tests.databases.conftest import PostgresTarget, assess
from tests.postgres import running

KILLS, CLIENTS = 50, 3_000
STAND = "SELECT release, count(*) FROM risks GROUP BY release"


def test_server_killed_in_the_middle_has_the_old_rows_or_the_new_and_never_half(tmp_path):
    """Each assessment changes every row; a second reader looks all the time."""
    rng = random.Random(0)
    with running() as server:
        target = PostgresTarget(server)
        config = write_config(
            tmp_path, write_back={"url": target.config_url, "table": "risks", "max_seconds": 60}
        )

        def assess_again(number):
            """Assess other clients: a tenth is gone, another tenth is new."""
            first = number % 2 * CLIENTS // 10
            names = [f"c{i}" for i in range(first, first + CLIENTS)]
            release = f"r{number}"
            assess(config, [number / 1000] * CLIENTS, client=names, release=release)
            return (release, CLIENTS)

        seen, is_over = set(), threading.Event()

        def look():
            while not is_over.is_set():
                try:
                    with server.connect() as connection:
                        while not is_over.is_set():
                            seen.add(tuple(connection.execute(STAND).fetchall()))
                            connection.commit()
                except psycopg.Error:
                    time.sleep(0.01)

        old = assess_again(0)
        assert not write_back.write_back(config).problem
        began = time.monotonic()
        old = assess_again(1)
        assert not write_back.write_back(config).problem
        longest_s = time.monotonic() - began
        reader = threading.Thread(target=look)
        reader.start()
        cut = 0
        try:
            for number in range(2, KILLS + 2):
                new = assess_again(number)
                killer = threading.Timer(rng.uniform(0, longest_s), server.stop, [signal.SIGQUIT])
                killer.start()
                cut += bool(write_back.write_back(config).problem)
                killer.join()
                server.start()
                (stand,) = target.execute(STAND)
                assert stand in (old, new)
                assert not write_back.write_back(config).problem
                assert target.execute(STAND) == [new]
                old = new
        finally:
            is_over.set()
            reader.join()
    assert cut > KILLS / 3
    assert len(seen) > KILLS / 3
    assert all(len(stand) == 1 and stand[0][1] == CLIENTS for stand in seen)
