"""All that the report tells, read as the other steps wrote it; what is not there yet is empty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from attrition import wording
from attrition.config import Config
from attrition.data.clients import ClientTable
from attrition.errors import Damaged, NoModel
from attrition.operations import releases, runs
from attrition.operations.runs import Complaint
from attrition.storage import files, history

Row = Mapping[str, Any]

STAMPS = "trained_at decided_at checked_at assessed_at diagnosed_at".split()


@dataclass(frozen=True)
class ReportData:
    """All that the report tells, as the other steps wrote it; {} and () for what is not there."""

    release: str | None = None
    training: Row = field(default_factory=dict)
    score: Row = field(default_factory=dict)
    decision: Row = field(default_factory=dict)
    monitoring: Row = field(default_factory=dict)
    assessment: Row = field(default_factory=dict)
    diagnostics: Row = field(default_factory=dict)
    contacts: Sequence[Row] = ()
    scores: Sequence[Row] = ()
    missing: Sequence[Row] = ()
    estimates: Sequence[Row] = ()
    deployments: Sequence[Row] = ()
    runs: Sequence[Row] = ()
    worked_runs: Sequence[Row] = ()
    unavailable: Sequence[str] = ()
    good_at: str | None = None
    overdue_minutes: float = 60
    currency: str = "EUR"
    capacity: int = 100
    order: str = "risk"

    @property
    def as_of(self) -> str:
        """The time of the newest of the records: the report has no clock of its own."""
        records = (self.training, self.decision, self.monitoring, self.assessment, self.diagnostics)
        return max(str(record.get(stamp) or "") for record in records for stamp in STAMPS)

    @property
    def model(self) -> str:
        if not self.release:
            return "no model in production yet"
        return f"model: {self.training.get('kind', wording.UNKNOWN)}, release {self.release}"

    @property
    def warnings(self) -> list[str]:
        found = [f"could not be read: {source}" for source in self.unavailable]
        found += [complaint.sentence for complaint in filter(None, [self.overdue])]
        found += [*self.training.get("warnings", ()), *self.score.get("warnings", ())]
        return list(dict.fromkeys(wording.finished(warning) for warning in found))

    @property
    def overdue(self) -> Complaint | None:
        """Complain when the good run before this report was too long before it."""
        if not self.good_at or not self.as_of:
            return None
        return runs.check_overdue(self.good_at, self.overdue_minutes, self.now)

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.as_of)

    @property
    def sets(self) -> dict[str, Row]:
        """The sets of outcomes that the model was scored on, by their names in words."""
        found = self.score.get("sets") or {}
        return {said: found[name] for name, said in wording.SETS.items() if found.get(name)}

    @property
    def is_monitored(self) -> bool:
        """Is the model that was last checked the one in production, not the one before it?"""
        return self.release is not None and self.monitoring.get("release") == self.release

    @property
    def drift(self) -> Row:
        """How the clients of today differ from those that the model learned from."""
        checked = self.monitoring.get("drift") if self.is_monitored else None
        return self.diagnostics.get("drift") or checked or {}


def load_report_data(config: Config, unavailable: Sequence[str] | None = None) -> ReportData:
    """Read all that the other steps wrote.

    Raises: Damaged when a record or the release in production is not what was written.
    """
    try:
        release = releases.read_current(config.production_folder)
    except NoModel:
        release = None
    return ReportData(
        release=release.id if release else None,
        training=release.training if release else {},
        score=release.score if release else {},
        decision=files.read_record(config.decision_record) or {},
        monitoring=files.read_record(config.monitoring_record) or {},
        assessment=files.read_record(config.assessment_record) or {},
        diagnostics=files.read_record(config.diagnostics_record) or {},
        contacts=read_contacts(config),
        scores=history.read_scores(config.history),
        missing=history.read_missing(config.history),
        estimates=history.read_estimates(config.history),
        deployments=history.read_deployments(config.history),
        runs=history.read_runs(config.history, runs.RUNS_READ),
        worked_runs=history.read_worked_runs(config.history),
        unavailable=tuple(last_held(config) if unavailable is None else unavailable),
        good_at=runs.last_good_at(config),
        overdue_minutes=config.overdue_minutes,
        currency=config.currency,
        capacity=config.contact_capacity,
        order=config.contact_order,
    )


def last_held(config: Config) -> list[str]:
    """Return the sources that the last run could not read."""
    try:
        record = files.read_record(config.last_run)
    except Damaged:
        return []  # said by every run, and made again
    return list(record.get("unavailable", [])) if record else []


def read_contacts(config: Config) -> list[Row]:
    """Read the clients on the contact list; [] if no client was assessed yet.

    Raises: Damaged when the table is not what the assessment wrote.
    """
    record = files.read_record(config.assessment_record)
    if record is None or config.clients.name not in record.get("outputs", {}):
        return []
    if files.sha256_file(config.clients) != record["outputs"][config.clients.name]:
        raise Damaged(f"{config.clients}: is not what was written; run assessment.py first")
    return [*ClientTable(config.clients).listed]
