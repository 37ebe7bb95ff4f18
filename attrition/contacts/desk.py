"""Keep the contact log and the work list in memory; each reading adds only what is new in the log."""

import logging
from pathlib import Path
from threading import RLock

from attrition.config import Config
from attrition.contacts import log, standings
from attrition.contacts.log import Entry
from attrition.contacts.ranking import Capacity
from attrition.contacts.standings import Rules, Standing
from attrition.contacts.worklist import Worklist, make_worklist
from attrition.data.clients import ClientTable

logger = logging.getLogger(__name__)


def rules_of(config: Config) -> Rules:
    return Rules(config.cooldown_reached_days, config.cooldown_not_reached_days, config.day)


def capacity_of(config: Config) -> Capacity:
    return Capacity(config.contact_capacity, dict(config.manager_capacity))


class Desk:
    """The log and the list of one project, shared by the threads of a process."""

    def __init__(self, config: Config) -> None:
        self._config, self._path = config, config.contact_log
        self._rules, self._capacity = rules_of(config), capacity_of(config)
        self._lock = RLock()
        self._day = ""
        self._forget()

    def _forget(self) -> None:
        self._last, self._seal, self._counted = 0, log.NO_SEAL, ""
        self._entries: dict[str, list[Entry]] = {}
        self._standings: dict[str, Standing] = {}
        self._worklist: tuple[tuple[ClientTable, int, str], Worklist] | None = None

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

    def check(self, counted: str) -> None:
        """Check the log, and that it has the entries that an assessment counted.

        counted: as `log.check_counted` describes it

        Raises: Damaged; AttritionError if the log cannot be read now.
        """
        with self._lock:
            self._read_log()
            if counted != self._counted:
                log.check_counted(self._path, counted)
                self._counted = counted

    def worklist(self, table: ClientTable, at: str, counted: str = "") -> tuple[Worklist, int]:
        """Return the work list at a time, and the number of the newest entry that it counts.

        Raises: as `check`.
        """
        day = self._config.day(at)
        with self._lock:
            self.check(counted)
            if day != self._day:
                self._day = day
                self._stand(self._entries)
            key = (table, self._last, day)
            if self._worklist is None or self._worklist[0] != key:
                order = self._config.contact_order
                made = make_worklist(table, self._standings, self._capacity, order, day)
                self._worklist = key, made
            return self._worklist[1], self._last

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
