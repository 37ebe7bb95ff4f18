import dataclasses
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest

import assessment
import ingestion
import training
from attrition.config import Columns, Numeric
from attrition.contacts import fields, log
from attrition.data import clients
from attrition.errors import Damaged, NoModel
from attrition.modelling import explanations, metrics, models
from attrition.monitoring import performance
from attrition.operations import releases
from attrition.storage import files, history
from tests.conftest import ingest_rows, make_rows, read_rows, run_whole, write_config
from tests.support import arrive, enter, read_table, reconfigure


def current_clients(config):
    rows = read_rows(config)
    return clients.current_clients(rows, config.columns)


def test_every_current_client_has_one_line_and_a_risk(project):
    found = read_table(project.risk_scores)
    assert sorted(found["client"]) == sorted(current_clients(project)["corporation"])
    assert found["client"].is_unique
    assert len(found) == 200
    assert found["risk"].between(0, 1).all()


def test_the_risk_is_that_of_the_model_in_production(project):
    rows = current_clients(project).set_index("corporation", drop=False)
    model = releases.load_model(releases.read_current(project.production_folder))
    found = read_table(project.risk_scores)
    np.testing.assert_allclose(found["risk"], models.predict(model, rows.loc[found["client"]]))


def test_clients_are_ranked_by_risk(project):
    found = read_table(project.risk_scores)
    assert found["risk"].is_monotonic_decreasing
    assert found["rank"].tolist() == list(range(1, 201))


def always(names):
    return [name for name in names if not fields.FIELDS[name].is_optional]


def test_the_contact_list_is_the_head_of_the_ranking(project):
    listed, ranked = read_table(project.contact_list), read_table(project.risk_scores)
    assert len(listed) == project.contact_capacity == 20
    assert listed["client"].tolist() == ranked["client"].head(20).tolist()
    assert list(listed.columns) == always(fields.CONTACT_LIST)


def test_every_client_has_its_reasons(project):
    scores, listed = read_table(project.risk_scores), read_table(project.contact_list)
    assert scores["reasons"].str.contains("activity").sum() >= len(listed)
    assert (listed["reasons"] != "").all()


def test_listed_clients_have_their_contributions_relative_to_the_list_as_data(project):
    release = releases.read_current(project.production_folder)
    model, table = releases.load_model(release), clients.ClientTable(project.clients)
    rows = current_clients(project).set_index("corporation", drop=False)
    rows = rows.loc[[row["client"] for row in table.listed]]
    added = explanations.contributions(model, rows, release.training["baseline"])
    relative = added - added.mean()
    for row in table.listed:
        assert row["list_reasons"]
        for reason in row["list_reasons"]:
            expected = relative.loc[row["client"], reason.feature]
            assert reason.contribution == pytest.approx(expected, abs=1e-9)
    next_places = table.read(range(20, 40))
    assert all(row["list_reasons"] for row in next_places), "they come next if others are called"
    assert not any(row["list_rank"] for row in next_places)
    assert not any(row["list_reasons"] for row in table.read(range(40, 200)))


def test_reasons_are_told_in_words(project):
    reasons = read_table(project.contact_list)["reasons"]
    assert reasons.str.contains("activity").all()
    assert reasons.str.fullmatch(r"([a-z ]+: [\d,.]+ \(baseline: [\d,.]+\)(; )?){1,3}").all()


def test_a_client_beyond_what_the_model_knows_is_told_apart(project):
    huge = make_rows(1, prefix="huge").assign(number_of_employees=90_000, exited="")
    arrive(project, huge)
    assessment.assess_clients(project)
    said = read_table(project.risk_scores).set_index("client")["low_confidence"]
    assert "number_of_employees 90000 is outside the training range" in said["huge0"]
    assert not said.drop("huge0").str.contains("90000").any()


def test_why_to_read_a_risk_with_care_is_on_the_list_too(project):
    both = read_table(project.contact_list).merge(read_table(project.risk_scores), on="client")
    assert (both["low_confidence_x"] == both["low_confidence_y"]).all()


def test_without_value_and_manager_their_columns_are_empty(project):
    listed = read_table(project.contact_list)
    assert (listed[["value", "value_at_risk", "manager"]] == "").all(axis=None)
    record = files.read_record(project.assessment_record)
    assert record["value_at_risk"] is None
    assert record["list"]["value_at_risk"] is None


def test_the_second_call_does_nothing(project):
    before = project.contact_list.stat().st_mtime_ns
    assert assessment.assess_clients(project).up_to_date
    assert project.contact_list.stat().st_mtime_ns == before


def test_another_capacity_is_another_list(project):
    smaller = dataclasses.replace(project, contact_capacity=5)
    assert assessment.assess_clients(smaller).listed == 5
    assert len(read_table(project.contact_list)) == 5
    assert len(read_table(project.risk_scores)) == 200


def test_what_moved_since_the_list_of_an_earlier_day_is_listed(project, next_day):
    before = read_table(project.risk_scores).set_index("client")
    idle = make_rows(200, seed=5, prefix="now").query("corporation == @before.index[-1]")
    arrive(project, idle.assign(lastmonth_activity=0, lastyear_activity=3, exited=""))
    assessment.assess_clients(project)
    moved = read_table(project.contact_list).query("client == @before.index[-1]").iloc[0]
    assert moved["previous_rank"] == ""
    assert float(moved["risk_change"]) == pytest.approx(
        moved["risk"] - before["risk"].iloc[-1], abs=1e-4
    )


def test_the_feature_that_changed_a_risk_is_named_first_and_changes_add_up(project, next_day):
    before = current_clients(project).set_index("corporation", drop=False)
    listed = before.loc[read_table(project.contact_list)["client"]]
    last = listed.nlargest(1, "lastmonth_activity")
    employees = last["number_of_employees"] + 1
    idle = last.assign(lastmonth_activity=0, number_of_employees=employees, exited="")
    arrive(project, idle[["corporation", *project.columns.features, "exited"]])
    assessment.assess_clients(project)
    row = clients.ClientTable(project.clients).find(last.index[0])
    assert row["list_rank"] is not None
    first = row["changes"][0]
    assert first[:3] == ("lastmonth_activity", 0, last["lastmonth_activity"].iloc[0])
    model = releases.load_model(releases.read_current(project.production_folder))
    now = idle.assign(lastmonth_activity=0.0, number_of_employees=employees)
    odds = [metrics.log_odds(models.predict(model, rows))[0] for rows in (now, last)]
    total = sum(change.contribution for change in row["changes"])
    assert total == pytest.approx(odds[0] - odds[1], abs=1e-9)
    listed = read_table(project.contact_list).set_index("client")["reasons"]
    assert "since the last list: lastmonth activity" in listed[last.index[0]]
    unchanged = [other for other in clients.ClientTable(project.clients).listed if other != row]
    assert not any(other["changes"] for other in unchanged if not other["risk_change"])


def test_a_risk_that_another_model_changed_has_no_changed_feature(project, next_day):
    record = files.read_record(project.assessment_record)
    record |= {"release": "another", "inputs": {}}
    contents = {
        path: path.read_bytes()
        for path in (project.clients, project.risk_scores, project.contact_list)
    }
    files.commit(project.assessment_record, contents, record)
    assessment.assess_clients(project)
    rows = clients.ClientTable(project.clients).listed
    assert all(row["previous_rank"] == row["rank"] for row in rows)
    assert not any(row["changes"] for row in rows)
    changed = rows[0] | {"risk_change": 0.05}
    assert fields.moved_texts(changed, {})[0] == "risk +5.0 points: the model changed"


def test_another_label_is_shown_and_nothing_is_read_or_trained_again(project):
    features = {name: {"minimum": 0} for name in project.columns.features}
    features["lastmonth_activity"] |= {"label": "logins", "unit": "a month"}
    settings = {"contact_capacity": 20, "columns": {"numeric": features}}
    labelled = reconfigure(project, **settings)
    assert training.train_model(project).up_to_date
    assert ingestion.ingest_new_data(labelled).up_to_date
    assert training.train_model(labelled).up_to_date
    assert not assessment.assess_clients(labelled).up_to_date
    assert read_table(project.contact_list)["reasons"].str.contains("logins: .* a month").any()
    assert list(read_table(project.risk_scores).columns) == always(fields.RISK_SCORES)
    assert "feature_lastmonth_activity" in pd.read_parquet(project.clients).columns


def test_a_model_without_a_signal_is_named_in_the_line_of_the_assessment(project):
    found = assessment.assess_clients(project)
    assert "all clients have the same risk" not in found.summary()
    assert (
        "all clients have the same risk" in dataclasses.replace(found, has_signal=False).summary()
    )


def test_a_new_client_has_no_previous_rank(project, next_day):
    riskiest = {"lastmonth_activity": 0, "lastyear_activity": 0}
    arrive(project, make_rows(1, prefix="new").assign(**riskiest, exited=""))
    assessment.assess_clients(project)
    listed = read_table(project.contact_list).set_index("client")
    assert listed.loc["new0", "previous_rank"] == listed.loc["new0", "risk_change"] == ""


def test_the_table_of_clients_has_what_the_lists_show(project):
    table = clients.ClientTable(project.clients)
    scores, listed = read_table(project.risk_scores), read_table(project.contact_list)
    assert table.total == len(scores)
    rows = table.read(range(table.total))
    assert [row["client"] for row in rows] == scores["client"].tolist()
    assert [row["risk"] for row in rows] == scores["risk"].tolist()
    assert [row["client"] for row in table.listed] == listed["client"].tolist()
    assert ["; ".join(fields.value_of("reasons", row, {})) for row in rows] == scores[
        "reasons"
    ].tolist()


def test_the_table_of_clients_has_their_features(project):
    names = list(project.columns.features)
    stored, _ = clients.read_assessed(project.clients, project.columns)
    pd.testing.assert_frame_equal(
        stored.sort_values(names, ignore_index=True),
        current_clients(project)[names].sort_values(names, ignore_index=True),
    )


def test_a_client_that_left_is_no_longer_assessed(project):
    left = make_rows(200, seed=5, prefix="now").head(1).assign(exited=1)
    arrive(project, left)
    assert assessment.assess_clients(project).clients == 199
    assert left["corporation"].iloc[0] not in set(read_table(project.risk_scores)["client"])


def test_names_that_look_like_numbers_or_nothing_stay_names(project):
    odd = make_rows(3).assign(corporation=["007", "NA", "1e5"], lastmonth_activity=0, exited="")
    arrive(project, odd)
    assessment.assess_clients(project)
    assert {"007", "NA", "1e5"} <= set(read_table(project.risk_scores)["client"])
    assert {"007", "NA", "1e5"} <= set(pd.read_parquet(project.clients)["client"])


def test_the_record_sums_up_the_portfolio(project):
    record, ranked = files.read_record(project.assessment_record), read_table(project.risk_scores)
    assert record["expected_to_leave"]["value"] == pytest.approx(ranked["risk"].sum(), rel=0.05)
    assert record["list"]["clients"] == 20
    assert sum(record["risk_histogram"]["counts"]) == record["clients"] == 200


def test_without_a_model_it_says_so(empty_project):
    with pytest.raises(NoModel, match=r"run fullprocess\.py"):
        assessment.assess_clients(empty_project)


def test_a_damaged_model_gives_no_list(project):
    before = project.contact_list.read_bytes()
    model = project.production_folder / "trainedmodel.skops"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(Damaged, match="roll back"):
        assessment.assess_clients(project)
    assert project.contact_list.read_bytes() == before


def test_where_everybody_left_the_list_is_empty_and_not_an_error(project):
    rows = make_rows(50).assign(exited=1)
    ingest_rows(project, rows)
    found = assessment.assess_clients(project)
    assert (found.clients, found.listed, found.expected_to_leave) == (0, 0, 0.0)
    assert read_table(project.contact_list).empty


def test_the_portfolio_counts_a_missing_value_as_nothing():
    risk, value = np.array([0.9, 0.8, 0.1]), np.array([10.0, np.nan, 1000.0])
    columns = Columns(client="client", numeric=(Numeric("a"),), value="worth")
    estimated = performance.estimate(risk, value=value, capacity=1, is_listed=np.array([1, 0, 0]))
    found = assessment.summarise_portfolio(risk, value, estimated, columns)
    assert found["value"] == 1010
    assert found["value_at_risk"]["value"] == pytest.approx(109)
    assert found["list"]["value_at_risk"]["value"] == pytest.approx(9)


@pytest.mark.parametrize(
    ("order", "first"),
    [
        ({"contact_order": "risk"}, "idle"),
        ({"contact_order": "value_at_risk"}, "rich"),
        ({}, "rich"),
    ],
)
def test_the_list_is_by_value_at_risk_unless_the_company_chose_risk(tmp_path, order, first):
    columns = {"numeric": ["lastmonth_activity", "worth"], "value": "worth", "manager": "who"}
    pays = {"contact_cost": 50, "contact_success": 0.2}
    config = write_config(tmp_path, columns=columns, contact_capacity=1, **pays, **order)
    rows = make_rows(200)[["corporation", "lastmonth_activity", "exited"]]
    rows.assign(worth=5, who="Kim").to_csv(config.input_folder / "a.csv", index=False)
    now = "corporation,lastmonth_activity,worth,who,exited\nidle,1,5,Kim,\nrich,80,90000,Lee,\n"
    (config.input_folder / "now.csv").write_text(now)
    assert run_whole(config) == 0
    (line,) = read_table(config.contact_list).to_dict("records")
    assert line["client"] == first
    assert line["manager"] == {"idle": "Kim", "rich": "Lee"}[first]
    break_even = files.read_record(config.assessment_record)["break_even"]
    assert (break_even["value_at_risk"], break_even["of"]) == (250, 2)


def test_a_table_without_a_client_column_has_rows_for_clients(tmp_path):
    columns = {"client": None, "numeric": ["lastmonth_activity", "lastyear_activity"]}
    config = write_config(tmp_path, columns=columns)
    rows = make_rows(300).drop(columns=["corporation", "number_of_employees"])
    rows.astype({"exited": object}).assign(
        exited=rows["exited"].where(rows.index < 200, "")
    ).to_csv(config.input_folder / "a.csv", index=False)
    assert run_whole(config) == 0
    found = read_table(config.risk_scores)["client"]
    assert found.str.fullmatch("[0-9a-f]{16}(-[0-9]+)?").all()
    assert found.is_unique


def test_main_assesses_and_says_how_many(project, capsys):
    assert assessment.main(["--config", str(project.file), "--quiet"]) == 0
    assert "200 current clients" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "total", "without"), [([1.0, np.nan], 1.0, 1), ([np.nan] * 2, None, 2), ([], None, 0)]
)
def test_value_is_unknown_if_no_client_has_one(value, total, without):
    risk, value = np.full(len(value), 0.5), np.array(value, dtype="float64")
    estimated = performance.estimate(risk, value=value)
    columns = Columns(client="client", numeric=(Numeric("a"),), value="worth")
    summary = assessment.summarise_portfolio(risk, value, estimated, columns)
    assert (summary["value"], summary["without_value"]) == (total, without)
    assert (summary["value_at_risk"] is None) == (total is None)


def test_summary_without_a_current_client_promises_nothing(project):
    result = dataclasses.replace(assessment.assess_clients(project), clients=0)
    assert result.summary() == "there is no current client to assess"


# ---- the contact log, and the list of an earlier day


def test_client_who_left_or_is_no_longer_current_is_gone_with_that_reason(project, next_day):
    first = clients.ClientTable(project.clients).listed[0]["client"]
    row = make_rows(200, seed=5, prefix="now").query("corporation == @first")
    arrive(project, row.assign(exited=1))
    assessment.assess_clients(project)
    record = files.read_record(project.assessment_record)
    assert record["gone"] == [{"client": first, "why": "left"}]
    assert record["change"] is None


def test_moves_are_in_the_history_once_even_if_the_commit_is_repeated(project, monkeypatch):
    first = history.read_listings(project.history)
    assert [row["rank"] for row in first] == list(range(1, 21))
    assert {row["action"] for row in first} == {"listed"}
    gone, listed = (clients.ClientTable(project.clients).read([row])[0] for row in (0, 20))
    enter(project, gone["client"], kind=log.NOT_BEFORE, note="away", date="2999-01-01")
    with monkeypatch.context() as crash, pytest.raises(OSError, match="full"):
        crash.setattr(files, "commit", Mock(side_effect=OSError("full")))
        assessment.assess_clients(project)
    assessment.assess_clients(project)
    left, came = sorted(history.read_listings(project.history)[20:], key=lambda row: row["action"])
    assert (left["client"], left["action"], left["reason"]) == (
        gone["client"],
        "gone",
        "not_before",
    )
    assert (came["client"], came["action"], came["rank"]) == (listed["client"], "listed", 20)


def test_opinion_is_scored_by_the_outcome_that_arrives_after_it(project, next_day, monkeypatch):
    row = make_rows(200, seed=5, prefix="now").head(1)
    name = row["corporation"].iloc[0]
    opinion = {"kind": log.OVERRIDE, "outcome": log.LEAVES, "note": "angry", "risk": 0.4}
    enter(project, name, **opinion, date="2999-01-01")
    assessment.assess_clients(project)
    assert files.read_record(project.assessment_record)["overrides"]["open"] == 1
    later = next_day + "T23:59:59Z"
    monkeypatch.setattr(files, "utc_now", lambda: later)
    arrive(project, row.assign(exited=1))
    assessment.assess_clients(project)
    overrides = files.read_record(project.assessment_record)["overrides"]
    assert overrides == {"open": 0, "known": 1, "right": None, "model_right": None}
