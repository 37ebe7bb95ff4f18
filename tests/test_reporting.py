import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pypdf
import pytest
from reportlab.pdfbase.pdfmetrics import stringWidth

import reporting
from attrition import config as configuration
from attrition import config_file, wording
from attrition.contacts import log
from attrition.data import clients
from attrition.data.cells import Caution, Reason
from attrition.errors import Damaged
from attrition.operations import releases
from attrition.reporting import charts, pdf, style
from attrition.storage import files, history
from tests.conftest import PLAIN_KEYS
from tests.effect.records import make_open, make_record
from tests.support import interval, metrics

ROOT = Path(__file__).resolve().parent.parent
MANAGERS = ("Amara Diallo", "Bruno Keller", "Henrik Sørensen")
HOSTILE = (
    '<b>&Bold</b> <font color="[[1]]">Ltd',
    "<img src='http://127.0.0.1:9/x.png'/>",
    "$x$ \\frac{1}{0} {{7*7}} %s",
    "'; DROP TABLE clients; --",
    "A" * 120,
    "Kowalski and Sons of the Very Long Name " * 3,
)


def drifted(columns):
    return {
        "verdict": "moved",
        "rows": 10_000,
        "sentence": "data has drifted: open_tickets (10,000 rows)",
        "columns": [
            {
                "column": name,
                "kind": "score" if i == 0 else "numeric",
                "p_value": 0.2,
                "q_value": 0.31,
                "psi": psi,
                "missing_pct": 2.0,
                "reference_missing_pct": 1.5,
                "unseen_pct": None,
                "weight": None if i == 0 else 0.1,
                "verdict": "act" if psi >= 0.1 else "look" if psi >= 0.02 else "stable",
            }
            for i, (name, psi) in enumerate(columns.items())
        ],
    }


def rich_records():
    rng = np.random.default_rng(1)
    risk = np.sort(rng.beta(1.2, 6, 4_000))[::-1]
    left = rng.random(4_000) < risk
    found, wrong = np.cumsum(left) / left.sum(), np.cumsum(~left) / (~left).sum()
    steps = np.linspace(0, 3_999, 150).astype(int)
    names = ["risk", "lastmonth_activity", "lastyear_activity", "number_of_employees"]
    names += ["tenure_months", "open_tickets", "industry", "contract_type"]
    comparison = {
        "set": "all_unseen",
        "rows": 4_000,
        "left": int(left.sum()),
        "roc_auc_difference": interval(0.0123, 0.005),
        "p_value": 0.0004,
        "log_loss_difference": interval(-0.0061, 0.002),
        "brier_difference": interval(-0.0014, 0.0009),
    }
    numeric = {
        "kind": "numeric",
        "count": 9_800,
        "missing": 200,
        "missing_pct": 2.0,
        "mean": 1234.5,
        "median": 210.0,
        "std": 4321.9,
        "minimum": 0,
        "maximum": 98_765,
        "quantiles": {"0.05": 3, "0.25": 40, "0.75": 800, "0.95": 5_400},
    }
    categorical = {
        "kind": "categorical",
        "count": 9_950,
        "missing": 50,
        "missing_pct": 0.5,
        "distinct": 8,
        "levels": [
            ["manufacturing", 2_050],
            ["logistics", 1_600],
            ["retail", 1_600],
            ["healthcare", 1_200],
            ["hospitality", 1_200],
        ],
    }
    shifts = (0.004, 0.031, 0.0, 0.002, 0.011, 0.14, 0.0, 0.003)
    moved = drifted(dict(zip(names, shifts, strict=True)))
    performance = {
        "verdict": "fine",
        "rows": 612,
        "left": 71,
        "roc_auc": interval(0.80, 0.03),
        "reference_roc_auc": interval(0.812, 0.02),
        "observed": 71,
        "expected": 68.2,
        "sentence": "model still accurate: 71 of 612 left, 68 expected",
    }
    return {
        "training": {
            "trained_at": "2026-11-23T18:30:00Z",
            "kind": "gradient boosting",
            "rows": 9_604,
            "left": 1_402,
            "clients": 8_011,
            "held_out_rows": 2_396,
            "held_out_clients": 1_989,
            "features": {"numeric": names[1:6], "categorical": names[6:]},
            "dropped": {"fax_number": "the same value in every row"},
            "candidates": [
                {"name": "gradient boosting", "log_loss": 0.3512, "standard_error": 0.0071}
                | {"chosen": True},
                {"name": "logistic regression", "log_loss": 0.3598, "standard_error": 0.0069}
                | {"chosen": False},
                {"name": "base rate", "log_loss": 0.4161, "standard_error": 0.0055}
                | {"chosen": False},
            ],
            "why": "cross-validated log loss 0.3512, the lowest of 3",
            "window": "all rows",
            "parts": {"gradient boosting": 1.0},
            "calibration": {"kind": "none", "log_loss": {"none": 0.3512}},
            "importance": dict(zip(names[1:], (0.4, 0.1, 0.05, 0.2, 0.15, 0.1, 0.0), strict=True)),
            "warnings": [],
        },
        "score": {
            "scored_at": "2026-11-23T18:31:00Z",
            "capacity": 100,
            "threshold": 0.5,
            "sets": {
                "test": {"rows": 2_000, "left": 301}
                | {"candidate": metrics(), "champion": metrics(-0.012)},
                "unseen": {"rows": 2_396, "left": 355}
                | {"candidate": metrics(0.004), "champion": metrics(-0.01)},
                "recent": None,
            },
            "warnings": ["The outcomes of the last two months are not complete yet."],
            "comparison": comparison,
            "curves": {
                "rows": 4_000,
                "left": int(left.sum()),
                "confusion": {"stayed_stayed": 3_177, "stayed_left": 123}
                | {"left_stayed": 517, "left_left": 183},
                "roc": {
                    "false_positive_rate": wrong[steps].tolist(),
                    "true_positive_rate": found[steps].tolist(),
                },
                "calibration": [
                    {
                        "mean_risk": float(risk[part].mean()),
                        "observed": float(left[part].mean()),
                        "low": max(0.0, float(left[part].mean()) - 0.05),
                        "high": float(left[part].mean()) + 0.05,
                        "rows": 400,
                    }
                    for part in np.array_split(np.arange(4_000), 10)
                ],
                "gain": {
                    "share_contacted": ((steps + 1) / 4_000).tolist(),
                    "share_found": found[steps].tolist(),
                },
            },
        },
        "decision": {
            "decided_at": "2026-11-23T18:32:00Z",
            "promoted": True,
            "rule": "better",
            "reason": "deployed: proven better, ROC AUC +0.012 [+0.007, +0.017]",
            "comparison": comparison,
        },
        "monitoring": {
            "checked_at": "2026-11-23T18:29:00Z",
            "retrain": True,
            "triggers": ["more_rows"],
            "reason": "retraining needed: the labelled rows have doubled",
            "performance": performance,
            "drift": moved,
        },
        "assessment": {
            "assessed_at": "2026-11-23T18:33:00Z",
            "clients": 10_000,
            "expected_to_leave": interval(1_234.4, 62.0),
            "value": 48_123_456.0,
            "value_at_risk": interval(4_251_234.0, 310_000.0),
            "list": {"clients": 100, "expected_to_leave": interval(71.2, 8.0)}
            | {"value_at_risk": interval(812_345.0, 90_000.0)},
            "shared_reasons": [
                {"feature": "contract_type", "value": "month-to-month", "baseline": "multi-year"}
                | {"clients": 97}
            ],
            "estimate": {
                "sentence": "expected to leave: 1,234 of 10,000 clients",
                "warnings": [],
                "expected": interval(1_234.4, 62.0),
                "rate": interval(0.123, 0.006),
                "value_at_risk": interval(4_251_234.0, 310_000.0),
                "roc_auc": interval(0.81, 0.02),
                "precision": interval(0.71, 0.08),
                "listed": interval(71.2, 8.0),
                "listed_value_at_risk": interval(812_345.0, 90_000.0),
            },
            "second_opinion": {"estimate": None, "reason": "not needed: the clients are alike"},
            "risk_histogram": {
                "edges": np.linspace(0, 1, 21).tolist(),
                "counts": np.histogram(rng.beta(1.2, 7, 10_000), np.linspace(0, 1, 21))[0].tolist(),
            },
        },
        "diagnostics": {
            "diagnosed_at": "2026-11-23T18:34:00Z",
            "columns": dict.fromkeys(names[1:6], numeric) | dict.fromkeys(names[6:], categorical),
            "drift": moved,
            "timings": {
                "ingestion": [{"at": "2026-11-23T18:29:00Z", "elapsed_s": 1.3}] * 20,
                "training": [{"at": "2026-11-23T18:30:00Z", "elapsed_s": 75.2}] * 8,
                "trend": {"ingestion": "steady", "training": "8 % longer than in October"},
                "doubled": ["training: CPU time has grown from 70 s to 170 s"],
            },
            "dependencies": {
                "asked_at": "2026-11-23T04:00:00Z",
                "reachable": True,
                "packages": [
                    {"name": "pandas", "required": "3.1.1", "installed": "3.1.1"}
                    | {"latest": "3.1.1", "outdated": False},
                    {"name": "flask", "required": "3.1.3", "installed": "3.1.3"}
                    | {"latest": "3.2.0", "outdated": True},
                    {"name": "reportlab", "required": "5.1.0", "installed": "5.1.0"}
                    | {"latest": "unknown", "outdated": None},
                ],
            },
            "data": {"rows": 22_000, "labelled": 12_000, "left": 1_757, "open": 10_000}
            | {"clients": 15_112, "current_clients": 10_000, "sources": 14}
            | {"rejected": 37, "duplicates": 512},
        },
    }


def rich_contacts(n=100, names=()):
    names = [*names, *(f"Client {i:05d} & Søn Ltd" for i in range(n))][:n]
    return [
        {
            **dict.fromkeys(clients.COLUMNS),
            "rank": i + 1,
            "list_rank": i + 1,
            "client": name,
            "risk": 0.93 - 0.4 * i / n,
            "value": 52_000 - i,
            "value_at_risk": (52_000 - i) * (0.93 - 0.4 * i / n),
            "manager": MANAGERS[i % 3],
            "reasons": [Reason("contract_type", "month-to-month", "multi-year", 0.9)],
            "list_reasons": [
                Reason("activity_a_month", 12.0, 50.0, 0.9),
                Reason("open_tickets", 9.0, 1.0, 0.5),
                Reason("contract_type", "month-to-month", "multi-year", 0.2),
            ],
            "changes": [Reason("open_tickets", 9.0, 2.0, 0.5)],
            "cautions": [],
            "previous_rank": i + 3 if i % 4 else None,
            "risk_change": 0.02 if i % 4 else None,
        }
        for i, name in enumerate(names)
    ]


def rich_history(months=11):
    stamps = [f"2026-{month + 1:02d}-02T04:00:00Z" for month in range(months)]
    scores = [
        {"scored_at": at, "model": f"m{i}", "kind": "gradient boosting", "promoted": i % 3 == 0}
        | {"set": name, "metric": "roc_auc", "value": 0.79 + shift + 0.002 * i}
        | {"low": 0.76 + shift + 0.002 * i, "high": 0.82 + shift + 0.002 * i}
        for i, at in enumerate(stamps)
        for name, shift in (("test", 0.0), ("unseen", 0.012))
    ]
    missing = [
        {"at": at, "made": f"d{i}", "column": name, "missing_pct": share + 0.1 * i}
        for i, at in enumerate(stamps)
        for name, share in (("open_tickets", 4.0), ("industry", 0.5), ("tenure_months", 1.0))
    ]
    deployments = [
        {"at": at, "made": f"p{i}", "action": "promoted" if i % 3 == 0 else "refused"}
        | {"release": "20261123T183200Z-0a1b2c3d", "reason": "It ranks the clients better."}
        for i, at in enumerate(stamps)
    ]
    runs = [
        {"run": f"r{i}", "started_at": at, "ended_at": at, "elapsed_s": 92.0, "outcome": "done"}
        | {"reason": "new rows"}
        for i, at in enumerate(stamps)
    ]
    kept = [
        {"at": at, "made": f"e{i}", "release": "r", "figure": "roc_auc", "rows": 500}
        | {"estimated": 0.8, "low": 0.77, "high": 0.83, "realised": 0.8 + 0.02 * (i % 3)}
        for i, at in enumerate(stamps)
    ]
    found = {"scores": scores, "missing": missing, "deployments": deployments, "runs": runs}
    return found | {"estimates": kept}


def write_contacts(config, contacts, record):
    """Write the record of an assessment and the table of its clients, all of them on the list."""
    table = pd.DataFrame(contacts).astype({"list_rank": "Int64", "previous_rank": "Int64"})
    content = {config.clients: lambda path: clients.write_clients(path, table)}
    files.commit(config.assessment_record, content, record)


def write_project(folder, records=None, contacts=(), past=None, **settings):
    """Write a configured project, its records, its release and its history; return the config."""
    keys = {key: key for key in PLAIN_KEYS}
    folder.joinpath("config.json").write_text(json.dumps(keys | settings))
    config = config_file.load(folder / "config.json")
    records = records or {}
    contents = {
        "decision": config.decision_record,
        "monitoring": config.monitoring_record,
        "assessment": config.assessment_record,
        "diagnostics": config.diagnostics_record,
    }
    if "training" in records:
        made = {
            releases.MODEL: b"model",
            releases.CARD: b"card",
            releases.TRAINING: files.encode(files.sealed(records["training"])),
            releases.SCORE: files.encode(files.sealed(records["score"])),
        }
        manifest = {"deployed_at": "2026-11-23T18:32:00Z"}
        release = releases.create(config.production_folder, made, manifest)
        releases.activate(config.production_folder, release)
        if "monitoring" in records:
            records["monitoring"] = {"release": release} | records["monitoring"]
    for name in contents.keys() & records.keys():
        files.write_bytes(contents[name], files.encode(files.sealed(records[name])))
    if contacts and "assessment" in records:
        write_contacts(config, contacts, records["assessment"])
    for name, rows in (past or {}).items():
        history.save(config.history, name, rows)
    return config


def poor_records():
    """A company of 26 clients, 5 test rows, no value, no manager, no model worth the name."""
    unknown = {"value": None, "low": None, "high": None}
    records = rich_records()
    few = dict.fromkeys(records["score"]["sets"]["test"]["candidate"], unknown) | {"called": 5}
    few["f1"] = {"value": 0.5714, "low": None, "high": None}
    records["training"] |= {
        "kind": "base rate",
        "rows": 21,
        "left": 9,
        "clients": 21,
        "held_out_rows": 0,
        "held_out_clients": 0,
        "dropped": {},
        "candidates": [],
        "why": "26 rows are too few for a model that tells clients apart; 50 are needed.",
        "importance": dict.fromkeys(records["training"]["importance"], 0.0),
        "warnings": ["26 rows with an outcome: 50 are needed for a model.", "9 clients left."],
    }
    records["score"] = {
        "sets": {"test": {"rows": 5, "left": 2, "candidate": few, "champion": None}}
        | {"unseen": None, "recent": None},
        "warnings": ["5 test rows prove nothing."],
        "comparison": None,
        "curves": {
            "rows": 5,
            "left": 2,
            "confusion": {"stayed_stayed": 2, "stayed_left": 1, "left_stayed": 0, "left_left": 2},
            "roc": {"false_positive_rate": [0, 1], "true_positive_rate": [0, 1]},
            "calibration": [{"mean_risk": 0.43, "observed": 0.4, "low": 0.05, "high": 0.85}],
            "gain": {"share_contacted": [0, 1], "share_found": [0, 1]},
        },
    }
    records["decision"] |= {
        "comparison": None,
        "reason": "first model deployed (none was in production)",
    }
    records["monitoring"] |= {
        "performance": {"verdict": "insufficient", "sentence": "No outcome has come in since."},
        "drift": {"verdict": "insufficient", "sentence": "26 rows are too few.", "columns": []},
    }
    records["assessment"] |= {
        "clients": 26,
        "expected_to_leave": interval(11.2, 5.0),
        "value": None,
        "value_at_risk": None,
        "list": {
            "clients": 26,
            "expected_to_leave": interval(11.2, 5.0),
            "value_at_risk": None,
        },
        "shared_reasons": [],
        "risk_histogram": {
            "edges": [i / 20 for i in range(21)],
            "counts": [0] * 8 + [26] + [0] * 11,
        },
    }
    records["diagnostics"] |= {
        "drift": records["monitoring"]["drift"],
        "timings": {"ingestion": [], "training": [], "trend": {}},
        "dependencies": {"asked_at": None, "reachable": False, "packages": []},
        "data": {"rows": 26, "labelled": 26, "left": 12, "open": 0, "clients": 26, "sources": 2}
        | {"current_clients": 14, "rejected": 0, "duplicates": 17},
    }
    return records


def poor_contacts():
    return [
        {**dict.fromkeys(clients.COLUMNS), "rank": i + 1, "list_rank": i + 1}
        | {"client": f"c{i:02d}", "risk": 0.43}
        | {"reasons": [], "cautions": [], "list_reasons": [], "changes": []}
        for i in range(26)
    ]


def rich_project(folder, names=(), n=100):
    columns = {"numeric": ["open_tickets"], "value": "contract_value", "manager": "client_manager"}
    return write_project(
        folder, rich_records(), rich_contacts(n, names), rich_history(), columns=columns
    )


def poor_project(folder):
    return write_project(folder, poor_records(), poor_contacts())


def read_pages(config):
    """What each page says, every run of white space a blank."""
    found = pypdf.PdfReader(config.report).pages
    return [" ".join(page.extract_text().split()) for page in found]


def squeezed(text):
    return "".join(text.split())


# ---- page one


def test_first_page_tells_the_four_numbers_with_their_intervals(tmp_path):
    config = rich_project(tmp_path)
    reporting.write_report(config)
    first = read_pages(config)[0]
    for said in (
        "As of 23 November 2026, 18:34 UTC",
        "10,000",
        "1,234 Expected to leave 95 % interval 1,172 to 1,296",
        "4.25 M Value at risk, EUR",
        "of 48.1 M; 95 % interval 3.94 M to 4.56 M",
        "19 % of the value at risk",
        "Is the model healthy? Amber. Data has drifted: open_tickets (10,000 rows).",
        "71 of 612 left, 68 expected. Runs, sources and files were also checked and are in order.",
        "What to do: Check whether the columns that drifted are delivered as before",
        "Deployed: proven better, ROC AUC +0.012",
        "The outcomes of the last two months are not complete yet.",
        "activity a month: 12 (baseline: 50)",
        "25 new: Client 00000 & Søn Ltd, Client 00004 & Søn Ltd, Client 00008 & Søn Ltd, ...",
        "Henrik Sørensen",
    ):
        assert said in first


def test_light_follows_the_last_check_of_the_model_in_production(tmp_path):
    records = rich_records()
    records["diagnostics"]["drift"] = records["monitoring"]["drift"] = {"verdict": "stable"}
    assert "healthy? Green. Model still accurate: 71 of" in first_page(tmp_path / "a", records)
    records["monitoring"]["performance"]["verdict"] = "degraded"
    assert "healthy? Red. Model still accurate" in first_page(tmp_path / "b", records)
    records["monitoring"]["release"] = "the one before"
    unchecked = first_page(tmp_path / "c", records)
    assert "Green. The model has not been checked against new outcomes yet. On 2,396" in unchecked
    assert "in 82 % of pairs (95 % interval 79 % to 84 %)." in unchecked


def first_page(folder, records):
    folder.mkdir()
    config = write_project(folder, records)
    reporting.write_report(config)
    return read_pages(config)[0]


def test_hostile_client_names_stand_on_the_page_as_they_are(tmp_path):
    config = rich_project(tmp_path, [*HOSTILE, "W" * 300])
    reporting.write_report(config)
    first, listed = map(squeezed, read_pages(config)[:2])
    for name in HOSTILE:
        assert squeezed(wording.shorten(name, 60)) in first
        assert squeezed(name) in listed
    assert "W" * 60 + "…" + "W" * 59 in listed


def test_names_that_the_font_lacks_are_squares_and_right_to_left_ones_are_turned(tmp_path):
    config = rich_project(tmp_path, ("emoji 🦄 end", "שלום עולם", "日本", "\u202eevil", "a\x00b"))
    reporting.write_report(config)
    first = read_pages(config)[0]
    for said in ("emoji □ end", "שלום עולם", "□□", "□evil", "a□b"):
        assert said in first
    assert "□ stands for a character that this report cannot show" in first


def test_nothing_is_set_outside_the_margins(tmp_path):
    config = rich_project(tmp_path, [name * 3 for name in HOSTILE])
    reporting.write_report(config)
    spans = []

    def keep(text, matrix, text_matrix, font, size):
        x, y = matrix[4] + text_matrix[4], matrix[5] + text_matrix[5]
        spans.append((x, x + stringWidth(text.strip(), pdf.FONT, size), y))

    for page in pypdf.PdfReader(config.report).pages:
        page.extract_text(visitor_text=keep)
    assert all(left >= 0 and right <= pdf.A4[0] and y >= 0 for left, right, y in spans)


@pytest.mark.parametrize("names", [(), HOSTILE, ["W" * 120] * 12])
def test_contact_table_fits_into_its_room(names):
    pdf.register_fonts()
    facts = reporting.ReportData(contacts=rich_contacts(100, names))
    for room in (120, 300):
        assert 40 < pdf.height(reporting.contact_section(facts, room)) <= room


def test_contact_table_of_long_names_stays_on_page_one(tmp_path):
    config = rich_project(tmp_path, ["W" * 119 + str(i % 10) for i in range(12)])
    reporting.write_report(config)
    found = read_pages(config)
    assert squeezed(found[0]).count("W" * 30 + "…" + "W" * 28) >= 6
    assert "Whom to contact first" in found[0]
    assert found[1].startswith("Client attrition report")
    assert "The list" in found[1]


# ---- the pages that follow


def test_report_states_whether_calling_helps_on_page_one_and_what_that_rests_on(tmp_path):
    records = rich_records()
    records["assessment"] |= {"experiment": make_record()}
    config = write_project(tmp_path, records, rich_contacts(20))
    reporting.write_report(config)
    first, *others = read_pages(config)
    line = "Contacting keeps clients: 8 fewer in 100 left (95 % interval 2 to 14), worth EUR 1.2 M."
    assert f"Does calling help? {line}" in first
    rest = " ".join(others)
    for part in (
        *(
            line,
            "Held out by chance 100 31 (31 %) 33 104 25 0 2.0 %",
            "Sample ratio: At the look on 1 July 2026: 20 %",
        ),
        *("25 clients who would be listed", "fewer left, in points", "Apr 2026 Jul 2026"),
    ):
        assert part in rest


def test_report_before_the_first_look_has_no_drawing_of_looks(tmp_path):
    records = rich_records()
    records["assessment"] |= {"experiment": make_open()}
    config = write_project(tmp_path, records, rich_contacts(20))
    reporting.write_report(config)
    text = " ".join(read_pages(config))
    assert "Next look: 1 July 2026" in text
    assert "fewer left" not in text


def test_clients_whose_risk_is_to_be_read_with_care_are_counted(tmp_path):
    few = [Caution("few_clients")]
    contacts = [row | {"cautions": few[: row["rank"] < 4]} for row in rich_contacts(20)]
    config = write_project(tmp_path, rich_records(), contacts)
    reporting.write_report(config)
    care = "3 risks need care: see low_confidence in contactlist.csv."
    assert care in read_pages(config)[0]


def test_report_tells_what_the_other_steps_found(tmp_path):
    config = rich_project(tmp_path)
    reporting.write_report(config)
    text = " ".join(read_pages(config))
    for said in (
        "on 9,604 rows of 8,011 clients, with 1,402 leavers",
        "Columns not used: fax_number: the same value in every row.",
        "gradient boosting 0.351 ± 0.007 chosen",
        "0.82 (0.79–0.84)",
        "+0.012 (+0.007 to +0.017)",
        "p < 0.001",
        "Estimated performance (outcomes still unknown) Expected to leave: 1,234 of 10,000 clients.",
        "Check under covariate shift: not needed: the clients are alike.",
        "ROC AUC 11 0.02 8 of 11 0.80 [0.77 – 0.83] 0.82",
        "22,000 rows of 15,112 clients, 10,000 of them current, from 14 accepted sources",
        "manufacturing 21 %",
        "training data Data has drifted: open_tickets (10,000 rows).",
        "open_tickets 10 % 0.140 0.310 1.5 % 2.0 % – material",
        "training 8 1 min 15 s 1 min 15 s – – 8 % longer than in October",
        "training: CPU time has grown from 70 s to 170 s.",
        "1 of 3 packages outdated: flask (checked 23 November 2026, 04:00 UTC).",
        "flask 3.1.3 3.1.3 3.2.0 outdated",
        "reportlab 5.1.0 5.1.0 unknown unknown",
        "The list Of the 100 clients on the contact list, 71 (63 to 79) are expected to leave",
        "2026-10-02 04:00 promoted",
        "done: new rows",
        "Page 9",
    ):
        assert said in text, said


def test_tables_repeat_their_header_on_every_page(tmp_path):
    records = rich_records()
    numeric = next(iter(records["diagnostics"]["columns"].values()))
    many = {f"column {i:03d}": numeric for i in range(120)}
    records["diagnostics"]["columns"] = many
    config = write_project(tmp_path, records)
    reporting.write_report(config)
    with_rows = [page for page in read_pages(config) if "column 0" in page or "column 1" in page]
    assert len(with_rows) >= 2
    assert all("column missing mean std min" in page for page in with_rows)


def test_no_page_ends_with_a_heading(tmp_path):
    for name, make in (("rich", rich_project), ("poor", poor_project), ("none", write_project)):
        (tmp_path / name).mkdir()
        config = make(tmp_path / name)
        reporting.write_report(config)
        for page in read_pages(config):
            said = page.rsplit(" Page ", 1)[0]
            assert not said.endswith(("The model", "The data", "Operations", "newest first"))


# ---- what is missing


def test_report_before_anything_ran_says_so(tmp_path):
    config = write_project(tmp_path)
    report = reporting.write_report(config)
    text = " ".join(read_pages(config))
    assert report.figures == 9
    for said in (
        "Nothing was run yet; no model in production yet",
        "No candidate has been evaluated yet.",
        "The contact list is empty",
        "The data has not been examined yet.",
        "No step has been timed yet.",
        "The installed packages have not been checked yet.",
        "Nothing has been deployed yet.",
        "No run has been recorded yet.",
    ):
        assert said in text, said


def test_list_without_a_client_is_explained_under_its_heading(tmp_path):
    records = rich_records()
    nobody = {"clients": 0, "expected_to_leave": None, "value_at_risk": None}
    records["assessment"] |= {"clients": 0, "list": nobody}
    config = write_project(tmp_path, records)
    reporting.write_report(config)
    pages = read_pages(config)
    assert "0 Current clients no current client" in pages[0]
    assert "The list The contact list is empty: there is no current client. The model" in pages[1]


def test_report_of_a_small_company_promises_nothing(tmp_path):
    config = poor_project(tmp_path)
    reporting.write_report(config)
    text = " ".join(read_pages(config))
    for said in (
        "Amber. The model in production is a base rate, which does not rank clients",
        "config.json names no column for the value",
        "100 % of those expected to leave",
        "5 test rows prove nothing.",
        "No row was reserved to evaluate it.",
        "Too few outcomes for ROC AUC, PR AUC",
        "There was no previous model to compare it with.",
        "26 rows are too few.",
    ):
        assert said in text, said
    assert "client manager" not in text


@pytest.mark.parametrize(
    "gone", ["training", "decision", "monitoring", "assessment", "diagnostics"]
)
def test_report_stands_without_any_one_record(tmp_path, gone):
    records = rich_records()
    del records[gone]
    config = write_project(tmp_path, records, rich_contacts(), rich_history())
    assert reporting.write_report(config).pages >= 2


@pytest.mark.parametrize("gone", ["sets", "comparison", "curves", "warnings"])
def test_report_stands_without_parts_of_the_score(tmp_path, gone):
    records = rich_records()
    records["score"][gone] = None if gone != "warnings" else []
    records["decision"]["comparison"] = None
    assert reporting.write_report(write_project(tmp_path, records)).pages >= 2


def test_gain_is_of_the_capacity_or_of_all_clients():
    data = reporting.figure_data(reporting.ReportData(assessment={"clients": 26}, capacity=100))
    assert (data["gain"]["called"], data["gain"]["clients"]) == (26, 26)
    data = reporting.figure_data(reporting.ReportData(assessment={"clients": 101}, capacity=100))
    assert data["gain"]["called"] == 100


def test_large_company_with_a_long_list(tmp_path):
    config = rich_project(tmp_path, n=10_000)
    report = reporting.write_report(config)
    assert report.listed == 10_000
    assert report.pages < 30
    assert (
        "10,000 clients, by value at risk. The other 9,500: contactlist.csv."
        in read_pages(config)[1]
    )


# ---- every number is that of a record

NUMBER = re.compile(r"(?<![\w.])[+\u2212-]?\d+(?:,\d{3})*(?:\.\d+)?(?:\u00a0%|\u00a0M)?")
WAYS = (
    *(wording.count, wording.amount, wording.percent, wording.decimal, wording.statistic, str),
    *(partial(wording.amount, short=True), partial(wording.decimal, digits=1)),
    *(partial(wording.decimal, digits=2), partial(wording.decimal, sign=True)),
    *(wording.probability, wording.seconds, lambda of_100: wording.percent(of_100 / 100)),
)


def printed_numbers(text):
    return set(NUMBER.findall(re.sub(r" (%|M\b)", "\u00a0\\1", text)))


def leaves(record):
    """Every number and text in a record."""
    if isinstance(record, dict):
        return [leaf for key, each in record.items() for leaf in (key, *leaves(each))]
    if isinstance(record, list | tuple):
        return [len(record), *(leaf for each in record for leaf in leaves(each))]
    return [] if record is None else [record]


def numbers_of(records):
    """Every number of the records, in each way in which the report may format it."""
    numbers = set()
    for leaf in leaves(records):
        ways = [str] if isinstance(leaf, str) else WAYS
        numbers |= {number for way in ways for number in printed_numbers(way(leaf))}
    times = [leaf for leaf in leaves(records) if isinstance(leaf, str) and leaf[4:5] == "-"]
    return numbers.union(*(printed_numbers(wording.moment(time)) for time in times))


def full_report():
    """A report with everything in it, the content of each record, and the text of its pages."""
    records, contacts, past = rich_records(), rich_contacts(30), rich_history()
    records["assessment"] |= {
        "changes_since": "2026-11-22",
        "gone": [{"client": f"Gone {i}", "why": "reached"} for i in range(17)],
        "resting": {"reached": 41, "not_before": 3},
        "overrides": {"open": 5, "known": 23, "right": 14, "model_right": 9},
        "team": [
            {"manager": name, "listed": 10, "reached": 21 + i}
            | {"follow_ups_due": 35 + i, "follow_ups_kept": 30 + i}
            for i, name in enumerate(MANAGERS)
        ],
        "list": records["assessment"]["list"] | {"clients": 30},
    }
    for i, row in enumerate(contacts):
        row |= {"due": f"2027-02-{i % 28 + 1:02d}", "follow_up": f"2026-12-{i + 1:02d}"}
        row |= {"last_contact": f"2026-10-{i + 1:02d}", "last_contact_by": "Ann"}
        row |= {
            "last_outcome": "reached",
            "risk": 0.937 - 0.0213 * i,
            "value_at_risk": 51234.0 - 987 * i,
        }
    release = {"release": "r", "training": records["training"], "score": records["score"]}
    records["monitoring"]["release"] = "r"
    data = reporting.ReportData(
        **{name: records[name] for name in ("decision", "assessment", "diagnostics", "monitoring")},
        **{name: past[name] for name in ("scores", "missing", "estimates", "deployments", "runs")},
        **release,
        contacts=contacts,
        worked_runs=past["runs"],
        good_at="2026-11-23T18:20:00Z",
        order="value_at_risk",
    )
    picture = charts.png(charts.importance(None))
    document, _ = reporting.build_pdf(data, dict.fromkeys(reporting.figure_data(data), picture))
    pages = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(document)).pages]
    return data, pages


def test_every_number_of_the_report_is_in_a_record():
    data, pages = full_report()
    derived = [sum(row["value"] for row in data.contacts[i::3]) for i in range(3)]
    derived += [day["took"] for day in data.earlier_days(8)]
    known = numbers_of([vars(data), data.team, derived, "95 %, 5 %, 50 %, 10"])
    texts = [re.sub(r"\d+ min \d+ s", "", " ".join(page.split())) for page in pages]
    unknown = {n: printed_numbers(text) - known for n, text in enumerate(texts, 1)}
    assert not any(unknown.values()), unknown


def test_rows_of_the_tables_are_those_of_the_records():
    data, pages = full_report()
    first, text = " ".join(pages[0].split()), " ".join(" ".join(pages).split())
    for row in data.contacts:
        cells = f"{row['rank']} {row['client']} {wording.percent(row['risk'])} "
        cells += f"{wording.amount(row['value_at_risk'])} {row['manager']} {row['due']} activity"
        cells = " ".join(cells.split())
        assert cells in text
        assert (cells in first) == (row["rank"] <= 10)
        assert f"{row['last_contact']}: reached (Ann) {row['follow_up']}" in text
    for i, row in enumerate(data.assessment["team"]):
        value = wording.amount(sum(row["value"] for row in data.contacts[i::3]))
        kept = f"{row['follow_ups_kept']} of {row['follow_ups_due']}"
        assert f"{row['manager']} {row['listed']} {value} {row['reached']} {kept}" in text
    assert "17 gone (reached lately): Gone 0, Gone 1, Gone 2, ..." in first
    assert (
        "Overrides: 5 without an outcome yet, 23 with one; the client managers were right" in text
    )


# ---- the pages of one client manager

NOW = "2026-12-24T08:00:00Z"


def pages_of(config, manager, at=NOW):
    path = reporting.write_manager_pages(config, manager, at)
    return " ".join(" ".join(page.extract_text().split()) for page in pypdf.PdfReader(path).pages)


def blocks_of(text):
    """What each block of the pages contains, by its heading."""
    titles = [title for title, _ in reporting.BLOCKS.values()]
    parts = re.split(rf"({'|'.join(titles)}) rank client", text)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_pages_of_a_manager_show_the_blocks_of_the_day(tmp_path):
    config = rich_project(tmp_path, [f"Client {letter}" for letter in "ABCDEFGHIJKLMNO"], n=15)
    follow_ups = {"A": "2026-12-20", "D": "2026-12-24", "G": "2026-12-25"}
    entries = [
        log.Entry(f"Client {letter}", "contact", "Ann", "will_stay", date=date)
        for letter, date in follow_ups.items()
    ]
    log.append(config.contact_log, entries, "2026-12-01T09:00:00Z")
    text = pages_of(config, MANAGERS[0])
    assert text.count("Amara Diallo") == 1
    assert "Thursday, 24 December 2026: 4 clients to contact: 1 overdue, 1 due today, 1 new" in text
    blocks = blocks_of(text)
    assert list(blocks) == ["Overdue", "Due today", "New or risen", "Also on the list"]
    in_block = [set(re.findall("Client ([A-Z])", block)) for block in blocks.values()]
    assert in_block == [{"A"}, {"D"}, {"M"}, {"J"}]  # G rests until tomorrow
    assert "Last contact 2026-12-01: reached, will stay (Ann) Follow-up on 2026-12-20" in text
    assert "G" in set(
        re.findall("Client ([A-Z])", pages_of(config, MANAGERS[0], "2026-12-25T08:00:00Z"))
    )


def test_pages_of_two_managers_are_never_the_same_file(tmp_path):
    names = ["../../etc/x", "..-..-etc-x", "a b", "a-b", "A-b", "=1+1", "ש", "W" * 300, "W" * 301]
    config = write_project(tmp_path)
    paths = {str(config.manager_pages(name)).lower() for name in [*names, ""]}
    assert len(paths) == len(names) + 1
    assert all(Path(path).parent == Path(str(config.reports_folder).lower()) for path in paths)
    assert max(len(Path(path).name) for path in paths) < 100


def test_hostile_manager_is_shown_literally(tmp_path):
    contacts = [row | {"manager": HOSTILE[0]} for row in rich_contacts(3)]
    config = write_project(tmp_path, rich_records(), contacts)
    assert squeezed(HOSTILE[0]) in squeezed(pages_of(config, HOSTILE[0]))


def test_clients_without_a_manager_have_pages_too(tmp_path):
    config = poor_project(tmp_path)
    assert "Clients without a client manager" in pages_of(config, "")
    assert "26 clients to contact" in pages_of(config, "")


def test_manager_with_nobody_listed_gets_a_page(tmp_path):
    contacts = rich_contacts(3)
    config = write_project(tmp_path, rich_records(), contacts)
    rest = [log.Entry(row["client"], "contact", "Ann", "reached") for row in contacts[:1]]
    log.append(config.contact_log, rest, NOW)
    assert pages_of(config, contacts[0]["manager"]).count("0 clients to contact.") == 1


def test_unknown_manager_is_an_error_that_lists_the_managers(tmp_path, capsys):
    config = rich_project(tmp_path)
    assert reporting.main(["--config", str(config.file), "--manager", "Amara"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "--manager 'Amara': no client has this client manager; expected one of: "
    )
    assert all(repr(name) in error for name in MANAGERS)
    assert not list(config.reports_folder.glob("list-*"))


def test_pages_need_an_assessment(tmp_path, capsys):
    config = write_project(tmp_path)
    assert reporting.main(["--config", str(config.file), "--manager", "Ann"]) == 1
    assert "no client was assessed yet; run fullprocess.py" in capsys.readouterr().err


def test_path_of_the_pages_is_printed(tmp_path, capsys):
    config = rich_project(tmp_path)
    assert reporting.main(["--config", str(config.file), "--manager", MANAGERS[1]]) == 0
    assert capsys.readouterr().out == f"{config.manager_pages(MANAGERS[1])}\n"
    assert config.manager_pages(MANAGERS[1]).read_bytes().startswith(b"%PDF")


# ---- the step


def test_two_builds_of_the_same_input_are_identical(tmp_path, monkeypatch):
    monkeypatch.setattr(configuration.Config, "project", "the same")
    reports = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        config = rich_project(tmp_path / name, HOSTILE)
        reporting.write_report(config)
        reports.append([path.read_bytes() for path in sorted(config.reports_folder.iterdir())])
    assert reports[0] == reports[1]


def test_second_run_does_nothing(tmp_path):
    config = rich_project(tmp_path)
    first = reporting.write_report(config)
    written = config.report.stat().st_mtime_ns
    history.save(config.history, "runs", [{"run": "next", "started_at": "2026-12-01T00:00:00Z"}])
    second = reporting.write_report(config)
    assert not first.up_to_date
    assert second.up_to_date
    assert second.seal == first.seal
    assert (
        second.summary()
        == first.summary()
        == (f"report.pdf: {first.pages} pages, 9 figures, 100 clients to contact")
    )
    assert config.report.stat().st_mtime_ns == written


def test_figures_are_drawn_again_only_if_their_data_changed(tmp_path, monkeypatch):
    config = rich_project(tmp_path)
    reporting.write_report(config)
    drawn = []
    monkeypatch.setattr(charts, "draw", lambda name, data: drawn.append(name) or b"\x89PNG")
    monkeypatch.setattr(reporting, "build_pdf", lambda facts, png: (b"%PDF", 1))
    kept = config.figure("roc").read_bytes()
    write_contacts(config, rich_contacts(7), rich_records()["assessment"])
    assert not reporting.write_report(config).up_to_date
    assert drawn == []
    assert config.figure("roc").read_bytes() == kept
    config.figure("roc").write_bytes(b"damaged")
    row = {"at": "2026-12-01T00:00:00Z", "made": "x", "action": "refused", "reason": "no"}
    history.save(config.history, "deployments", [row])
    reporting.write_report(config)
    assert drawn == ["roc", "score_over_time"]
    monkeypatch.setattr(style, "versions", lambda: ["another"])
    config.report.unlink()
    reporting.write_report(config)
    assert len(drawn) == 2 + 9


@pytest.mark.parametrize("change", ["contacts", "history", "report", "figure", "currency"])
def test_report_is_made_again_when_what_it_tells_changed(tmp_path, change):
    config = rich_project(tmp_path)
    reporting.write_report(config)
    if change == "contacts":
        write_contacts(config, rich_contacts(1), rich_records()["assessment"])
    elif change == "history":
        row = {"at": "2026-12-01T00:00:00Z", "made": "x", "action": "refused", "reason": "no"}
        history.save(config.history, "deployments", [row])
    elif change == "currency":
        config = replace(config, currency="CHF")
    else:
        (config.report if change == "report" else config.figure("roc")).unlink()
    assert not reporting.write_report(config).up_to_date
    assert reporting.write_report(config).up_to_date


def test_every_figure_is_written_and_named_in_the_record(tmp_path):
    config = rich_project(tmp_path)
    reporting.write_report(config)
    names = ["confusionmatrix", "roc", "calibration", "gain", "score_over_time"]
    names += ["missing_over_time", "drift", "risk_distribution", "importance"]
    expected = {f"{name}.png" for name in names} | {"report.pdf", "contactlist.xlsx"}
    expected |= {config.manager_sheet(name).name for name in MANAGERS}
    assert set(files.read_record(config.report_record)["outputs"]) == expected
    assert all(config.figure(name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_damaged_record_is_not_reported_as_truth(tmp_path):
    config = rich_project(tmp_path)
    text = config.assessment_record.read_text()
    config.assessment_record.write_text(text.replace("10000", "10001"))
    with pytest.raises(Damaged, match=r"assessment\.json"):
        reporting.write_report(config)
    assert not config.report.exists()


@pytest.mark.parametrize("data", [b"", None])
def test_damaged_table_of_clients_is_not_reported(tmp_path, data):
    config = rich_project(tmp_path)
    config.clients.unlink() if data is None else config.clients.write_bytes(data)
    with pytest.raises(Damaged, match=r"clients\.parquet: .* run assessment\.py first"):
        reporting.write_report(config)


def test_script_runs_from_a_foreign_folder(tmp_path):
    config = rich_project(tmp_path)
    command = [sys.executable, ROOT / "reporting.py", "--config", config.file]
    ran = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    assert ran.stdout == "report.pdf: 9 pages, 9 figures, 100 clients to contact\n"
