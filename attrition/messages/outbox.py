"""Report the end of a run: store alerts and digests in the history, then deliver them.

A message is stored together with the change that it reports, and delivered by a process of its own, for
which the run waits only a moment: a slow receiver delays no run, and gets the time that it needs. If a
message is not delivered, later runs try again. It is claimed before it is sent, and recorded at once
after that: it is sent twice only if the process dies in between, and then it has the same id.

Run:    python -m attrition.messages.outbox CONFIG MESSAGE...   (a run starts it)
"""

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from attrition import config_file
from attrition.config import Config
from attrition.errors import AttritionError, Damaged, NoModel
from attrition.messages import alerts, causes, channels, heartbeat, weekly
from attrition.messages.alerts import Alert
from attrition.messages.causes import Records
from attrition.messages.channels import Message, NotDelivered
from attrition.operations import cli, releases
from attrition.operations.runs import Complaint
from attrition.storage import files, history
from attrition.storage.files import TIME
from attrition.upkeep import integrity

Row = dict[str, Any]

logger = logging.getLogger(__name__)

# How long a run waits for deliveries and the heartbeat; together with the rest, less than two seconds.
WAIT_S = 1.5
FIRST_RETRY, LAST_RETRY = timedelta(minutes=5), timedelta(hours=6)
LIMIT_S = 240  # a delivery ends before its messages are tried again, so that none is sent twice
GIVE_UP_AFTER = timedelta(days=3)
DELIVERED, GIVEN_UP, EMPTY = "delivered", "given up", "nothing to report"
ROOT = Path(__file__).resolve().parent.parent.parent


# ---- what a run reports


def report_end(
    config: Config,
    *,
    is_good: bool | None,
    extra: Sequence[Complaint] = (),
    failed: Mapping[str, Any] | None = None,
    has_list: bool = False,
) -> None:
    """Store what this run has to report, deliver what is due, and ping the heartbeat.

    is_good: None while the run is at work: then all is stored, and delivered when it ends
    extra: complaints that no record shows
    failed: what this run could not read or write, by the keys of its record; by default that of the last
    has_list: whether the clients are assessed, as a digest needs it

    Raises: AttritionError, OSError. The heartbeat is pinged all the same.
    """
    until = time.monotonic() + WAIT_S
    url = config.alerts.heartbeat if config.alerts and is_good is not None else None
    ping = heartbeat.ping(url, "" if is_good else heartbeat.FAIL) if url else None
    try:
        if not cli.is_history_gone(config):
            digests = make_digests(config, files.utc_now()) if config.digest and has_list else []
            complaints = [*extra, *find_complaints(config, failed)]
            names = store(config, files.utc_now(), complaints, digests, is_end=is_good is not None)
            if names:
                wait_for(start_delivery(config, names), until)
                log_problems(config, names)
    finally:
        if ping:
            ping.join(max(0.0, until - time.monotonic()))


def make_digests(config: Config, now: str) -> list[Row]:
    """Return the digests that are due as rows of the outbox; no failure here stops an alert."""
    try:
        if not (missing := weekly.missing(config, now)):
            return []
        from attrition.messages import digest  # imports numpy

        return [
            new_row(name, now, channels.MAIL, missing[name].address, content)
            for name, content in digest.make_digests(config, missing, now).items()
        ]
    except (AttritionError, OSError) as error:
        logger.warning("the weekly mails cannot be written: %s", error)
        return []


def store(
    config: Config,
    now: str,
    complaints: Iterable[Complaint],
    digests: Sequence[Row] = (),
    *,
    is_end: bool = True,
) -> list[str]:
    """Store alerts and digests in one transaction, and claim what is due if it is the end of a run.

    Return the ids of the claimed messages.
    """
    changed, own = list[Alert](), channels.of_alerts(config)
    if config.alerts and own:
        before = [Alert(**row) for row in history.read_open_alerts(config.history)]
        changed = alerts.update(before, complaints, now, config.alerts.cooldown_minutes)
    rows = [*make_messages(changed, own, now), *digests]
    if is_end:
        unsent = [row for row in rows if not row["outcome"]]
        waiting = [*history.read_waiting(config.history), *unsent]
        rows = [row for row in rows if row["outcome"]]
        rows += [claim(row, now) for row in select_due(waiting, now)]
    if changed or rows:
        tables = {"alerts": [alert._asdict() for alert in changed], "outbox": rows}
        history.save_tables(config.history, tables)
    for row in rows:
        if row["outcome"] == GIVEN_UP:
            problem = row["channel"], row["error"]
            logger.error("a message by %s is given up after 3 days: %s", *problem)
    return [row["message"] for row in rows if row["outcome"] is None and is_end]


def make_messages(changed: Sequence[Alert], own: dict[str, str], now: str) -> list[Row]:
    """Return a message to each channel about the alerts that opened, and one about those resolved."""
    events = {
        alerts.OPENED: [each for each in changed if each.opened_at == now and not each.gone_at],
        alerts.RESOLVED: [each for each in changed if each.resolved_at],
    }
    rows = []
    for event, group in events.items():
        if group:
            content = alerts.describe(event, group, socket.gethostname())
            names = [now, event, *(alert.cause for alert in group)]
            digest = files.sha256_bytes(json.dumps(names).encode())[:16]
            for channel, recipients in own.items():
                rows.append(new_row(f"alert-{digest}-{channel}", now, channel, recipients, content))
    return rows


def new_row(name: str, now: str, channel: str, recipients: str, content: Any) -> Row:
    """Return a row of the outbox; without content there is nothing to deliver."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)  # so that a name can be found
    return {
        **{"message": name, "at": now, "channel": channel, "recipients": recipients},
        "body": text.encode("utf-8", "backslashreplace").decode() if content else None,
        **{"attempts": 0, "tried_at": None, "error": None},
        **{"ended_at": None if content else now, "outcome": None if content else EMPTY},
    }


def due_at(row: Row, now: str) -> str:
    """Return when a message is tried next: after ever longer pauses; now if the clock was set back."""
    if row["tried_at"] is None or _is_ahead(row["tried_at"], now):
        return min(str(row["at"]), now)
    pause = min(FIRST_RETRY * 2 ** min(row["attempts"] - 1, 10), LAST_RETRY)
    return (datetime.fromisoformat(row["tried_at"]) + pause).strftime(TIME)


def _is_ahead(time: str, now: str) -> bool:
    return datetime.fromisoformat(time) - datetime.fromisoformat(now) > FIRST_RETRY


def select_due(waiting: Sequence[Row], now: str) -> list[Row]:
    """Return the messages to try: if one is due, every earlier one by its channel comes first.

    Otherwise a receiver might read that a problem is resolved before it reads that it began.
    """
    channels_due = {row["channel"] for row in waiting if due_at(row, now) <= now}
    earliest = (datetime.fromisoformat(now) - FIRST_RETRY).strftime(TIME)

    def is_at_work(tried_at: str | None) -> bool:
        return tried_at is not None and tried_at > earliest and not _is_ahead(tried_at, now)

    return [
        row for row in waiting if row["channel"] in channels_due and not is_at_work(row["tried_at"])
    ]


def claim(row: Row, now: str) -> Row:
    """Return a message as it is stored before an attempt, or given up."""
    if datetime.fromisoformat(now) - datetime.fromisoformat(row["at"]) > GIVE_UP_AFTER:
        return row | {"body": None, "ended_at": now, "outcome": GIVEN_UP}
    return row | {"attempts": row["attempts"] + 1, "tried_at": now}


def log_problems(config: Config, names: Sequence[str]) -> None:
    """Log each channel by which a message of this run was not delivered, or not to everybody."""
    rows = history.read_messages(config.history, names)
    for problem in sorted({(row["channel"], row["error"]) for row in rows if row["error"]}):
        logger.warning("a message by %s was not delivered: %s; later runs try again", *problem)


def next_at(config: Config, now: str) -> str | None:
    """Return when a run has something to report or to deliver although nothing is new; None if never."""
    times = [due_at(row, now) for row in history.read_waiting(config.history)]
    if config.alerts and channels.of_alerts(config):
        times += [
            alerts.resolves_at(row["gone_at"], config.alerts.cooldown_minutes)
            for row in history.read_open_alerts(config.history)
            if row["gone_at"]
        ]
    if config.digest:
        times.append(weekly.next_at(config, now))
    return min(times, default=None)


def find_complaints(config: Config, failed: Mapping[str, Any] | None) -> list[Complaint]:
    """Judge the records on disk, if a channel reports them; failed: as in `report_end`."""
    if not channels.of_alerts(config):
        return []
    damage: list[str] = []

    def read(path: Path) -> Mapping[str, Any] | None:
        try:
            return files.read_record(path)
        except Damaged:
            damage.append(f"the file {path.name} is damaged: its content does not match its hash")
            return None

    complaints, release = list[Complaint](), None
    try:
        release = releases.read_current(config.production_folder)
    except NoModel:
        complaints.append(Complaint("no_model", "no model is in production yet"))
    except AttritionError:
        damage.append("the release in production is damaged")
    if any(integrity.find_in_contact_log(config)):
        damage.append(causes.LOG_DAMAGED)
    records = Records(
        release=release.id if release else None,
        training=release.training if release else None,
        monitoring=read(config.monitoring_record),
        assessment=read(config.assessment_record),
        diagnostics=read(config.diagnostics_record),
        ingestion=read(config.ingestion_record),
        last_run=read(config.last_run) if failed is None else failed,
        worked=next(iter(history.read_worked_runs(config.history, 1)), None),
        damage=damage,
    )
    return complaints + causes.judge(records, config.columns)


# ---- delivery, in a process of its own


def start_delivery(config: Config, names: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the delivery of claimed messages; it outlives this process if need be."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(config.file), *names],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a signal to the run does not end it
    )


def wait_for(process: subprocess.Popen[bytes], until: float) -> None:
    """Wait for a delivery until a monotonic time, then leave it alone."""
    try:
        process.wait(max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.returncode = 0  # nobody waits for it: Popen would warn of that


def deliver(config: Config, names: Sequence[str]) -> None:
    """Deliver stored messages; no channel waits for another one."""
    rows = [row for row in history.read_messages(config.history, names) if row["outcome"] is None]
    threads, until = [], time.monotonic() + LIMIT_S
    for channel in {row["channel"] for row in rows}:
        own = [row for row in rows if row["channel"] == channel]
        threads.append(threading.Thread(target=deliver_all, args=(config, own), daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def deliver_all(config: Config, rows: Iterable[Row]) -> None:
    """Send messages one after the other, and record at once what became of each.

    The body of a delivered message is removed: a digest names clients. The row is read again before
    that, because a name in it may have been forgotten meanwhile.
    """
    for row in rows:
        message = Message(row["message"], row["at"], row["recipients"], json.loads(row["body"]))
        try:
            note = channels.send(config, row["channel"], message)
            ended = {"body": None, "ended_at": files.utc_now(), "outcome": DELIVERED}
            result: Row = ended | {"error": note or None}
        except NotDelivered as error:
            result = {"error": str(error)}
        with suppress(AttritionError):  # a later run sends it again, with the same id
            stored = history.read_messages(config.history, [row["message"]])
            history.save(config.history, "outbox", [each | result for each in stored])


# ---- a test by hand


def send_test(config: Config) -> dict[str, str]:
    """Send a test message by every channel, and ping; return why each of them failed, "" if not."""
    now, results = files.utc_now(), {}
    text = f"This is a test: nothing is wrong.\n\nSent by {socket.gethostname()}."
    content = {"event": "test", "subject": "Test of the alerts", "text": text, "alerts": []}
    name = f"test-{files.sha256_bytes(now.encode())[:16]}"
    own = channels.of_alerts(config)
    if config.mail and channels.MAIL not in own:  # it sends digests alone
        lead = config.digest.lead if config.digest else ()
        own[channels.MAIL] = ", ".join(lead) or config.mail.sender
    for channel, recipients in own.items():
        message = Message(name, now, recipients, content)
        try:
            results[channel] = channels.send(config, channel, message)
        except NotDelivered as error:
            results[channel] = str(error)
    if config.alerts and config.alerts.heartbeat:
        results["heartbeat"] = heartbeat.ping_now(config.alerts.heartbeat)
    return results


def main(arguments: Sequence[str]) -> None:
    """Deliver messages of a config by their ids."""
    deliver(config_file.load(Path(arguments[0])), arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
