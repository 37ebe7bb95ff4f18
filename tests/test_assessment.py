import dataclasses

import numpy as np
import pandas as pd
import pytest

import assessment
import ingestion
from attrition.config import Columns, Numeric
from attrition.contacts import fields
from attrition.data import clients
from attrition.errors import Damaged, NoModel
from attrition.modelling import models
from attrition.monitoring import performance
from attrition.operations import releases
from attrition.storage import files
from tests.conftest import ingest_rows, make_rows, read_rows, run_whole, write_config


def read(path):
    return pd.read_csv(path, dtype={"client": object}, keep_default_na=False)


def current_clients(config):
    rows = read_rows(config)
    return clients.current_clients(rows, config.columns)


def arrive(config, rows, name="more.csv"):
    rows.to_csv(config.input_folder / name, index=False)
    ingestion.ingest_new_data(config)


def test_every_current_client_has_one_line_and_a_risk(project):
    found = read(project.risk_scores)
    assert sorted(found["client"]) == sorted(current_clients(project)["corporation"])
    assert found["client"].is_unique
    assert len(found) == 200
    assert found["risk"].between(0, 1).all()


def test_the_risk_is_that_of_the_model_in_production(project):
    rows = current_clients(project).set_index("corporation", drop=False)
    model = releases.load_model(releases.read_current(project.production_folder))
    found = read(project.risk_scores)
    np.testing.assert_allclose(found["risk"], models.predict(model, rows.loc[found["client"]]))


def test_clients_are_ranked_by_risk(project):
    found = read(project.risk_scores)
    assert found["risk"].is_monotonic_decreasing
    assert found["rank"].tolist() == list(range(1, 201))


def test_clients_of_equal_risk_are_ranked_by_name():
    rows = pd.DataFrame({"client": ["b", "a", "c"], "a": 1.0})
    columns = Columns(client="client", numeric=(Numeric("a"),))
    found = assessment.rank_clients(rows, np.array([0.5, 0.5, 0.9]), [[]] * 3, [[]] * 3, columns)
    assert found["client"].tolist() == ["c", "a", "b"]


def test_the_contact_list_is_the_head_of_the_ranking(project):
    listed, ranked = read(project.contact_list), read(project.risk_scores)
    assert len(listed) == project.contact_capacity == 20
    assert listed["client"].tolist() == ranked["client"].head(20).tolist()
    assert list(listed.columns) == list(fields.CONTACT_LIST)


def test_every_client_has_its_reasons(project):
    scores, listed = read(project.risk_scores), read(project.contact_list)
    assert scores["reasons"].str.contains("activity").sum() >= len(listed)
    both = listed.merge(scores, on="client")
    assert (both["reasons_x"] == both["reasons_y"]).all()


def test_reasons_are_told_in_words(project):
    reasons = read(project.contact_list)["reasons"]
    assert reasons.str.contains("activity").all()
    assert reasons.str.fullmatch(r"([a-z ]+: [\d,.]+ \(baseline: [\d,.]+\)(; )?){1,3}").all()


def test_a_client_beyond_what_the_model_knows_is_told_apart(project):
    huge = make_rows(1, prefix="huge").assign(number_of_employees=90_000, exited="")
    arrive(project, huge)
    assessment.assess_clients(project)
    said = read(project.risk_scores).set_index("client")["low_confidence"]
    assert "number_of_employees 90000 is outside the training range" in said["huge0"]
    assert not said.drop("huge0").str.contains("90000").any()


def test_why_to_read_a_risk_with_care_is_on_the_list_too(project):
    both = read(project.contact_list).merge(read(project.risk_scores), on="client")
    assert (both["low_confidence_x"] == both["low_confidence_y"]).all()


def test_without_value_and_manager_their_columns_are_empty(project):
    listed = read(project.contact_list)
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
    assert len(read(project.contact_list)) == 5
    assert len(read(project.risk_scores)) == 200


def test_what_moved_since_the_last_list_is_told(project):
    before = read(project.risk_scores).set_index("client")
    idle = make_rows(200, seed=1, prefix="now").query("corporation == @before.index[-1]")
    arrive(project, idle.assign(lastmonth_activity=0, lastyear_activity=3, exited=""))
    assessment.assess_clients(project)
    moved = read(project.contact_list).query("client == @before.index[-1]").iloc[0]
    assert float(moved["previous_rank"]) == 200
    assert float(moved["risk_change"]) == pytest.approx(moved["risk"] - before["risk"].iloc[-1])


def test_a_new_client_has_no_previous_rank(project):
    arrive(project, make_rows(1, prefix="new").assign(lastmonth_activity=0, exited=""))
    assessment.assess_clients(project)
    listed = read(project.contact_list).set_index("client")
    assert listed.loc["new0", "previous_rank"] == listed.loc["new0", "risk_change"] == ""


@pytest.mark.parametrize("text", ["", "garbled", "client,rank,risk\na,x,y"])
def test_a_file_that_a_person_changed_is_made_again(project, text, caplog):
    before = project.risk_scores.read_bytes()
    project.risk_scores.write_text(text)
    project.clients.write_text(text)
    assessment.assess_clients(project)
    assert project.risk_scores.read_bytes() == before
    assert "clients.parquet" in caplog.text


def test_the_table_of_clients_has_what_the_lists_show(project):
    table = clients.ClientTable(project.clients)
    scores, listed = read(project.risk_scores), read(project.contact_list)
    rows, total = table.page(0, 1000)
    assert total == len(scores)
    assert [row["client"] for row in rows] == scores["client"].tolist()
    assert [row["risk"] for row in rows] == scores["risk"].tolist()
    assert [row["client"] for row in table.listed] == listed["client"].tolist()
    assert ["; ".join(fields.value_of("reasons", row, {})) for row in rows] == scores[
        "reasons"
    ].tolist()


def test_the_table_of_clients_has_their_features(project):
    rows = current_clients(project)
    stored, _ = clients.read_assessed(project.clients, project.columns)
    pd.testing.assert_frame_equal(
        stored.reset_index(drop=True),
        rows[list(project.columns.features)].reset_index(drop=True),
    )


def test_a_client_that_left_is_no_longer_assessed(project):
    left = make_rows(200, seed=1, prefix="now").head(1).assign(exited=1)
    arrive(project, left)
    assert assessment.assess_clients(project).clients == 199
    assert left["corporation"].iloc[0] not in set(read(project.risk_scores)["client"])


def test_names_that_look_like_numbers_or_nothing_stay_names(project):
    odd = make_rows(3).assign(corporation=["007", "NA", "1e5"], lastmonth_activity=0, exited="")
    arrive(project, odd)
    assessment.assess_clients(project)
    assert {"007", "NA", "1e5"} <= set(read(project.risk_scores)["client"])
    assert {"007", "NA", "1e5"} <= set(pd.read_parquet(project.clients)["client"])


def test_the_record_sums_up_the_portfolio(project):
    record, ranked = files.read_record(project.assessment_record), read(project.risk_scores)
    assert record["expected_to_leave"]["value"] == pytest.approx(ranked["risk"].sum(), rel=0.02)
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
    assert read(project.contact_list).empty


VALUED = Columns(
    client="client", outcome="left", numeric=(Numeric("a"),), value="worth", manager="who"
)


def valued(n=3):
    worth = np.array([10.0, np.nan, 1000.0])[:n]
    return pd.DataFrame({"client": list("pqr")[:n], "a": 1.0, "worth": worth, "who": "Kim"})


def test_value_at_risk_is_risk_times_value():
    found = assessment.rank_clients(
        valued(), np.array([0.9, 0.8, 0.1]), [[]] * 3, [[]] * 3, VALUED
    ).set_index("client")
    assert found["value_at_risk"].tolist() == pytest.approx([9.0, np.nan, 100.0], nan_ok=True)
    assert found["manager"].tolist() == ["Kim"] * 3


def test_the_portfolio_counts_a_missing_value_as_nothing():
    ranked = assessment.rank_clients(
        valued(), np.array([0.9, 0.8, 0.1]), [[]] * 3, [[]] * 3, VALUED
    )
    estimated = performance.estimate(
        ranked["risk"].to_numpy(),
        value=ranked["value"].to_numpy(),
        capacity=1,
        is_listed=np.array([1, 0, 0]),
    )
    found = assessment.summarise_portfolio(ranked, estimated, VALUED)
    assert found["value"] == 1010
    assert found["value_at_risk"]["value"] == pytest.approx(109)
    assert found["list"]["value_at_risk"]["value"] == pytest.approx(9)


@pytest.mark.parametrize(("order", "first"), [("risk", "idle"), ("value_at_risk", "rich")])
def test_the_list_is_in_the_order_that_the_company_chose(tmp_path, order, first):
    columns = {"numeric": ["lastmonth_activity", "worth"], "value": "worth", "manager": "who"}
    config = write_config(tmp_path, columns=columns, contact_order=order, contact_capacity=1)
    rows = make_rows(200)[["corporation", "lastmonth_activity", "exited"]]
    rows.assign(worth=5, who="Kim").to_csv(config.input_folder / "a.csv", index=False)
    now = "corporation,lastmonth_activity,worth,who,exited\nidle,1,5,Kim,\nrich,80,90000,Lee,\n"
    (config.input_folder / "now.csv").write_text(now)
    assert run_whole(config) == 0
    (line,) = read(config.contact_list).to_dict("records")
    assert line["client"] == first
    assert line["manager"] == {"idle": "Kim", "rich": "Lee"}[first]


def test_a_table_without_a_client_column_has_rows_for_clients(tmp_path):
    columns = {"client": None, "numeric": ["lastmonth_activity", "lastyear_activity"]}
    config = write_config(tmp_path, columns=columns)
    rows = make_rows(300).drop(columns=["corporation", "number_of_employees"])
    rows.astype({"exited": object}).assign(
        exited=rows["exited"].where(rows.index < 200, "")
    ).to_csv(config.input_folder / "a.csv", index=False)
    assert run_whole(config) == 0
    found = read(config.risk_scores)["client"]
    assert found.str.fullmatch("[0-9a-f]{16}").all()
    assert found.is_unique


def test_main_assesses_and_says_how_many(project, capsys):
    assert assessment.main(["--config", str(project.file), "--quiet"]) == 0
    assert "200 current clients" in capsys.readouterr().out
