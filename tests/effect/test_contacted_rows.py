import pytest

from attrition.config import Experiment
from attrition.contacts import log
from attrition.contacts.log import Entry
from attrition.effect.contacted_rows import find_contacted, is_between
from tests.conftest import ingest_rows, make_rows, read_rows, write_config

AT = "2020-02-15T10:00:00Z"
ARRIVED = "2020-04-01T00:00:00Z"


@pytest.mark.parametrize(
    ("observed_on", "opened_at", "arrived_at", "days", "expected"),
    [
        ("2020-02-01", "", ARRIVED, None, True),
        ("2020-02-15", "", ARRIVED, None, True),
        ("2020-02-16", "", ARRIVED, None, False),
        ("2020-02-01", "", "2020-02-15T09:00:00Z", None, False),  # its outcome was there before
        ("2020-02-01", "", ARRIVED, 14.0, True),
        ("2020-02-01", "", ARRIVED, 13.0, False),
        ("", "2020-02-15T09:00:00Z", ARRIVED, 1.0, True),
        ("", "2020-02-15T11:00:00Z", ARRIVED, None, False),
        ("", "", ARRIVED, None, True),
    ],
)
def test_contact_counts_between_observation_and_outcome(
    observed_on, opened_at, arrived_at, days, expected
):
    row = {"observed_on": observed_on, "opened_at": opened_at, "arrived_at": arrived_at}
    assert is_between([(AT, AT[:10])], **row, days=days) is expected
    assert not is_between([], **row, days=days)


def test_rows_of_clients_who_were_reached_are_found(tmp_path):
    columns = {"client": "corporation", "outcome": "exited", "time": "month"}
    features = ["lastmonth_activity", "lastyear_activity", "number_of_employees"]
    config = write_config(
        tmp_path, columns=columns | {"numeric": features}, experiment={"share": 0.2}
    )
    rows = make_rows(8).assign(month="2020-02-01", corporation=[f"c{i}" for i in range(8)])
    rows.loc[1, "month"] = "2020-03-01"  # observed after the contact
    rows["exited"] = rows["exited"].astype(object)
    rows.loc[2, "exited"] = ""  # its outcome is open
    ingest_rows(config, rows)
    withdrawn = Entry("c3", log.CONTACT, "Ann", log.REACHED)
    entries = [Entry(f"c{i}", log.CONTACT, "Ann", log.REACHED) for i in range(3)]
    entries += [
        withdrawn,
        Entry("c4", log.CONTACT, "Ann", log.NOT_REACHED),
        Entry("c5", log.OVERRIDE, "Ann", log.STAYS, date="2020-03-01"),
        Entry("c6", log.CONTACT, "Ann", "will_stay"),
        Entry("someone else", log.CONTACT, "Ann", log.REACHED),
    ]
    log.append(config.contact_log, entries, AT)
    log.append(config.contact_log, [Entry("c3", log.WITHDRAWAL, "Ann", replaces=4)], AT)
    stored = read_rows(config).set_index("attrition:row_id")["corporation"]
    assert sorted(stored[find_contacted(config)]) == ["c0", "c6"]
    off = write_config(tmp_path, columns=columns | {"numeric": features})
    assert off.experiment is None
    assert not len(find_contacted(off))
    assert config.experiment == Experiment(share=0.2)
