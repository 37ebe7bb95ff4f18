"""Load the records of the other steps, and derive the content shared by the PDF and the dashboard.

If a record does not exist yet, it is empty: on the first day there is only a model. If a number cannot
be computed, it is shown as unknown.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from attrition import wording
from attrition.config import Config, Label
from attrition.contacts import log, standings, worklist
from attrition.contacts.desk import rules_of
from attrition.contacts.ranking import MUCH_WORSE
from attrition.data.clients import ClientTable
from attrition.errors import Damaged, NoModel, NoRows
from attrition.messages.causes import ACTIONS, BASE_RATE, performance_of
from attrition.operations import releases, runs
from attrition.operations.runs import Complaint
from attrition.storage import files, history
from attrition.upkeep import integrity

Row = Mapping[str, Any]

STAMPS = "trained_at decided_at checked_at assessed_at diagnosed_at".split()
CHANCE = 0.5  # the ROC AUC of a random order, as in monitoring.performance, which imports pandas
SHOWN_COHORTS, SHOWN_UNUSED, SHOWN_NAMES, NAME_WIDTH = 3, 5, 3, 40
MUCH_WORSE_TEXT = f"with a risk up by {100 * MUCH_WORSE:.0f} points or more"
WORKED_RUNS_READ = 2000  # two weeks, even if every tick of ten minutes had work
COLOURS = ("green", "amber", "red")
PERFORMANCE, DRIFT = "performance on new outcomes", "data drift"
VERDICTS = {
    "fine": ("good", "The model is still accurate"),
    "degraded": ("bad", "The model is no longer accurate"),
    "insufficient": ("calm", "Too few new outcomes yet to check the model"),
}
# In reading order.
CAPTIONS = {
    "risk_distribution": "Risks of the current clients.",
    "gain": "Share of all leavers found by contacting the riskiest clients first. Dashed line: "
    "contacting at random.",
    "calibration": "Do 20 of 100 clients with a risk of 20 % leave? The intervals should touch the "
    "dashed line.",
    "confusionmatrix": "Correct and wrong predictions. The contact list uses the order of the risks, "
    "not this threshold.",
    "roc": "How well the risks rank leavers above stayers: the closer the curve is to the upper left "
    "corner, the better.",
    "importance": f"{wording.IMPORTANCE} It shows what the model relies on, not why clients leave.",
    "score_over_time": "Score of every candidate, and when one was deployed.",
    "drift": "How far each column has drifted since the model was trained.",
    "missing_over_time": "Missing values of the current clients over time.",
}


class State(NamedTuple):
    """The state of the model as a title and a few sentences; `tone` is good, calm or bad."""

    tone: str
    title: str
    sentence: str


class Check(NamedTuple):
    """The result of one check of the health of the model: its colour, why, and what to do."""

    name: str
    colour: str = "green"
    sentence: str = ""
    action: str = ""


class Light(NamedTuple):
    """A traffic light: its colour as a word, why, and what to do; `action` is "" if it is green."""

    colour: str
    sentence: str
    action: str


class Number(NamedTuple):
    """A big number with its label and a note, such as its interval."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class ReportData:
    """The records of the other steps; {} or () if one does not exist yet."""

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
    unused: Sequence[Row] = ()
    good_at: str | None = None
    overdue_minutes: float = 60
    currency: str = "EUR"
    capacity: int = 100
    order: str = "risk"
    labels: Mapping[str, Label] = field(default_factory=dict)

    @property
    def as_of(self) -> str:
        """The time of the newest record: the report contains no time of its own."""
        records = (self.training, self.decision, self.monitoring, self.assessment, self.diagnostics)
        return max(str(record.get(stamp) or "") for record in records for stamp in STAMPS)

    @property
    def model(self) -> str:
        if not self.release:
            return "no model in production yet"
        return f"model: {self.training.get('kind', wording.UNKNOWN)}, release {self.release}"

    @property
    def warnings(self) -> list[str]:
        """The warnings of training and scoring; the traffic light describes all other problems."""
        warnings = [*self.training.get("warnings", ()), *self.score.get("warnings", ())]
        return list(dict.fromkeys(map(wording.finished, warnings)))

    @property
    def unused_sentence(self) -> str:
        """Name the unused sources; what to do about each is under "The data"."""
        names = [source["source"] for source in self.unused]
        shown = ", ".join(names[:SHOWN_UNUSED]) + (", ..." if len(names) > SHOWN_UNUSED else "")
        return f"{wording.plural(len(names), 'source')} not used: {shown}; see “The data”"

    @property
    def overdue(self) -> Complaint | None:
        """Return a complaint if the last good run was too long before this report, else None."""
        if not self.good_at or not self.as_of:
            return None
        return runs.check_overdue(self.good_at, self.overdue_minutes, self.now)

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.as_of)

    @property
    def sets(self) -> dict[str, Row]:
        """The sets of outcomes that the model was scored on, by title."""
        sets = self.score.get("sets") or {}
        return {title: sets[name] for name, title in wording.SETS.items() if sets.get(name)}

    @property
    def is_monitored(self) -> bool:
        """Whether monitoring has checked the model in production, not only the previous one."""
        return self.release is not None and self.monitoring.get("release") == self.release

    @property
    def is_proven(self) -> bool:
        """Whether outcomes show that it ranks clients: those since its training, else its scores."""
        performance = self.monitoring["performance"] if self.is_monitored else {}
        if performance.get("verdict") == "fine":
            areas = [performance.get("roc_auc")]
        else:
            candidates = [outcomes.get("candidate") or {} for outcomes in self.sets.values()]
            areas = [one["roc_auc"] for one in candidates if wording.is_known(one.get("roc_auc"))]
        is_chance = [wording.finite((area or {}).get("low")) <= CHANCE for area in areas]
        return not all(is_chance)

    @property
    def suspicious(self) -> list[str]:
        """Describe the deliveries left out: in other units, or contradicting the model alone."""
        names = ("other_units", "suspicious")
        return [one["sentence"] for name in names for one in self.monitoring.get(name, ())]

    @property
    def changes(self) -> list[str]:
        """Describe what changed since the list of an earlier day; last, what happened to the model."""
        if not self.assessment:
            return ["There is no list yet."]
        was_listed = [row["previous_rank"] is not None for row in self.contacts]
        if not any(was_listed) and not self.assessment.get("changes_since"):
            return ["This is the first list.", self.latest_change]
        moves: dict[str, list[str]] = {"new": [], "back": [], MUCH_WORSE_TEXT: []}
        for row, was in zip(self.contacts, was_listed, strict=True):
            if not was:
                moves["back" if row.get("last_contact") else "new"].append(row["client"])
            elif (row["risk_change"] or 0.0) >= MUCH_WORSE:
                moves[MUCH_WORSE_TEXT].append(row["client"])
        gone: dict[str, list[str]] = {}
        for one in self.assessment.get("gone", ()):
            why = f"gone ({wording.not_listed(one['why'])})"
            gone.setdefault(why, []).append(one["client"])
        moves |= dict(sorted(gone.items(), key=lambda item: -len(item[1])))
        sentences = [_names(names, move) for move, names in moves.items() if names]
        sentences = sentences or ["The same clients are on the list as before."]
        return [*sentences, self.latest_change]

    @property
    def latest_change(self) -> str:
        """Describe what last happened to production, and what that changed for the clients."""
        change = self.assessment.get("change")
        sentences = [*self.latest_events]
        if change and change["to"] == self.release:
            sentences.append(wording.change(change, self.labels))
        assessed = self.assessment.get("release")
        if assessed and self.release and assessed != self.release:
            sentences.append(
                f"The contact list and its figures are still those of release {assessed}: run "
                "fullprocess.py."
            )
        return " ".join(sentences)

    @property
    def latest_events(self) -> list[str]:
        """Describe the last change by hand, if any, and the decision on a candidate since."""
        events = find_latest_events(self.deployments, self.decision)
        return [wording.decision(event) for event in events] or [wording.decision({})]

    @property
    def team(self) -> list[Row]:
        """Per client manager, by name: listed clients, their value, and the work that the log records.

        [] if no client has a manager; an earlier version counted no work.
        """
        value: dict[str, float] = {}
        listed = Counter(row["manager"] or "" for row in self.contacts)
        for row in self.contacts:
            if wording.is_known(row["value"]):
                name = row["manager"] or ""
                value[name] = value.get(name, 0.0) + row["value"]
        work = {row["manager"] or "": row for row in self.assessment.get("team") or ()}
        names = sorted({*listed, *work}, key=lambda name: (name == "", name))
        rows: list[Row] = []
        for name in names:
            own = {"manager": name, "listed": listed[name], "value": value.get(name)}
            rows.append({**work.get(name, {}), **own})
        return rows if any(names) else []

    def earlier_days(self, shown: int) -> list[Row]:
        """Summarise the runs with work before the newest `shown` ones by day, the newest day first."""
        by_day: dict[str, list[Row]] = {}
        for row in reversed(self.worked_runs[: len(self.worked_runs) - shown]):
            by_day.setdefault(str(row["started_at"])[:10], []).append(row)
        return [
            {
                "day": day,
                "runs": len(rows),
                "outcomes": wording.outcomes(row["outcome"] for row in rows),
                "took": sum(row["elapsed_s"] or 0.0 for row in rows),
            }
            for day, rows in by_day.items()
        ]

    @property
    def young_cohorts(self) -> list[str]:
        """Describe the latest cohorts with outcomes that are not mature yet."""
        cohorts = self.monitoring.get("cohorts", ()) if self.is_monitored else ()
        sentences = [one["sentence"] for one in cohorts if one["known"] and not one["mature"]]
        return sentences[-SHOWN_COHORTS:]

    @property
    def drift(self) -> Row:
        """The drift of current clients from the rows that the model was trained on; {} if unknown."""
        checked = self.monitoring.get("drift") if self.is_monitored else None
        is_of_release = self.diagnostics.get("release") in (None, self.release)
        drift = (self.diagnostics.get("drift") if is_of_release else None) or checked or {}
        columns = drift.get("columns")
        return {**drift, "columns": self.labelled(columns)} if columns else drift

    @property
    def importance(self) -> Row:
        """The feature importance, by the label of the column."""
        return self._by_label(self.training.get("importance") or {})

    @property
    def columns(self) -> Row:
        """The statistics of the current clients, by the label of the column."""
        return self._by_label(self.diagnostics.get("columns") or {})

    def labelled(self, rows: Iterable[Row]) -> list[Row]:
        """Return rows with the label of their column."""
        return [{**row, "column": wording.column(row["column"], self.labels)} for row in rows]

    def _by_label(self, record: Row) -> Row:
        return {wording.column(name, self.labels): value for name, value in record.items()}

    @property
    def drift_sentence(self) -> str:
        return wording.finished(self.drift.get("sentence") or "there is nothing to compare yet")

    @property
    def state(self) -> State:
        """Whether the risks are reliable: the results of monitoring, the score, and drift."""
        if not self.release:
            return State(
                "calm",
                "No model is in production yet",
                "Put files of clients into the input folder and run fullprocess.py: it trains and "
                "deploys a model, then assesses all current clients.",
            )
        if self.training["kind"] == BASE_RATE:
            return State(
                "calm",
                "All clients have the same risk",
                " ".join([self._base_rate_sentence, *self._performance_sentences]),
            )
        state = ("calm", "A model is in production")
        if self.is_monitored:
            performance = self.monitoring["performance"]
            state = VERDICTS.get(performance["verdict"], state)
            low = wording.finite((performance.get("roc_auc") or {}).get("low"))
            if performance["verdict"] == "fine" and low <= CHANCE:
                state = ("calm", "As many clients leave as expected")
        sentences = self._performance_sentences
        sentences.append(wording.proof(self.score.get("sets") or {}))
        if self.drift.get("verdict") == "moved":
            sentences.append(self.drift_sentence)
        return State(*state, " ".join(sentences))

    @property
    def _base_rate_sentence(self) -> str:
        by_value = "the contact list is sorted by value alone"
        order = by_value if self.order == "value_at_risk" else "the order of the list means nothing"
        return f"The model in production is a base rate, which does not rank clients: {order}."

    @property
    def _performance_sentences(self) -> list[str]:
        """Compare the model with the outcomes since it was trained."""
        if not self.is_monitored:
            return ["It has not been checked against new outcomes yet."]
        sentences = [self.monitoring["performance"]["sentence"], *self.young_cohorts]
        return [wording.finished(sentence) for sentence in sentences]

    @property
    def numbers(self) -> list[Number]:
        """The four main numbers, each with its label and its interval."""
        now = self.assessment
        value_label = f"Value at risk, {self.currency}"
        if not now or not now["clients"]:
            labels = ("Current clients", "Expected to leave", value_label, "On the contact list")
            number, note = ("0", "no current client") if now else (wording.DASH, "not assessed yet")
            return [Number(label, number, note) for label in labels]
        money = partial(wording.amount, short=True)
        without = now.get("without_value")  # an earlier version did not count them
        note = (
            "no current client has a value"
            if without
            else "config.json names no column for the value"
        )
        value = Number(value_label, wording.DASH, note)
        if wording.is_known(now["value_at_risk"]):
            interval = _interval_note(now["value_at_risk"], money)
            note = f"of {money(now['value'])}" + (f"; {interval}" if interval else "")
            note += f"; {wording.plural(without, 'client')} without a value" if without else ""
            value = Number(value_label, money(now["value_at_risk"]), note)
        leaving, listed = now["expected_to_leave"], wording.count(now["list"]["clients"])
        share = wording.share_listed(now) or f"the team can contact {self.capacity:,}"
        return [
            Number(
                "Current clients",
                wording.count(now["clients"]),
                f"{wording.percent(now['estimate']['rate'])} expected to leave",
            ),
            Number(
                "Expected to leave",
                wording.count(leaving),
                _interval_note(leaving, wording.count) or "an estimate",
            ),
            value,
            Number("On the contact list", listed, share),
        ]


def _names(names: Sequence[str], what: str) -> str:
    """Count clients and name the first few.

    >>> _names(["Acme", "Birch", "Cedar", "Dune"], "new")
    '4 new: Acme, Birch, Cedar, ...'
    """
    shown = [wording.shorten(name, NAME_WIDTH) for name in names[:SHOWN_NAMES]]
    more = ", ..." if len(names) > SHOWN_NAMES else ""
    return f"{len(names):,} {what}: {', '.join(shown)}{more}"


def _interval_note(interval: Any, show: wording.Format) -> str:
    limits = wording.between(interval, show)
    return f"95\xa0% interval {limits}" if limits else ""


# ---- the traffic light


def light(
    data: ReportData, *, damage: Sequence[str] = (), overdue: Complaint | None = None
) -> Light:
    """Judge whether the model is healthy, for the report and the dashboard.

    Its colour is the worst of five checks. damage: a sentence for each damaged file; overdue: the
    complaint at the present time, by default that at the time of the report.
    """
    checks = [
        _check_performance(data),
        *_check_drift(data),
        _check_runs(overdue or data.overdue),
        _check_sources(data),
        _check_files(damage),
    ]
    colour = max((check.colour for check in checks), key=COLOURS.index)
    problems = [check for check in checks if check.colour != "green"]
    others = [check.name for check in checks[1:] if check not in problems]
    sentences = [check.sentence for check in (*problems, *checks[:1])]
    sentences += [_in_order(others)] if others else []
    actions = [check.action for check in problems]
    return Light(colour, " ".join(dict.fromkeys(sentences)), " ".join(actions))


def _in_order(names: Sequence[str]) -> str:
    """Say of which checks nothing is wrong.

    >>> _in_order(["data drift"]), _in_order(["runs"])
    ('Data drift was also checked and is in order.', 'Runs were also checked and are in order.')
    >>> _in_order(["data drift", "runs", "files"])
    'Data drift, runs and files were also checked and are in order.'
    """
    *first, last = names
    subject = f"{', '.join(first)} and {last}" if first else last
    was, be = ("was", "is") if subject == DRIFT else ("were", "are")
    return wording.finished(f"{subject} {was} also checked and {be} in order")


def _check_performance(data: ReportData) -> Check:
    """Check the outcomes since the model was trained; if there are none, those it was scored on."""
    if not data.release:
        return Check(PERFORMANCE, "amber", f"{data.state.title}.", data.state.sentence)
    performance = performance_of(data.monitoring or None, data.release) or {}
    sentence = wording.finished(
        performance.get("sentence") or "the model has not been checked against new outcomes yet"
    )
    if performance.get("verdict") not in ("fine", "degraded"):
        sentence += " " + wording.proof(data.score.get("sets") or {})
    if data.training["kind"] == BASE_RATE:
        action = "Deliver more rows with an outcome: a run trains a model as soon as they suffice."
        return Check(PERFORMANCE, "amber", data.state.sentence, action)
    if performance.get("verdict") == "degraded":
        return Check(PERFORMANCE, "red", sentence, ACTIONS["model"])
    if not data.is_proven:
        action = (
            "Treat the order of the list with care until more outcomes are known: they are checked at "
            "every run."
        )
        return Check(PERFORMANCE, "amber", sentence, action)
    return Check(PERFORMANCE, sentence=sentence)


def _check_drift(data: ReportData) -> list[Check]:
    """Check the drift of the current clients; [] if there are too few rows to measure it."""
    if data.drift.get("verdict") == "stable":
        return [Check(DRIFT)]
    if data.drift.get("verdict") != "moved":
        return []
    action = (
        "Check whether the columns that drifted are delivered as before; if the change is real, the "
        "model follows as soon as outcomes show that it must."
    )
    return [Check(DRIFT, "amber", data.drift_sentence, action)]


def _check_runs(overdue: Complaint | None) -> Check:
    if overdue is None:
        return Check("runs")
    return Check("runs", "amber", wording.finished(overdue.sentence), ACTIONS[overdue.code])


def _check_sources(data: ReportData) -> Check:
    sentences = [f"could not be read: {source}" for source in data.unavailable]
    sentences += [data.unused_sentence] if data.unused else []
    sentences += data.suspicious
    if not sentences:
        return Check("sources")
    text = " ".join(map(wording.finished, sentences))
    return Check("sources", "amber", text, ACTIONS["unavailable"])


def _check_files(damage: Sequence[str]) -> Check:
    if not damage:
        return Check("files")
    text = " ".join(map(wording.finished, damage))
    return Check("files", "red", text, ACTIONS["damaged"])


# ---- what last happened to production


def find_latest_events(deployments: Sequence[Row], decision: Row) -> list[Row]:
    """Find what last happened to production, the newest last: a rollback, a decision, or both.

    A rollback is described in the form of a decision. A decision follows it only if it refused a
    candidate since. deployments: the history, oldest first; decision: that of decision.json, which knows
    of no rollback, {} if it is missing.
    """
    rows = [row for row in deployments if row["action"] != "repaired"]
    # The history may have been started again since the decision.
    if decision and not any(_is_of(row, decision) for row in rows):
        return [decision]
    newest, changes = rows[-1:], [row for row in rows if row["action"] in integrity.DEPLOYED]
    by_hand = [row for row in changes[-1:] if row["action"] != "promoted" and row not in newest]
    return [_to_decision(row, decision, is_last=row in newest) for row in (*by_hand, *newest)]


def _is_of(row: Row, decision: Row) -> bool:
    """Return whether a row of the history is that of a decision."""
    names = {"at": "decided_at", "reason": "reason"}
    return all(row[name] == decision.get(key) for name, key in names.items())


def _to_decision(row: Row, decision: Row, *, is_last: bool) -> Row:
    """Return a row of the history in the form of decision.json, or the record itself if it is that."""
    if _is_of(row, decision):
        return decision
    is_decided = row["action"] in integrity.DECIDED
    return {
        "decided_at": row["at"],
        "promoted": row["action"] == "promoted",
        "rule": row["action"].replace(" ", "_"),
        "reason": row["reason"] if is_decided else wording.rollback(row, is_last=is_last),
        "release": row["release"],
    }


def load_report_data(config: Config, unavailable: Sequence[str] | None = None) -> ReportData:
    """Load the records that the report shows.

    Raises: Damaged if a record or the release in production does not match its hash.
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
        worked_runs=history.read_worked_runs(config.history, WORKED_RUNS_READ),
        unavailable=tuple(runs.last_unavailable(config) if unavailable is None else unavailable),
        unused=tuple((files.read_record(config.ingestion_record) or {}).get("unused", [])),
        good_at=runs.last_good_at(config),
        overdue_minutes=config.overdue_minutes,
        currency=config.currency,
        capacity=config.contact_capacity,
        order=config.contact_order,
        labels=config.labels,
    )


def read_contacts(config: Config) -> list[Row]:
    """Read the clients on the contact list, with what the contact log says; [] if there is no list.

    Entries that the assessment did not count are left out, so that all numbers are of one state.

    Raises: Damaged if the table or the log is not the one that the assessment recorded.
    """
    try:
        table, record = open_clients(config)
    except NoRows:
        return []
    listed = {row["client"]: row for row in table.listed}
    counted, day = counted_entries(record), record.get("day", "")
    log.check_counted(config.contact_log, counted)
    entries = log.read(config.contact_log)[0][: int(counted.partition(" ")[0] or 0)]
    own = standings.by_client(entry for entry in entries if entry.client in listed)
    for client, each in own.items():
        now = standings.standing(each, day, rules_of(config))
        row = listed[client]
        row |= worklist.contact_fields(now, None) | {"manager": now.manager or row["manager"]}
    return [*listed.values()]


def open_clients(config: Config) -> tuple[ClientTable, Row]:
    """Open the table of the current clients; return the record of their assessment, too.

    Raises: NoRows if no client was assessed yet; Damaged if it does not match its recorded hash.
    """
    record = files.read_record(config.assessment_record)
    if record is None or config.clients.name not in record.get("outputs", {}):
        raise NoRows("no client was assessed yet; run fullprocess.py")
    if files.sha256_file(config.clients) != record["outputs"][config.clients.name]:
        raise Damaged(f"{config.clients}: does not match its hash; run assessment.py first")
    return ClientTable(config.clients), record


def counted_entries(assessment: Row) -> str:
    """Return the entries of the contact log that an assessment counted, "" if none."""
    return str(assessment.get("inputs", {}).get("contacts", ""))
