"""Records of an experiment as assessment.json has them, planted."""

from attrition.storage import files

OF_UNITS = {
    "ratio": {"expected": 0.2, "observed": 0.204, "p": 0.43, "is_valid": True},
    "lost": {"treated": 0.004, "control": 0.0, "p": 0.9, "is_valid": True},
    "draws": {
        **{"assignments": 631, "recomputed": 600, "differ": 0},
        **{"first": None, "is_valid": True},
    },
    "contacted_controls": {"clients": 3, "share": 0.03, "is_high": False},
    "reached": {"treated": 0.61, "control": 0.02},
}
SECOND = {
    "number": 2,
    "of": 4,
    "at": "2026-07-01T06:00:00Z",
    "verdict": "helps",
    "z": -3.02,
    "bound": 2.78,
    "effect": {"difference": -0.08, "low": -0.14, "high": -0.02, "method": "welch"},
    "per_reached": {"difference": -0.13, "low": -0.23, "high": -0.03},
    "money": {"clients": 400, "value": 1.2e6, "low": 3e5, "high": 2.1e6},
    "treated": {"clients": 400, "churned": 90, "expected": 120.5},
    "control": {"clients": 100, "churned": 31, "expected": 33.2},
    **OF_UNITS,
}
FIRST = SECOND | {
    "number": 1,
    "at": "2026-04-01T06:00:00Z",
    "verdict": "open",
    "z": -2.1,
    "bound": 3.93,
    "effect": {"difference": -0.1, "low": -0.19, "high": -0.01, "method": "newcombe"},
}
UNITS = {
    "treated": {"known": 410, "open": 90, "lost": 2},
    "control": {"known": 104, "open": 25, "lost": 0},
}


def make_record(**changed):
    """A record in which contacting helps since the second look; a last look alone is the only one."""
    if "last_look" in changed:
        changed = {"looks": [*filter(None, [changed["last_look"]])]} | changed
    return {
        "state": "running",
        "share": 0.2,
        "since": "2026-01-05",
        "quarter": "2026-Q3",
        "held_out": 25,
        "listed": 100,
        "value_kept": 0.92,
        "units": UNITS,
        **OF_UNITS,
        "looks": [FIRST, SECOND],
        "last_look": SECOND,
        "next_look": {
            **{"number": 3, "of": 4, "on": "2026-10-01", "more_outcomes": 120},
            "smallest_effect": 0.07,
        },
        "verdict": "helps",
        "list_quality": {
            **{"clients": 80, "churned": 31, "expected": 33.2, "low": 0.29, "high": 0.49},
            **{"lead_days": 45, "lead_clients": 12},
        },
        **changed,
    }


def make_open(**changed):
    """A record before the first look: nothing is estimated yet."""
    coming = {"number": 1, "of": 4, "on": "2026-07-01", "more_outcomes": 120}
    before = {"last_look": None, "verdict": "open", "list_quality": None}
    before |= {"next_look": coming | {"smallest_effect": 0.12}, "quarter": "2026-Q2"}
    return make_record(**before | changed)


def plant(config, experiment):
    """Let the assessment have recorded this experiment."""
    record = files.read_record(config.assessment_record) | {"experiment": experiment}
    del record["seal"]
    files.write_bytes(config.assessment_record, files.encode(files.sealed(record)))
