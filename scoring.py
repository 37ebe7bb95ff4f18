"""Step 3: score the evaluation models of candidate and champion on rows that neither was trained on.

Reads:  practicemodels/ (the candidate), production_deployment/current (the champion), testdata/*,
        ingesteddata/finaldata.csv (rows of held-out clients, and rows newer than the champion);
        contacts/contacts.sqlite in an experiment (outcomes that contacts may have changed)
Writes: practicemodels/latestscore.txt (F1 at threshold 0.5 on the test data), score.json (the record)
Run:    python scoring.py [--config PATH]
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrition import wording
from attrition.config import Config
from attrition.data import schema
from attrition.data.spelling import read_spelling
from attrition.effect import contacted_rows
from attrition.errors import NoModel, SourceError
from attrition.modelling import metrics, models, persistence
from attrition.modelling.metrics import Vector
from attrition.modelling.models import Model
from attrition.monitoring import gate, performance, settled_rows
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.rows import forgotten, ledger, typed_rows
from attrition.rows.known_rows import is_among
from attrition.serving import flattening
from attrition.serving.served import FrameModel, Served
from attrition.sources import files as source_files
from attrition.storage import files, history

SETTINGS = ("columns", "missing_markers", "files", "contact_capacity", "contact_rule")
WEIGHED_CLIENTS = 10_000
ROWS_AT_ONCE, CHECKED_ROWS = 1 << 17, 1000
MIN_ROWS_TO_SCORE, MIN_OF_EACH_TO_SCORE = 100, 20

# Outcomes, risks of the candidate, risks of the champion if there is one: (n,) each.
Risks = tuple[Vector, Vector, Vector | None]


@dataclass(frozen=True)
class Scores:
    """The result of a scoring; score.json has the details."""

    f1: float | None
    sentence: str
    warnings: tuple[str, ...]
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        return "\n".join([self.sentence, *(f"note: {warning}" for warning in self.warnings)])


# ---- compute


def score_set(
    outcome: Vector, candidate: Vector, champion: Vector | None, capacity: int
) -> dict[str, Any]:
    """Compute the metrics of both models on one set of rows.

    outcome: (n,) of 0 and 1; candidate, champion: (n,) risks in [0, 1]; capacity: the k of "at k".
    """
    figures = metrics.compute_metrics(outcome, candidate, capacity)
    champion_figures = None
    if champion is not None:
        is_same = np.array_equal(candidate, champion)
        champion_figures = (
            figures if is_same else metrics.compute_metrics(outcome, champion, capacity)
        )
    return {
        "rows": len(outcome),
        "left": int(outcome.sum()),
        "candidate": figures,
        "champion": champion_figures,
    }


def draw_curves(outcome: Vector, risk: Vector) -> dict[str, Any]:
    """Compute the curves of the candidate: confusion matrix, ROC, calibration and gain."""
    return {
        "rows": len(outcome),
        "left": int(outcome.sum()),
        "confusion": metrics.confusion(outcome, risk),
        "roc": metrics.roc_curve(outcome, risk),
        "calibration": metrics.calibration_curve(outcome, risk),
        "gain": metrics.gain_curve(outcome, risk),
    }


def warn_if_small_set(name: str, rows: int, left: int) -> list[str]:
    """Warn if a set is too small for precise scores."""
    if rows == 0:
        return [f"no {name} rows with an outcome: nothing could be scored on them"]
    if rows < MIN_ROWS_TO_SCORE or min(left, rows - left) < MIN_OF_EACH_TO_SCORE:
        return [
            f"{name}: only {wording.plural(rows, 'row')} ({left} left), so the scores are imprecise: "
            f"see their intervals, and add rows until there are {MIN_ROWS_TO_SCORE} with "
            f"{MIN_OF_EACH_TO_SCORE} of each outcome"
        ]
    return []


# ---- the step


def score_model(config: Config) -> Scores:
    """Score candidate and champion on the test data and on held-out clients.

    The models scored are their evaluation models; the served ones are trained on the held-out clients.

    Raises: NoModel if there is no candidate, or its files are damaged.
    """
    config = config.limited_to(*SETTINGS)
    contacted = contacted_rows.find_contacted(config)
    files.finish_commit(config.model_folder)
    training = files.read_record(config.training_record)
    if training is None or files.damaged_outputs(config.model_folder, training):
        raise NoModel(f"{config.candidate}: no whole candidate; run training.py first")
    champion = _champion(config)
    trainings = [training, *([champion.training] if champion else [])]
    share = min(each["held_out_share"] for each in trainings)
    inputs = {
        "candidate": training["outputs"][config.candidate.name],
        "evaluation_model": training["outputs"][config.evaluation_model.name],
        "champion": champion.id if champion else "",
        "held_out_share": share,
        "finaldata": ledger.rows_version(config),
        "settings": config.fingerprint(),
        "monitoring": files.sha256_file(config.monitoring_record),
        **hash_test_data(config),
    }
    if len(contacted):
        inputs["contacted"] = files.sha256_bytes(contacted.tobytes())
    if (record := files.read_if_up_to_date(config.score_record, inputs)) is not None:
        return _scores(record, up_to_date=True)
    candidate = persistence.loads(config.evaluation_model.read_bytes())
    columns, warnings = config.columns, list[str]()
    is_champion = champion is not None and champion.evaluation_sha256 == inputs["evaluation_model"]
    is_compared = champion is not None and not is_champion
    since = _read_judged(config, champion) if champion and is_compared else pd.Series(dtype=float)
    test = read_test_data(config, warnings)
    left_out = np.union1d(releases.read_waiting(config), contacted)
    rows = read_unseen(config, test, share, since.index.to_numpy("uint64"), is_compared, left_out)
    sets = _unseen_sets(config, rows, warnings)
    risks: dict[str, Risks] = {}
    model = candidate if is_champion else None
    if champion and model is None:
        model = releases.load_evaluation_model(champion)
    for name, unseen in sets.items():
        outcome = unseen[columns.outcome].to_numpy(dtype="float64")
        risk = predict(candidate, unseen)
        theirs = risk if is_champion else predict(model, unseen) if model else None
        risks[name] = (outcome, risk, theirs)
    if model is not None and is_compared and not _is_same_model(risks):
        new = rows.since
        outcome = new[columns.outcome].to_numpy(dtype="float64")
        risk = np.asarray(since[new[typed_rows.ROW_ID].to_numpy()], dtype="float64")
        sets["since"], risks["since"] = new, (outcome, risk, predict(model, new))
    capacity = config.contact_capacity
    scored = {name: score_set(*each, capacity) for name, each in risks.items() if len(each[0])}
    for name in ("test", "unseen"):
        outcome = risks[name][0]
        warnings += warn_if_small_set(name, len(outcome), int(outcome.sum()))
    everything = [np.concatenate([risks[n][i] for n in ("test", "unseen")]) for i in (0, 1)]
    record = {
        "inputs": inputs,
        "scored_at": files.utc_now(),
        "candidate": {"kind": training["kind"], "sha256": inputs["candidate"]},
        "champion": _describe_champion(champion),
        "capacity": capacity,
        "threshold": metrics.THRESHOLD,
        "sets": {name: scored.get(name) for name in ("test", "unseen", "recent", "since")},
        "comparison": _compare_models(risks, sets, rows.current, training, capacity)
        if champion
        else None,
        "curves": draw_curves(*everything) if len(everything[0]) else None,
        "warnings": warnings,
    }
    f1 = scored["test"]["candidate"]["f1"]["value"] if "test" in scored else None
    text = "nan\n" if f1 is None else f"{f1!r}\n"
    history.save(config.history, "scores", _history_rows(record))
    record = files.commit(config.score_record, {config.latest_score: text.encode()}, record)
    return _scores(record, up_to_date=False)


def _champion(config: Config) -> Release | None:
    try:
        return releases.read_for(config.production_folder, config.columns)
    except NoModel:
        return None


def _describe_champion(champion: Release | None) -> dict[str, str] | None:
    if champion is None:
        return None
    kind = champion.training["kind"]
    return {"release": champion.id, "kind": kind, "sha256": champion.model_sha256}


def _is_same_model(risks: Mapping[str, Risks]) -> bool:
    return all(
        champion is not None and np.array_equal(candidate, champion)
        for _, candidate, champion in risks.values()
    )


def _read_judged(config: Config, champion: Release) -> "pd.Series[float]":
    """Return the candidate's risks of the rows that are newer than the champion's training, by id.

    They are cross-validated: each comes from models of the same kind that were trained on no row of this
    client. If there was concept drift, only rows from after it count.
    """
    path = champion.folder / releases.KNOWN_ROWS
    trained_on = files.read_arrays(path, ["labelled"])["labelled"]
    arrays = files.read_arrays(config.known_rows)
    risk = pd.Series(arrays[releases.JUDGED_RISK], index=arrays[releases.JUDGED])
    older = np.concatenate([trained_on, *releases.rows_before_change(config)])
    return risk[~np.isin(risk.index, older)]


def _compare_models(
    risks: Mapping[str, Risks],
    sets: Mapping[str, pd.DataFrame],
    current: pd.DataFrame,
    training: files.Record,
    capacity: int,
) -> dict[str, Any]:
    """Compare both models on all unseen rows; if there was concept drift, only on rows from after it.

    They are also compared on the same rows re-weighted to be like the current clients.
    """
    name, names = "all_unseen", ["test", "unseen", "since"]
    if "recent" in risks:
        name, names = "recent", ["recent", "since"]
    names = [each for each in names if each in risks]
    outcome, candidate, champion = (
        np.concatenate([risks[each][i] for each in names]) for i in range(3)
    )
    features = training["features"]
    numeric, categorical = features["numeric"], features["categorical"]
    used = [*numeric, *categorical]
    unseen = pd.concat([sets[each][[*used, typed_rows.INPUT_ID]] for each in names])
    is_weighed = settled_rows.smallest(unseen[typed_rows.INPUT_ID].to_numpy())
    weights = np.zeros(len(unseen))  # beyond so many rows, a sample represents all of them
    weighing = performance.weigh(unseen[is_weighed], current, numeric, categorical)
    weights[is_weighed] = weighing.weights * (len(unseen) / max(1, is_weighed.sum()))
    return gate.compare_risks(name, outcome, candidate, champion, capacity, weights).to_dict()


def hash_test_data(config: Config) -> dict[str, str]:
    """Compute the hash of every file of the test folder, by its name; {} if there is no folder."""
    folder = config.test_folder
    if not folder.is_dir():
        return {}
    names = [
        name for name in source_files.list_names(folder) if not source_files.not_an_input(name)
    ]
    hashes = {}
    for name in names:
        try:
            hashes[f"test/{name}"] = source_files.hash_file(folder / name)
        except SourceError:  # a warning of `read_test_data` says why
            hashes[f"test/{name}"] = "-"
    return hashes


def read_test_data(config: Config, warnings: list[str]) -> pd.DataFrame:
    """Read the test folder with the checks of ingestion; add a warning if a file or row is refused."""
    frames, hidden = [], forgotten.read(config)
    spelling = read_spelling(files.read_record(config.ingestion_record))
    for key in hash_test_data(config):
        path = config.test_folder / key.removeprefix("test/")
        shown = f"{config.test_folder.name}/{path.name}"
        try:
            table = source_files.read_path(path, dialect=config.files.dialect(path.name))
            checked = schema.check(table, config.columns, config.missing_markers, spelling)
        except (schema.Refused, schema.BadHeader, SourceError) as error:
            warnings.append(f"{shown}: not used ({error})")
            continue
        if checked.refused:
            first = checked.refused[0]
            why = f"first: line {first.line}: {first.reason}"
            refused = wording.plural(len(checked.refused), "row")
            warnings.append(f"{shown}: {refused} refused, {why}")
        frames.append(hidden.replace_in(checked, config.columns.client_name).frame())
    if not frames:
        rows = pd.DataFrame(columns=list(config.columns.table), dtype=object)
    else:
        rows = pd.concat(frames, ignore_index=True)
    if config.columns.client:
        rows = rows.drop_duplicates(ignore_index=True)
    columns = config.columns
    day = ledger.read_first_day(config) if columns.dates else ""
    result = typed_rows.typed(rows, columns, day)
    as_text = result.assign(**{name: rows[name] for name in columns.dates})
    ids = typed_rows.input_ids(as_text, columns)
    return result.assign(**{typed_rows.INPUT_ID: ids})


@dataclass(frozen=True)
class UnseenRows:
    """The rows to score.

    test: the test data; held_out: the other rows of held-out clients; since: rows that the candidate was
    cross-validated on and the champion does not know; current: a sample of the current clients
    """

    test: pd.DataFrame
    held_out: pd.DataFrame
    since: pd.DataFrame
    current: pd.DataFrame
    trained_test_rows: int


def read_unseen(
    config: Config,
    test: pd.DataFrame,
    held_out_share: float,
    since: NDArray[np.uint64],
    is_compared: bool,
    left_out: NDArray[np.uint64],
) -> UnseenRows:
    """Read the rows that neither evaluation model was trained on, part by part.

    held_out_share: the smaller one of the two trainings: a greater share contains it
    since: ids of the rows newer than the champion; is_compared: whether current clients are needed
    left_out: the sorted ids of rows whose outcomes are not mature or may be due to a contact
    """
    columns = config.columns
    test = test[test[columns.outcome].notna()]
    if columns.client:
        test_ids, same = test[typed_rows.INPUT_ID].to_numpy(), typed_rows.INPUT_ID
    else:  # equal in every feature
        test_ids, same = typed_rows.client_hashes(test[columns.client_name]), typed_rows.CLIENT_HASH
    distinct_test_ids, since = np.unique(test_ids), np.sort(since)
    in_training = np.zeros(len(test), dtype=bool)
    names = (*columns.features, columns.outcome, *typed_rows.COMPUTED, typed_rows.NUMBER)
    unseen, new, current = list[pd.DataFrame](), list[pd.DataFrame](), list[pd.DataFrame]()
    for part in ledger.split_rows(config):
        rows = ledger.read_rows(config, names, part=part)
        ids, is_known = rows[typed_rows.ROW_ID].to_numpy(), rows[columns.outcome].notna().to_numpy()
        is_labelled = is_known & ~is_among(ids, left_out)
        held_out = typed_rows.held_out(rows[typed_rows.CLIENT_HASH], held_out_share)
        in_test = is_among(rows[same].to_numpy(), distinct_test_ids)
        in_training |= np.isin(test_ids, rows.loc[in_test & is_labelled & ~held_out, same])
        unseen.append(rows[is_labelled & held_out & ~in_test])
        new.append(rows[is_labelled & is_among(ids, since)])
        if is_compared:
            sample = pd.concat([*current, rows[~is_known]])
            inputs = sample[typed_rows.INPUT_ID].to_numpy()
            current = [sample[settled_rows.smallest(inputs, WEIGHED_CLIENTS)]]
    return UnseenRows(
        test[~in_training],
        settled_rows.join(unseen),
        settled_rows.join(new),
        settled_rows.join(current or new[:1]),
        int(in_training.sum()),
    )


def _unseen_sets(config: Config, rows: UnseenRows, warnings: list[str]) -> dict[str, pd.DataFrame]:
    """Return the rows to score, by the name of their set; add a warning if test rows were trained on.

    `test`: the test data; `unseen`: the other rows of held-out clients; `recent`, if there was concept
    drift: all rows of held-out clients from after it.
    """
    if rows.trained_test_rows:
        warnings.append(
            f"{rows.trained_test_rows} test rows are also training rows; they are not scored"
            if rows.trained_test_rows > 1
            else "1 test row is also a training row; it is not scored"
        )
    sets = {"test": rows.test, "unseen": rows.held_out}
    if changes := releases.rows_before_change(config):
        is_older = np.isin(rows.held_out[typed_rows.ROW_ID], np.concatenate(changes))
        sets["recent"] = rows.held_out[~is_older]
    return sets


def predict(model: Model, rows: pd.DataFrame) -> Vector:
    """Predict rows in parts whose encoded columns need little memory.

    If there are many rows, and the model has a flat form, that predicts them, in a sixth of the time.
    """
    if len(rows) <= ROWS_AT_ONCE:
        return models.predict(model, rows)
    served: Served = FrameModel(model)
    with suppress(flattening.NotFlat):
        served = flattening.flatten_and_check(model, rows.head(CHECKED_ROWS))
    parts = (rows.iloc[at : at + ROWS_AT_ONCE] for at in range(0, len(rows), ROWS_AT_ONCE))
    return np.concatenate(
        [served.predict({name: part[name].to_numpy() for name in model.features}) for part in parts]
    )


def _history_rows(record: files.Record) -> list[dict[str, Any]]:
    shared = {
        "scored_at": record["scored_at"],
        "model": record["candidate"]["sha256"],
        "kind": record["candidate"]["kind"],
        "promoted": None,
    }
    return [
        {**shared, "set": name, "metric": metric, **interval}
        for name, scored in record["sets"].items()
        for metric, interval in (scored or {}).get("candidate", {}).items()
        if metric != "called"
    ]


def _scores(record: files.Record, *, up_to_date: bool) -> Scores:
    test = record["sets"]["test"]
    f1 = test["candidate"]["f1"]["value"] if test else None
    figures = []
    for name, scored in record["sets"].items():
        if scored:
            of = scored["candidate"]
            shown = {f"precision at {of['called']}": of["precision"], "ROC AUC": of["roc_auc"]}
            texts = [f"{title} {_interval(interval)}" for title, interval in shown.items()]
            row = "later row" if name == "since" else f"{name} row"
            figures.append(f"{', '.join(texts)} on {wording.plural(scored['rows'], row)}")
    sentence = "; ".join(figures) or "no unseen rows with an outcome, so nothing could be scored"
    return Scores(f1, sentence, tuple(record["warnings"]), up_to_date, record["seal"])


def _interval(interval: Mapping[str, float | None]) -> str:
    value, low, high = (interval[key] for key in ("value", "low", "high"))
    if value is None or low is None:
        return "unknown"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def main(argv: list[str] | None = None) -> int:
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "scoring", score_model)


if __name__ == "__main__":
    sys.exit(main())
