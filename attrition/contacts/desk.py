"""Keep the contact log and the work list in memory; each reading adds only what is new in the log."""

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import RLock
from typing import Any

from attrition.config import Config
from attrition.contacts import assignments, experiment, log, standings
from attrition.contacts.assignments import Look
from attrition.contacts.experiment import Assignment, Trial
from attrition.contacts.log import Entry
from attrition.contacts.ranking import Capacity
from attrition.contacts.standings import Rules, Standing
from attrition.contacts.worklist import Worklist, make_worklist
from attrition.data.clients import ClientTable
from attrition.errors import AttritionError
from attrition.rows import forgotten

logger = logging.getLogger(__name__)

BUSY_S = 2  # for how long a page waits for others who write to the log
NOTHING: Mapping[str, Any] = {}


def rules_of(config: Config) -> Rules:
    return Rules(config.cooldown_reached_days, config.cooldown_not_reached_days, config.day)


def capacity_of(config: Config) -> Capacity:
    return Capacity(config.contact_capacity, dict(config.manager_capacity))


def trial_of(
    config: Config, assigned: Iterable[Assignment], looks: Iterable[Look], day: str
) -> Trial | None:
    """Return the experiment on a day; None if it is off."""
    if (settings := config.experiment) is None:
        return None
    quarter, exempt = experiment.quarter_of(day), settings.never_hold_out
    return Trial(
        quarter,
        experiment.share_after([look.verdict for look in looks], settings.share),
        settings.secret,
        frozenset(exempt.clients),
        math.inf if exempt.value_above is None else exempt.value_above,
        {each.client: each.arm for each in assigned if each.quarter == quarter},
    )


def read_trial(config: Config, day: str) -> Trial | None:
    """Read the experiment on a day; None if it is off. Raises: as `assignments.read`."""
    if config.experiment is None:
        return None
    assigned, _ = assignments.read(config.contact_log)
    looks, _ = assignments.read_looks(config.contact_log)
    return trial_of(config, assigned, looks, day)


class Desk:
    """The log and the list of one project, shared by the threads of a process."""

    def __init__(self, config: Config) -> None:
        self._config, self._path = config, config.contact_log
        self._rules, self._capacity = rules_of(config), capacity_of(config)
        self._lock = RLock()
        self._day = ""
        self._unsaved: list[Assignment] = []
        self._forget()

    def _forget(self) -> None:
        self._last, self._seal = 0, log.NO_SEAL
        self._counted: dict[str, str] = {}
        self._entries: dict[str, list[Entry]] = {}
        self._standings: dict[str, Standing] = {}
        self._worklist: tuple[tuple[object, ...], Worklist] | None = None
        self._newest: dict[str, str] = {}  # of each table of the experiment, see `log.newest`
        self._assigned: list[Assignment] = []
        self._looks: list[Look] = []

    @property
    def path(self) -> Path:
        return self._path

    def entries(self, client: str) -> list[Entry]:
        """Return all entries of a client, oldest first, also those that no longer count."""
        with self._lock:
            self._read_log()
            return list(self._entries.get(client, ()))

    def standing(self, client: str, at: str) -> Standing:
        """Return where a client stands at a time, also one who is no longer current."""
        return standings.standing(self.entries(client), self._config.day(at), self._rules)

    def count(self) -> int:
        """Return the number of entries in the log."""
        with self._lock:
            self._read_log()
            return self._last

    def numbered(self, first: int, last: int) -> list[Entry]:
        """Return the entries with the numbers from `first` to `last`."""
        with self._lock:
            self._read_log()
            every = [entry for own in self._entries.values() for entry in own]
        chosen = [entry for entry in every if first <= entry.id <= last]
        return sorted(chosen, key=lambda entry: entry.id)

    def check(self, record: Mapping[str, Any]) -> None:
        """Check the log, and that it has the records that an assessment counted.

        record: of the assessment; {} if there is none

        Raises: Damaged; AttritionError if the log cannot be read now.
        """
        inputs = record.get("inputs", {})
        counted = {name: inputs.get(name, "") for name in ("contacts", *assignments.TABLES)}
        with self._lock:
            self._read_log()
            if counted != self._counted:
                assignments.check_counted(self._path, counted)
                self._counted = counted

    def worklist(
        self, table: ClientTable, at: str, record: Mapping[str, Any] = NOTHING
    ) -> tuple[Worklist, int]:
        """Return the work list at a time, and the number of the newest entry that it counts.

        If there is an experiment, clients who are above the line for the first time are assigned.

        record: of the assessment that wrote the table, {} if there is none

        Raises: as `check`.
        """
        day = self._config.day(at)
        with self._lock:
            self.check(record)
            if day != self._day:
                self._day = day
                self._stand(self._entries)
            if self._config.experiment:
                self._save()
            key = (table, self._last, day, *self._newest.values())
            if self._worklist is None or self._worklist[0] != key:
                work = self._make(table, day, at, str(record.get("release", "")))
                self._worklist = (table, self._last, day, *self._newest.values()), work
            return self._worklist[1], self._last

    def _make(self, table: ClientTable, day: str, at: str, release: str) -> Worklist:
        """Make the work list, and assign the clients who are above its line for the first time.

        It is made again if another program assigned one of them otherwise in the meantime.
        """
        config = self._config
        while True:
            trial = trial_of(config, self._assigned, self._looks, day)
            work = make_worklist(
                table, self._standings, self._capacity, config.contact_order, day, trial
            )
            if trial is None:
                return work
            arms = work.listed.arms
            self._unsaved += trial.new_assignments(arms, table.read, at, release)
            self._save()
            trial = trial_of(config, self._assigned, self._looks, day)
            if trial is None or trial.draw([*arms], table.read) == [*arms.values()]:
                return work

    def _save(self) -> None:
        """Save new assignments, and read what others have saved; if that fails now, try again later."""
        hidden = forgotten.read(self._config)  # meanwhile, a client may have been forgotten
        self._unsaved = [each for each in self._unsaved if not hidden.find(each.client)]
        try:
            assignments.append(self._path, self._unsaved, BUSY_S)
            self._unsaved = []
        except AttritionError as error:
            logger.warning("%s; %d assignments are not saved yet", error, len(self._unsaved))
        newest = {table: log.newest(self._path, table) for table in assignments.TABLES}
        if newest != self._newest:
            self._assigned, _ = assignments.read(self._path)
            self._looks, _ = assignments.read_looks(self._path)
            self._newest = newest

    def _read_log(self) -> None:
        try:
            entries, self._seal = log.read(self._path, self._last, self._seal)
        except log.Replaced as error:
            logger.warning("%s; it is read from the start", error)
            self._forget()
            entries, self._seal = log.read(self._path)
        for entry in entries:
            self._entries.setdefault(entry.client, []).append(entry)
            self._last = entry.id
        self._stand({entry.client for entry in entries})

    def _stand(self, clients: "set[str] | dict[str, list[Entry]]") -> None:
        """Compute anew where clients stand."""
        for client in clients if self._day else ():
            self._standings[client] = standings.standing(
                self._entries[client], self._day, self._rules
            )
