"""Simulate a company whose clients may leave, and whose true risks are therefore known.

A row is one client in one month; its outcome is whether the client left within the two months that
followed. `true_risk` is a fixed function of the row as anyone can read it, missing values included,
and the outcome is a coin tossed with it: no model can be better than `true_risk`, and the tests and
benchmarks know by how much a model falls short.

A client who is going to leave gives notice in the month after the observation and leaves in the
month after that. It is not observed under notice, and a new client takes its place. So a client who
left never comes back, and the months of one client never contradict each other. Activity, tickets
and headcount move a little every month; the other values of a client stay.

Everything follows from the seed, and a month does not depend on how many months are asked for.

Reads   nothing.
Writes  below the folder it is given, what `write_sample` and `write_month` say.
Run     python -m benchmarks.simulation sample --out DIR
        python -m benchmarks.simulation month --out DIR --month 3 --shift harmful --shift-month 2
        python -m benchmarks.simulation describe --clients 10000 --months 12
"""

import argparse
import sqlite3
import sys
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import count, islice
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import pandas as pd

from attrition.errors import ConfigError
from attrition.storage import files

COLUMNS = (
    "corporation",
    "observed_on",
    "lastmonth_activity",
    "lastyear_activity",
    "number_of_employees",
    "tenure_months",
    "open_tickets",
    "annual_contract_value",
    "industry",
    "contract_type",
    "client_manager",
    "exited",
)
SHIFTS = ("none", "harmless", "harmful")
DEFAULT_SEED = 2025
FIRST_MONTH = "2025-09"
OUTCOME_DELAY_MONTHS = 2

SAMPLE_MONTHS = 12
SAMPLE_CLIENTS = 10_000
SAMPLE_ROWS_PER_MONTH = 1_000
SAMPLE_BOOK_MONTH = 13
SAMPLE_TEST_ROWS = 2_000

# Before month 0 the book lives for three years: new clients are riskier than those who are left of
# them. Without it the base rate falls from 32 % to 16 % in the first two years; with it, it stays
# within a point of 15 %.
WARM_UP_MONTHS = 36

INDUSTRY_SHARES = {
    "manufacturing": 0.202,
    "logistics": 0.16,
    "retail": 0.16,
    "healthcare": 0.12,
    "hospitality": 0.12,
    "construction": 0.115,
    "wholesale": 0.115,
    "mining": 0.008,
}
INDUSTRY_EFFECTS = {
    "manufacturing": -0.3,
    "logistics": 0.1,
    "retail": 0.3,
    "healthcare": -0.5,
    "hospitality": 0.5,
    "construction": 0.2,
    "wholesale": 0.0,
    "mining": 0.6,
}
INDUSTRY_MISSING_EFFECT = 0.3
# Shares among new clients; in the book each contract has about a third, because month-to-month
# clients leave sooner.
CONTRACT_SHARES = {"month-to-month": 0.68, "annual": 0.22, "multi-year": 0.1}
HARMFUL_CONTRACT_SHARES = {"month-to-month": 0.3, "annual": 0.25, "multi-year": 0.45}
CONTRACT_EFFECTS = {"month-to-month": 2.4, "annual": 0.0, "multi-year": -2.4}
CONTRACT_FALL_SLOPES = {"month-to-month": 3.3, "annual": 2.8, "multi-year": 2.2}
CLIENT_MANAGERS = (
    "Amara Diallo",
    "Bruno Keller",
    "Chiara Conti",
    "Daniel Okafor",
    "Elena Petrova",
    "Finn O'Connor",
    "Grace Liu",
    "Henrik Sørensen",
)

DEFAULT = "default: %(default)s"

CREATE_CLIENTS = """
CREATE TABLE clients (
    corporation TEXT PRIMARY KEY,
    observed_on TEXT NOT NULL,
    lastmonth_activity INTEGER NOT NULL,
    lastyear_activity INTEGER NOT NULL,
    number_of_employees INTEGER NOT NULL,
    tenure_months INTEGER,
    open_tickets INTEGER,
    annual_contract_value REAL NOT NULL,
    industry TEXT,
    contract_type TEXT NOT NULL,
    client_manager TEXT NOT NULL,
    exited INTEGER,
    updated_at TEXT NOT NULL
)
"""

# How activity and tickets of a client wander from month to month, on the log scale.
TREND_MEMORY, TREND_SD = 0.75, 0.7
STRAIN_MEMORY, STRAIN_SD = 0.9, 0.8

# Somebody always leaves for reasons that no column shows, and nobody is ever lost for certain.
# With these numbers the best possible ROC AUC is 0.86 and the riskiest hundredth is at 0.89; a good
# model trained on 12,000 rows falls short by 0.003 (logistic regression) to 0.010 (boosted trees).
FLOOR, CEILING = 0.03, 0.9
INTERCEPT = -3.55
HARMFUL_INTERCEPT = -2.2
CONTESTED_INDUSTRIES = ("manufacturing", "logistics", "healthcare")
CHANNEL_INDUSTRY = "wholesale"
# From this headcount on the risk no longer depends on it.
LARGE_COMPANY = 100

NAME_STARTS = tuple(
    "Alder,Amber,Anchor,Arden,Ashby,Aurora,Beacon,Birch,Blue,Bright,Cedar,Clear,Cobalt,Copper,"
    "Coral,Crescent,Dalton,Delta,Eagle,Eastern,Elm,Ember,Falcon,Fern,Forge,Garnet,Golden,Granite,"
    "Green,Grey,Hazel,Heron,High,Iron,Ivory,Juniper,Lark,Laurel,Linden,Lower,Lunar,Maple,Marble,"
    "Meridian,Müller & Cie,New,Noble,Northern,Oak,Old,O'Hara & Søn,Opal,Orchid,Pine,Polar,Quartz,"
    "Red,Rowan,Royal,Sable,Silver,Southern,Stone,Western".split(",")
)
NAME_MIDDLES = (
    "",
    *"Bay,Bridge,Brook,Canal,Cape,Castle,Cliff,Coast,Creek,Crown,Dale,Field,Fjord,Gate,Glen,Grove,"
    "Harbour,Haven,Hill,Island,Lake,Landing,Meadow,Mill,Moor,Park,Point,Quay,Ridge,River,Shore,"
    "Spring,Summit,Vale,Wharf".split(","),
)
NAME_ENDS = tuple(
    "Agency,Alliance,Associates,Brothers,Capital,Collective,Company,Concepts,Distribution,"
    "Enterprises,Equipment,Freight,Goods,Group,Guild,Holdings,House,Industries,Interiors,Logistics,"
    "Machines,Materials,Merchants,Networks,Outfitters,Packaging,Partners,Products,Projects,"
    "Provisions,Resources,Services,Solutions,Supply,Systems,Textiles,Trading,Union,Ventures,"
    "Works".split(",")
)
NAME_COMBINATIONS = len(NAME_STARTS) * len(NAME_MIDDLES) * len(NAME_ENDS)
# Coprime to the number of combinations, so that neighbours in number do not share their words.
NAME_STRIDE = 37_199


class Company(TypedDict, total=False):
    """What makes a company, for the functions that pass it on; see `simulate_months`."""

    clients: int
    first_month: str
    seed: int
    shift: str
    shift_month: int | None
    elsewhere: bool


@dataclass(frozen=True)
class Truth:
    """What the best possible model reaches on some rows, from their true risks alone."""

    rows: int
    base_rate: float
    auc: float
    log_loss: float
    best_100: float


@dataclass(frozen=True)
class _Book:
    """The clients of one month as they are, seen or not.

    clients: (n,) one line a client, by number; trend, pace and strain are on the log scale
    activity: (n, 12) int, orders in each of the last twelve months, the latest in column 0
    """

    clients: pd.DataFrame
    activity: np.ndarray


def client_name(number: int) -> str:
    """Name a client: the same number, the same name; no two numbers share one.

    >>> client_name(2), client_name(7), client_name(NAME_COMBINATIONS + 7)
    ('Hazel Crown Solutions', 'Maple Supply', 'Maple Supply 2')
    """
    turn, place = divmod(number, NAME_COMBINATIONS)
    rest, start = divmod(place * NAME_STRIDE % NAME_COMBINATIONS, len(NAME_STARTS))
    end, middle = divmod(rest, len(NAME_MIDDLES))
    suffix = str(turn + 1) if turn else ""
    words = (NAME_STARTS[start], NAME_MIDDLES[middle], NAME_ENDS[end], suffix)
    return " ".join(word for word in words if word)


def month_start(month: int, first_month: str = FIRST_MONTH) -> str:
    """Give the ISO date of the first day of a month, counted from `first_month` = 0.

    Raises: ConfigError where first_month is not YYYY-MM.

    >>> month_start(13)
    '2026-10-01'
    """
    try:
        first = date.fromisoformat(f"{first_month}-01")
    except ValueError:
        raise ConfigError(f"first_month is '{first_month}', expected YYYY-MM") from None
    years, index = divmod(first.month - 1 + month, 12)
    return f"{first.year + years:04d}-{index + 1:02d}-01"


def true_risk(
    rows: pd.DataFrame,
    *,
    shift: str = "none",
    shift_month: int | None = None,
    first_month: str = FIRST_MONTH,
) -> np.ndarray:
    """Give the probability with which each client left within two months; a model can know no more.

    The risk rises as activity falls below its own yearly mean and for small companies (both most
    on month-to-month contracts), with open tickets (most for young clients) and with a short
    tenure; unknown tickets, tenure and industry have effects of their own. Contract value and
    client manager have none. It saturates softly at `FLOOR` and `CEILING`.

    Under "harmful" a competitor wins over the busy clients on long contracts: the effects of
    contract type and activity change sign, most of all in `CONTESTED_INDUSTRIES`. "harmless" moves
    the rows and leaves the risk alone.

    rows: (n,) with the columns of `COLUMNS`; corporation and exited are not used
    shift_month: the shift holds for rows observed from this month on; None: for all rows
    returns: (n,) float in (FLOOR, CEILING)
    Raises: ConfigError for an unknown shift or first_month.
    """
    _check_shift(shift, shift_month)
    contract = rows["contract_type"].map(CONTRACT_EFFECTS).to_numpy(float)
    slope = rows["contract_type"].map(CONTRACT_FALL_SLOPES).to_numpy(float)
    bound = contract + slope * activity_fall(rows)
    is_shifted = np.full(len(rows), shift == "harmful")
    if shift_month is not None:
        is_shifted &= (rows["observed_on"] >= month_start(shift_month, first_month)).to_numpy(bool)
    pull = np.where(rows["industry"].isin(CONTESTED_INDUSTRIES), 1.2, 0.8)
    score = np.where(is_shifted, HARMFUL_INTERCEPT - pull * bound, INTERCEPT + bound)
    score += _lasting_effects(rows)
    return FLOOR + (CEILING - FLOOR) / (1.0 + np.exp(-score))


def activity_fall(rows: pd.DataFrame) -> np.ndarray:
    """Say how far last month lies below the mean month of the year, on the log scale.

    returns: (n,) float in [-1, 2]; 0 no change, 0.69 half of it, -0.69 twice as much
    """
    mean_month = rows["lastyear_activity"].to_numpy(float) / 12.0
    last_month = rows["lastmonth_activity"].to_numpy(float)
    return np.clip(np.log((mean_month + 1.0) / (last_month + 1.0)), -1.0, 2.0)


def _lasting_effects(rows: pd.DataFrame) -> np.ndarray:
    """Sum the effects that no shift touches, on the logit scale: (n,) float."""
    employees = rows["number_of_employees"].to_numpy(float)
    tenure = rows["tenure_months"].to_numpy(float, na_value=np.nan)
    tickets = rows["open_tickets"].to_numpy(float, na_value=np.nan)
    industry = rows["industry"].map(INDUSTRY_EFFECTS).to_numpy(float)
    smallness = np.clip(np.log(LARGE_COMPANY / employees), 0.0, 3.0)
    youth = np.where(np.isnan(tenure), 0.0, np.clip(1.0 - tenure / 24.0, 0.0, 1.0))
    trouble = np.where(np.isnan(tickets), 0.0, np.clip((tickets - 2.0) / 4.0, 0.0, 1.0))
    is_monthly = (rows["contract_type"] == "month-to-month").to_numpy(bool)
    return (
        np.where(np.isnan(industry), INDUSTRY_MISSING_EFFECT, industry)
        + np.where(np.isnan(tickets), 2.4, 2.0 * np.log1p(tickets))
        + np.where(np.isnan(tenure), -0.8, -0.7 * np.log1p(tenure))
        + np.where(is_monthly, 0.45, 0.25) * smallness
        + 0.8 * trouble * youth
    )


def simulate_months(
    *,
    clients: int = SAMPLE_CLIENTS,
    first_month: str = FIRST_MONTH,
    seed: int = DEFAULT_SEED,
    shift: str = "none",
    shift_month: int | None = None,
    elsewhere: bool = False,
) -> Generator[pd.DataFrame, Collection[str] | None]:
    """Yield the labelled rows of all clients, month after month, without end.

    To send names after a month saves these clients: they live on, although its rows have them leave.

    shift: one of `SHIFTS`, from shift_month (default 0) on. "harmless": most new clients come from
        one industry without an effect, and large companies count half as many employees again.
        "harmful": see `true_risk`; also, the contested industries order a little more, and new
        clients take longer contracts.
    elsewhere: another company of the same kind, none of whose clients is in the first
    yields: (clients,) rows with `COLUMNS`, by client number: new clients follow the known ones
    Raises: ConfigError for a bad argument, at the first month asked for.
    """
    _check_shift(shift, shift_month)
    _check_at_least("clients", clients, 1)
    _check_at_least("seed", seed, 0)
    book = _newcomers(np.random.default_rng(seed), [], "none")
    named = 0
    for month in count(-WARM_UP_MONTHS):
        if month == 0:
            named = len(book.clients)
            known = book.clients.assign(corporation=_names(0, named, elsewhere))
            book = _Book(known, book.activity)
        now = shift if month >= (shift_month or 0) else "none"
        rng = np.random.default_rng([seed, int(elsewhere), month + WARM_UP_MONTHS])
        names = _names(named, named + clients - len(book.clients), elsewhere)
        named += len(names)
        book = _live_on(rng, _joined(book, _newcomers(rng, names, now)), now)
        rows = _observe(book, month_start(month, first_month), now)
        has_left = rng.random(clients) < true_risk(rows, shift=now)
        if month >= 0:
            saved = yield rows.assign(exited=has_left.astype("int64"))
            has_left &= ~rows["corporation"].isin(saved or ()).to_numpy()
        book = _Book(book.clients[~has_left], book.activity[~has_left])


def simulate_month(month: int, **company: Unpack[Company]) -> pd.DataFrame:
    """Give the labelled rows of one month, 0 being `first_month`; see `simulate_months`."""
    _check_at_least("month", month, 0)
    return next(islice(simulate_months(**company), month, None))


def simulate(*, months: int = 1, **company: Unpack[Company]) -> pd.DataFrame:
    """Give the labelled rows of the first months, (clients * months,); see `simulate_months`."""
    _check_at_least("months", months, 1)
    return pd.concat(islice(simulate_months(**company), months), ignore_index=True)


def describe_truth(risk: np.ndarray) -> Truth:
    """Say what the best possible model reaches, expected over all outcomes that the risks allow.

    The AUC is a ratio of expectations: pairs (left, stayed) where the one who left had the higher
    risk, ties counting half, to all pairs. The log loss is the mean entropy, in nats.

    risk: (n_rows,) float in (0, 1)

    >>> describe_truth(np.array([0.5, 0.5]))
    Truth(rows=2, base_rate=0.5, auc=0.5, log_loss=0.6931471805599453, best_100=0.5)
    """
    levels, level = np.unique(risk, return_inverse=True)
    left = np.bincount(level, weights=risk, minlength=len(levels))
    stayed = np.bincount(level, weights=1.0 - risk, minlength=len(levels))
    ordered_pairs = left @ (np.cumsum(stayed) - stayed / 2.0)
    entropy = -(risk * np.log(risk) + (1.0 - risk) * np.log1p(-risk))
    return Truth(
        rows=len(risk),
        base_rate=float(risk.mean()),
        auc=float(ordered_pairs / (left.sum() * stayed.sum())),
        log_loss=float(entropy.mean()),
        best_100=float(np.sort(risk)[-100:].mean()),
    )


def write_sample(folder: Path, seed: int = DEFAULT_SEED) -> tuple[Path, ...]:
    """Write the committed sample: a year of history, the current clients, and rows to test on.

    sourcedata/<YYYY-MM>.csv: twelve files, the labelled rows of a random tenth of the book
    sourcedata/crm.sqlite: table `clients`, all who are clients once the last of these outcomes is
        known; exited is NULL, updated_at (ISO 8601, UTC) rises from row to row
    testdata/testdata.csv: 2,000 labelled rows over the same months, each of another client, none
        of whom is in the history or the book

    returns: the files written
    Raises: ConfigError for a bad seed, or where the parent of folder is missing.
    """
    _check_parent(folder)
    source, test = folder / "sourcedata", folder / "testdata"
    *months, book = islice(simulate_months(seed=seed), SAMPLE_BOOK_MONTH + 1)
    history = (_pick(rows, SAMPLE_ROWS_PER_MONTH, seed) for rows in months[:SAMPLE_MONTHS])
    return (
        *(_write_csv(rows, source / f"{_month_of(rows)}.csv") for rows in history),
        _write_database(_opened(book), source / "crm.sqlite"),
        _write_csv(_test_rows(seed), test / "testdata.csv"),
    )


def write_month(
    folder: Path, month: int, *, rows: int = SAMPLE_ROWS_PER_MONTH, **company: Unpack[Company]
) -> tuple[Path, ...]:
    """Write what a company delivers in one month: new observations, and the outcomes now known.

    <YYYY-MM>-open.csv: a random `rows` of the clients, exited empty
    <YYYY-MM>-outcomes.csv: from month 2 on, the open rows of two months before, now with outcome

    With the seed of the sample, the rows of its months are the same, and month 12 goes on where
    its history ends.

    returns: the files written
    Raises: ConfigError for a bad argument, or where the parent of folder is missing.
    """
    _check_at_least("month", month, 0)
    _check_at_least("rows", rows, 1)
    clients = company.get("clients", SAMPLE_CLIENTS)
    if rows > clients:
        raise ConfigError(f"rows is {rows}, expected at most the number of clients, {clients}")
    _check_parent(folder)
    seed = company.get("seed", DEFAULT_SEED)
    first = max(month - OUTCOME_DELAY_MONTHS, 0)
    *earlier, current = (
        _pick(labelled, rows, seed)
        for labelled in islice(simulate_months(**company), first, month + 1)
    )
    name = _month_of(current)
    opened = _write_csv(_opened(current), folder / f"{name}-open.csv")
    if month < OUTCOME_DELAY_MONTHS:
        return (opened,)
    return opened, _write_csv(earlier[0], folder / f"{name}-outcomes.csv")


def _newcomers(rng: np.random.Generator, names: list[str], now: str) -> _Book:
    """Draw new clients: each bought through a reseller before, so a year of activity is known."""
    n = len(names)
    industry = rng.choice(list(INDUSTRY_SHARES), n, p=list(INDUSTRY_SHARES.values()))
    if now == "harmless":
        industry = np.where(rng.random(n) < 0.8, CHANNEL_INDUSTRY, industry)
    contracts = HARMFUL_CONTRACT_SHARES if now == "harmful" else CONTRACT_SHARES
    size = rng.normal(0.0, 1.2, n)
    pace = 2.9 + 0.25 * size + rng.normal(0.0, 0.25, n)
    trend = [rng.normal(0.0, TREND_SD, n)]
    for _ in range(11):
        trend.insert(0, _ar1(rng, trend[0], TREND_MEMORY, TREND_SD))
    clients = pd.DataFrame(
        {
            "corporation": pd.Series(names, dtype="str"),
            "employees": np.exp(3.9 + size),
            "price": rng.normal(6.3, 0.5, n),
            "pace": pace,
            "trend": trend[0],
            "strain": rng.normal(0.0, STRAIN_SD, n),
            "tenure": rng.exponential(30.0, n).astype(int),
            "industry": pd.Series(industry, dtype="str").mask(rng.random(n) < 0.035),
            "contract_type": rng.choice(list(contracts), n, p=list(contracts.values())),
            "client_manager": rng.choice(CLIENT_MANAGERS, n),
            "has_start_date": rng.random(n) >= 0.065,
            "has_help_desk": rng.random(n) >= 0.095,
        }
    )
    return _Book(clients, rng.poisson(np.exp(pace[:, None] + np.column_stack(trend))))


def _live_on(rng: np.random.Generator, book: _Book, now: str) -> _Book:
    """Let a month pass: trend and strain are AR(1), headcount walks, orders and tickets follow."""
    old = book.clients
    new = old.assign(
        employees=old["employees"] * np.exp(rng.normal(0.0, 0.01, len(old))),
        trend=_ar1(rng, old["trend"].to_numpy(), TREND_MEMORY, TREND_SD),
        strain=_ar1(rng, old["strain"].to_numpy(), STRAIN_MEMORY, STRAIN_SD),
        tenure=old["tenure"] + 1,
    )
    growth = 0.15 * (new["industry"].isin(CONTESTED_INDUSTRIES) & (now == "harmful"))
    orders = rng.poisson(np.exp(new["pace"] + new["trend"] + growth))
    new["tickets"] = rng.poisson(np.exp(0.3 + new["strain"]))
    return _Book(new, np.column_stack([orders, book.activity[:, :11]]))


def _ar1(rng: np.random.Generator, old: np.ndarray, memory: float, sd: float) -> np.ndarray:
    """Step an AR(1) whose stationary standard deviation is `sd`."""
    return memory * old + rng.normal(0.0, sd * np.sqrt(1.0 - memory**2), len(old))


def _joined(one: _Book, other: _Book) -> _Book:
    clients = pd.concat([one.clients, other.clients], ignore_index=True)
    return _Book(clients, np.vstack([one.activity, other.activity]))


def _names(start: int, end: int, elsewhere: bool) -> list[str]:
    """Name the clients start..end-1 of a company: one has the even numbers, the other the odd."""
    return [client_name(2 * index + int(elsewhere)) for index in range(start, end)]


def _observe(book: _Book, observed_on: str, now: str) -> pd.DataFrame:
    """See the clients as rows: (n,) with `COLUMNS`, exited missing."""
    clients = book.clients.reset_index(drop=True)
    employees = clients["employees"].clip(lower=1.0)
    counts_temporary = (employees > LARGE_COMPANY) & (now == "harmless")
    return pd.DataFrame(
        {
            "corporation": clients["corporation"],
            "observed_on": pd.Series([observed_on] * len(clients), dtype="str"),
            "lastmonth_activity": book.activity[:, 0],
            "lastyear_activity": book.activity.sum(axis=1),
            "number_of_employees": (employees * np.where(counts_temporary, 1.5, 1.0)).astype(int),
            "tenure_months": clients["tenure"].astype("Int64").where(clients["has_start_date"]),
            "open_tickets": clients["tickets"].astype("Int64").where(clients["has_help_desk"]),
            "annual_contract_value": (np.exp(clients["price"]) * employees**0.8).round(2),
            "industry": clients["industry"],
            "contract_type": clients["contract_type"],
            "client_manager": clients["client_manager"],
            "exited": pd.Series(pd.NA, index=clients.index, dtype="Int64"),
        }
    )


def _pick(rows: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Draw n of the rows of one month, the same ones whenever that month is asked for."""
    year, month = (int(part) for part in _month_of(rows).split("-"))
    rng = np.random.default_rng([seed, year, month, n])
    return rows.iloc[np.sort(rng.choice(len(rows), n, replace=False))]


def _month_of(rows: pd.DataFrame) -> str:
    return str(rows["observed_on"].iloc[0])[:7]


def _opened(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(exited=pd.Series(pd.NA, index=rows.index, dtype="Int64"))


def _test_rows(seed: int) -> pd.DataFrame:
    """Draw as evenly as possible from the months of another company, no client twice."""
    months = simulate_months(clients=SAMPLE_TEST_ROWS, seed=seed, elsewhere=True)
    parts: list[pd.DataFrame] = []
    taken: set[str] = set()
    for month, rows in enumerate(islice(months, SAMPLE_MONTHS), start=1):
        others = rows[~rows["corporation"].isin(taken)]
        part = _pick(others, SAMPLE_TEST_ROWS * month // SAMPLE_MONTHS - len(taken), seed)
        parts.append(part)
        taken |= set(part["corporation"])
    return pd.concat(parts, ignore_index=True)


def _write_csv(rows: pd.DataFrame, path: Path) -> Path:
    """Write rows as UTF-8 with a header, missing values empty."""
    text = rows.to_csv(index=False, float_format="%.2f", lineterminator="\n")
    files.write_bytes(path, text.encode())
    return path


def _write_database(rows: pd.DataFrame, path: Path) -> Path:
    """Write table `clients` as a new file: the same rows and the same SQLite, the same bytes."""
    first = datetime.combine(date.fromisoformat(rows["observed_on"].iloc[0]), time(2), UTC)
    updated_at = [f"{first + timedelta(seconds=i):%Y-%m-%dT%H:%M:%SZ}" for i in range(len(rows))]
    table = rows.astype(object).where(rows.notna(), None).assign(updated_at=updated_at)
    marks = ", ".join("?" * table.shape[1])
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(CREATE_CLIENTS)
        with connection:
            values = table.itertuples(index=False, name=None)
            connection.executemany(f"INSERT INTO clients VALUES ({marks})", values)
        files.write_bytes(path, connection.serialize())
    return path


def _check_parent(folder: Path) -> None:
    """Make no folder's parents: a mistyped path is an error, not a new tree."""
    if not folder.resolve().parent.is_dir():
        raise ConfigError(f"{folder.resolve().parent} is not a folder; make it, or name another")


def _check_shift(shift: str, shift_month: int | None) -> None:
    if shift not in SHIFTS:
        raise ConfigError(f"shift is '{shift}', expected one of {', '.join(SHIFTS)}")
    if shift_month is not None:
        _check_at_least("shift_month", shift_month, 0)


def _check_at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{name} is {value}, expected {least} or more")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    sample = commands.add_parser("sample", help="write sourcedata/ and testdata/ below a folder")
    month = commands.add_parser("month", help="write one month: its open rows, outcomes now due")
    describe = commands.add_parser("describe", help="print what the best possible model reaches")
    for command in (sample, month):
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="write here")
    month.add_argument("--month", type=int, required=True, metavar="K", help="0 is the first")
    month.add_argument("--rows", type=int, default=SAMPLE_ROWS_PER_MONTH, metavar="N", help=DEFAULT)
    describe.add_argument("--months", type=int, default=1, metavar="N", help=DEFAULT)
    for command in (month, describe):
        command.add_argument(
            "--clients", type=int, default=SAMPLE_CLIENTS, metavar="N", help=DEFAULT
        )
        command.add_argument("--first-month", default=FIRST_MONTH, metavar="YYYY-MM", help=DEFAULT)
        command.add_argument("--shift", choices=SHIFTS, default="none", help=DEFAULT)
        command.add_argument(
            "--shift-month", type=int, metavar="K", help="first shifted month (default: 0)"
        )
    for command in (sample, month, describe):
        command.add_argument("--seed", type=int, default=DEFAULT_SEED, metavar="S", help=DEFAULT)
    return parser


def _run(args: argparse.Namespace) -> str:
    """Run one subcommand and give what to print."""
    if args.command == "sample":
        return _listed(write_sample(args.out, args.seed))
    company = Company(
        clients=args.clients,
        first_month=args.first_month,
        seed=args.seed,
        shift=args.shift,
        shift_month=args.shift_month,
    )
    if args.command == "month":
        return _listed(write_month(args.out, args.month, rows=args.rows, **company))
    risk = true_risk(
        simulate(months=args.months, **company),
        shift=args.shift,
        shift_month=args.shift_month,
        first_month=args.first_month,
    )
    truth = describe_truth(risk)
    return (
        f"rows                      {truth.rows}\n"
        f"base rate                 {truth.base_rate:.4f}\n"
        f"best possible ROC AUC     {truth.auc:.4f}\n"
        f"best possible log loss    {truth.log_loss:.4f}\n"
        f"mean risk of the top 100  {truth.best_100:.4f}"
    )


def _listed(paths: Sequence[Path]) -> str:
    return "\n".join(f"{path}  {path.stat().st_size / 1000:.0f} kB" for path in paths)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 done, 1 the disk refused, 2 a bad argument."""
    args = _parser().parse_args(argv)
    try:
        print(_run(args))
    except (ConfigError, OSError) as error:
        print(f"simulation: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
