"""Small projects whose runs go through all of the code that writes.

`first` starts from nothing. `news` is a project after that run into which outcomes arrive that
have a signal that its rows did not, so that it trains, deploys, moves the pointer and collects.
"""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd

from attrition.config import Config
from attrition.operations import releases
from tests.conftest import make_rows, write_config

SCENARIOS = ("first", "news")
# Nobody listens there: a run asks whether an API is up.
API = {"port": 9}


def make_first(project: Path) -> Config:
    """Make a project that never ran: files, a SQLite table, test data."""
    table = {"name": "crm", "table": "clients", "url": f"sqlite:///{project}/sourcedata/crm.sqlite"}
    config = write_config(project, contact_capacity=10, databases=[table], api=API)
    make_rows(100, signal=0.0).to_csv(config.input_folder / "history.csv", index=False)
    current = make_rows(30, seed=5, prefix="now").assign(exited="")
    current.to_csv(config.input_folder / "current.csv", index=False)
    bad = make_rows(10, seed=3, prefix="bad", signal=0.0).astype({"number_of_employees": object})
    bad.loc[3, "number_of_employees"] = "-3"
    bad.to_csv(config.input_folder / "onebad.csv", index=False)
    make_rows(60, seed=2, prefix="test", signal=4.0).to_csv(
        config.test_folder / "testdata.csv", index=False
    )
    write_table(config, make_rows(20, seed=4, prefix="crm", signal=0.0))
    return config


def add_old_releases(config: Config) -> None:
    """Add as many older releases as are kept, so that the next deployment has to collect some."""
    current = releases.read_current(config.production_folder)
    _, _, content = current.id.partition("-")
    for second in range(releases.KEEP):
        copy = config.releases / f"20200101T0000{second:02}Z-{content}"
        shutil.copytree(current.folder, copy)


def write_table(config: Config, rows: pd.DataFrame) -> None:
    """Add rows to the table of the SQLite source."""
    with closing(sqlite3.connect(config.input_folder / "crm.sqlite")) as connection:
        rows.to_sql("clients", connection, if_exists="append", index=False)
        connection.commit()


def add_news(config: Config, number: int = 0, rows: int = 150) -> None:
    """Deliver outcomes that show what makes clients leave, as two files and as rows of the table."""
    news = make_rows(rows, seed=9 + number, prefix=f"news{number}n", signal=4.0)
    for i in range(2):  # one delivery alone proves nothing
        news.iloc[i::2].to_csv(config.input_folder / f"news{number}part{i}.csv", index=False)
    write_table(config, make_rows(5, seed=50 + number, prefix=f"crm{number}n", signal=4.0))
