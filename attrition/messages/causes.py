"""Judge the records of the steps: which problems need attention, and what to do about each.

/health, the pages, the report and the alerts share these codes and sentences. The sentences name no
folder, no client and no secret, because anyone with access to the network can read them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attrition import wording
from attrition.config import Columns
from attrition.contacts.experiment import NO_KEY
from attrition.operations import releases
from attrition.operations.runs import Complaint

Row = Mapping[str, Any]

BASE_RATE = "base rate"  # as in modelling.reliability, which imports numpy
UNUSED_SHOWN = 5
LOG_DAMAGED = (
    "the contact log is damaged or incomplete, so nobody can be listed: restore a backup, see "
    "docs/operations.md"
)
WITHOUT_KEY = "the {} had no key for the experiment, so nobody new is held out"
_REPAIR = "Run fullprocess.py; if it stops, run fullprocess.py --repair, which deletes nothing."
_SOURCES = "Repair the sources: until then, the list lacks what they would add."
# What to do about each complaint, by its code.
ACTIONS = {
    "overdue": "Check the crontab, and the log of the last run.",
    "run": "The reason is in reports/fullprocess.log; the next run tries again.",
    "hanging": "Check the process, and stop it if it hangs: the next run finishes its work.",
    "unavailable": _SOURCES,
    "unused": _SOURCES,
    "write_back": "Check the table and the database that write_back names in config.json; the next run "
    "writes what is missing.",
    "no_model": "Put files of clients into the input folder and run fullprocess.py.",
    "model": "Treat the risks with care. The next run trains a candidate, and deploys it only if it is "
    "proven better; the page “The model” shows what became of the last one.",
    "release": _REPAIR,
    "damaged": _REPAIR,
    "history": _REPAIR,
    "slow": "The reason is in the log of the app.",
    "other_columns": "Name the columns again in config.json, or run fullprocess.py: it trains and "
    "deploys a model without them.",
    "experiment": "Set the environment variable that experiment.key of config.json names, for cron "
    "and for the app, to the key that was used before.",
    "cost": "Run fullprocess.py --profile to see what each step costs.",
}
HANGING = "hanging"  # only the next run can see it
CODES = tuple(code for code in ACTIONS if code != HANGING)  # of /health


@dataclass(frozen=True)
class Records:
    """The records to judge; one that does not exist yet or is damaged is empty.

    release, training: of the release in production; worked: the last run with work to do, from the
    history; damage: a sentence for each damaged file
    """

    release: str | None = None
    training: Row | None = None
    monitoring: Row | None = None
    assessment: Row | None = None
    diagnostics: Row | None = None
    ingestion: Row | None = None
    last_run: Row | None = None
    worked: Row | None = None
    damage: Sequence[str] = ()


def judge(records: Records, columns: Columns) -> list[Complaint]:
    """Return the complaints that follow from records; the caller adds those of its own state."""
    training = records.training or {}
    timings = (records.diagnostics or {}).get("timings") or {}
    complaints = [Complaint("damaged", sentence, sentence) for sentence in records.damage]
    if gone := releases.gone_features(training, columns) if training else ():
        sentence = f"config.json no longer names {', '.join(gone)}, which the model needs"
        complaints.append(Complaint("other_columns", sentence))
    performance = performance_of(records.monitoring, records.release)
    if performance and performance["verdict"] == "degraded":
        kind = training.get("kind")
        name = kind if kind == BASE_RATE else "model"
        complaints.append(Complaint("model", f"the {name} in production is no longer accurate"))
    described = (records.assessment or {}).get("experiment") or {}
    if described.get("state") == NO_KEY:
        complaints.append(Complaint("experiment", WITHOUT_KEY.format("last run")))
    complaints += [Complaint("cost", doubled) for doubled in timings.get("doubled", [])]
    if records.worked and records.worked["outcome"] in ("failed", "died"):
        sentence = f"the last run {records.worked['outcome']}; see its log"
        complaints.append(Complaint("run", sentence))
    if unavailable := (records.last_run or {}).get("unavailable"):
        count = wording.plural(len(unavailable), "source")
        sentence = f"{count} could not be read in the last run; see its log"
        complaints.append(Complaint("unavailable", sentence))
    if (records.last_run or {}).get("unwritten"):
        sentence = "the risks could not be written back in the last run; see its log"
        complaints.append(Complaint("write_back", sentence))
    return complaints + judge_unused((records.ingestion or {}).get("unused", []))


def judge_unused(sources: Sequence[Row]) -> list[Complaint]:
    """Return a complaint for each of the first unused sources, and one that counts the others."""
    # Without the reason, which may quote a client's row.
    lines = wording.unused_lines(sources, UNUSED_SHOWN, with_reason=False)
    names = [source["source"] for source in sources[:UNUSED_SHOWN]]
    return [Complaint("unused", line, *names[i : i + 1]) for i, line in enumerate(lines)]


def performance_of(monitoring: Row | None, release: str | None) -> Row | None:
    """Return the performance of a release, None if the record describes another one."""
    if monitoring is None or release is None or monitoring.get("release") != release:
        return None
    performance: Row = monitoring["performance"]
    return performance
