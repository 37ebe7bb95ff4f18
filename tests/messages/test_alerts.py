from attrition.messages import alerts
from attrition.messages.alerts import Alert
from attrition.operations.runs import Complaint

FAILED, UNUSED = Complaint("run", "the last run failed"), Complaint("unused", "not used: a", "a")
TIMES = [f"2026-03-01T{minute // 60:02}:{minute % 60:02}:00Z" for minute in range(0, 1440, 10)]


def replay(faults, cooldown_minutes=60):
    """Apply the complaints of each tick of ten minutes; return when alerts opened and were resolved."""
    state, opened, resolved = [], [], []
    for now, complaints in zip(TIMES, faults, strict=False):
        changed = {
            alert.cause: alert for alert in alerts.update(state, complaints, now, cooldown_minutes)
        }
        kept = [changed.pop(alert.cause, alert) for alert in state]
        opened += [(cause, now) for cause in changed]
        resolved += [(alert.cause, now) for alert in kept if alert.resolved_at]
        state = [alert for alert in (*kept, *changed.values()) if not alert.resolved_at]
    return opened, resolved


def test_standing_fault_opens_once_and_is_resolved_once():
    faults = [[FAILED]] * 100 + [[]] * 44
    assert replay(faults) == ([("run", TIMES[0])], [("run", TIMES[106])])


def test_fault_that_comes_and_goes_is_one_alert_until_it_stays_away():
    faults = [[FAILED] if i % 6 == 0 else [] for i in range(100)] + [[]] * 44
    assert replay(faults) == ([("run", TIMES[0])], [("run", TIMES[103])])


def test_without_a_cool_down_each_end_is_reported_at_once():
    faults = [[FAILED], [], [FAILED], []]
    opened, resolved = replay(faults, 0)
    assert [now for _, now in opened] == [TIMES[0], TIMES[2]]
    assert [now for _, now in resolved] == [TIMES[1], TIMES[3]]


def test_causes_are_independent_and_told_apart_by_their_subject():
    other = UNUSED._replace(subject="b")
    opened, resolved = replay([[FAILED], [FAILED, UNUSED], [UNUSED, other], *[[UNUSED]] * 20])
    assert opened == [("run", TIMES[0]), ("unused: a", TIMES[1]), ("unused: b", TIMES[2])]
    assert resolved == [("run", TIMES[8]), ("unused: b", TIMES[9])]


def test_same_complaint_twice_is_one_alert():
    assert len(alerts.update([], [FAILED, FAILED], TIMES[0], 60)) == 1


def test_message_describes_what_since_when_and_what_to_do():
    opened = [Alert("run", TIMES[1], "run", "the last run failed; see its log")]
    message = alerts.describe("opened", opened, "box")
    assert message["subject"] == "the last run failed; see its log"
    assert message["text"] == (
        "The last run failed; see its log.\nSince 1 March 2026, 00:10 UTC.\n"
        "The reason is in reports/fullprocess.log; the next run tries again.\n\n"
        "Sent by the attrition run on box."
    )
    gone = [opened[0]._replace(gone_at=TIMES[7], resolved_at=TIMES[13])] * 25
    message = alerts.describe("resolved", gone, "box")
    assert message["subject"] == "Resolved: the last run failed; see its log and 24 more"
    assert "From 1 March 2026, 00:10 UTC to 1 March 2026, 01:10 UTC." in message["text"]
    assert "5 more: see /health." in message["text"]
    assert len(message["alerts"]) == 25
