"""Step 3: score the candidate, and the champion beside it, on rows that neither has seen.

Reads:  practicemodels/ (the candidate), production_deployment/current (the champion), testdata/*,
        in ingesteddata/finaldata.csv the rows of the held-out clients and those newer than the champion
Writes: practicemodels/latestscore.txt (F1 at threshold 0.5 on the test data), score.json (the record)
Run:    python scoring.py [--config PATH]
"""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attrition.config import Config
from attrition.data import files as source_files
from attrition.data import ledger, schema
from attrition.errors import NoModel
from attrition.modelling import metrics, models, persistence
from attrition.modelling.metrics import Vector
from attrition.modelling.models import Model
from attrition.monitoring import gate
from attrition.operations import cli, releases
from attrition.operations.releases import Release
from attrition.storage import files, history

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("columns", "missing_markers", "held_out_share", "contact_capacity")
MIN_ROWS_TO_SCORE, MIN_OF_EACH_TO_SCORE = 100, 20

# Outcomes, and the risks of candidate and champion: (n,) each.
Risks = tuple[Vector, Vector, Vector | None]


@dataclass(frozen=True)
class Scores:
    """What scoring found; the rest stands in score.json."""

    f1: float | None
    told: str
    warnings: tuple[str, ...]
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        return "\n".join([self.told, *(f"note: {warning}" for warning in self.warnings)])


# ---- compute


def score_set(
    outcome: Vector, candidate: Vector, champion: Vector | None, capacity: int
) -> dict[str, Any]:
    """Score both models on one set of rows."""
    return {
        "rows": len(outcome),
        "left": int(outcome.sum()),
        "candidate": metrics.compute_metrics(outcome, candidate, capacity),
        "champion": None
        if champion is None
        else metrics.compute_metrics(outcome, champion, capacity),
    }


def draw_curves(outcome: Vector, risk: Vector) -> dict[str, Any]:
    """What the figures show: confusion, ROC, calibration and gain of the candidate."""
    return {
        "rows": len(outcome),
        "left": int(outcome.sum()),
        "confusion": metrics.confusion(outcome, risk),
        "roc": metrics.roc_curve(outcome, risk),
        "calibration": metrics.calibration_curve(outcome, risk),
        "gain": metrics.gain_curve(outcome, risk),
    }


def warn_of_few(name: str, rows: int, left: int) -> list[str]:
    """Say when a set is too small for its scores to mean much."""
    if rows == 0:
        return [f"no {name} rows with an outcome: nothing could be scored on them"]
    if rows < MIN_ROWS_TO_SCORE or min(left, rows - left) < MIN_OF_EACH_TO_SCORE:
        return [
            f"{name}: only {rows} rows ({left} left), so the scores are imprecise: see their intervals, "
            f"and add rows until there are {MIN_ROWS_TO_SCORE} with {MIN_OF_EACH_TO_SCORE} of each "
            "outcome"
        ]
    return []


# ---- the step


def score_model(config: Config) -> Scores:
    """Score candidate and champion on the test data and on the clients held out of all training.

    Raises: NoModel without a candidate.
    """
    config = config.limited_to(*SETTINGS)
    files.finish_commit(config.model_folder)
    training = files.read_record(config.training_record)
    if training is None or files.damaged_outputs(config.model_folder, training):
        raise NoModel(f"{config.candidate}: no whole candidate; run training.py first")
    champion = _champion(config)
    inputs = {
        "candidate": training["outputs"][config.candidate.name],
        "champion": champion.id if champion else "",
        "finaldata": files.sha256_file(config.final_data),
        "settings": config.fingerprint(),
        "monitoring": files.sha256_file(config.monitoring_record),
        **hash_test_data(config),
    }
    if (record := files.read_if_up_to_date(config.score_record, inputs)) is not None:
        return _result(record, up_to_date=True)
    candidate = persistence.loads(config.candidate.read_bytes())
    columns = config.columns
    rows = ledger.read_rows(config, (*columns.features, columns.outcome, *schema.COMPUTED))
    labelled = rows[rows[columns.outcome].notna()]
    sets, warnings = _unseen_sets(config, labelled)
    risks: dict[str, Risks] = {}
    model = releases.load_model(champion) if champion else None
    for name, unseen in sets.items():
        outcome = unseen[columns.outcome].to_numpy(dtype="float64")
        theirs = models.predict(model, unseen) if model is not None else None
        risks[name] = (outcome, models.predict(candidate, unseen), theirs)
    if champion and model is not None and not _is_same_model(risks):
        risks["since"] = _came_since(config, champion, model, labelled)
    capacity = config.contact_capacity
    scored = {name: score_set(*found, capacity) for name, found in risks.items() if len(found[0])}
    for name in ("test", "unseen"):
        outcome = risks[name][0]
        warnings += warn_of_few(name, len(outcome), int(outcome.sum()))
    everything = [np.concatenate([risks[n][i] for n in ("test", "unseen")]) for i in (0, 1)]
    record = {
        "inputs": inputs,
        "scored_at": files.utc_now(),
        "candidate": {"kind": training["kind"], "sha256": inputs["candidate"]},
        "champion": _told(champion),
        "capacity": capacity,
        "threshold": metrics.THRESHOLD,
        "sets": {name: scored.get(name) for name in ("test", "unseen", "recent", "since")},
        "comparison": _compare(risks, capacity) if champion else None,
        "curves": draw_curves(*everything) if len(everything[0]) else None,
        "warnings": warnings,
    }
    f1 = scored["test"]["candidate"]["f1"]["value"] if "test" in scored else None
    text = "nan\n" if f1 is None else f"{f1!r}\n"
    history.save(config.history, "scores", _history_rows(record))
    record = files.commit(config.score_record, {config.latest_score: text.encode()}, record)
    return _result(record, up_to_date=False)


def _champion(config: Config) -> Release | None:
    try:
        return releases.read_for(config.production_folder, config.columns)
    except NoModel:
        return None


def _told(champion: Release | None) -> dict[str, str] | None:
    if champion is None:
        return None
    kind = champion.training["kind"]
    return {"release": champion.id, "kind": kind, "sha256": champion.model_sha256}


def _is_same_model(risks: Mapping[str, Risks]) -> bool:
    return all(
        champion is not None and np.array_equal(candidate, champion)
        for _, candidate, champion in risks.values()
    )


def _came_since(config: Config, champion: Release, model: Model, labelled: pd.DataFrame) -> Risks:
    """Return the rows that came since the champion was trained, as seen by neither model.

    The candidate's risk is the cross-validated one: of models of its kind that had not learned from
    the row, nor from another of its client. Where the truth moved, only rows from after that count.
    """
    known = files.read_arrays(champion.folder / releases.KNOWN_ROWS)["labelled"]
    arrays = files.read_arrays(config.known_rows)
    risk = pd.Series(arrays[releases.JUDGED_RISK], index=arrays[releases.JUDGED])
    risk = risk[~np.isin(risk.index, np.concatenate([known, *releases.rows_before_change(config)]))]
    ids = labelled[schema.ROW_ID].to_numpy()
    is_new = np.isin(ids, risk.index)
    new = labelled[is_new]
    outcome = new[config.columns.outcome].to_numpy(dtype="float64")
    return outcome, risk[ids[is_new]].to_numpy(), models.predict(model, new)


def _compare(risks: Mapping[str, Risks], capacity: int) -> dict[str, Any]:
    """Compare on the rows from after the change where the truth moved, on all unseen rows else."""
    name, sets = "all_unseen", ["test", "unseen", "since"]
    if "recent" in risks:
        name, sets = "recent", ["recent", "since"]
    joined = [np.concatenate([risks[each][i] for each in sets if each in risks]) for i in range(3)]
    outcome, candidate, champion = joined
    return gate.compare_risks(name, outcome, candidate, champion, capacity).to_dict()


def hash_test_data(config: Config) -> dict[str, str]:
    """Hash every file of the test folder, by its name."""
    folder = config.test_folder
    if not folder.is_dir():
        return {}
    names = [
        name for name in source_files.list_names(folder) if not source_files.not_an_input(name)
    ]
    return {f"test/{name}": source_files.hash_file(folder / name) for name in names}


def read_test_data(config: Config, warnings: list[str]) -> pd.DataFrame:
    """Read the test folder by the contract of ingestion; say what cannot be used."""
    frames = []
    for key in hash_test_data(config):
        path = config.test_folder / key.removeprefix("test/")
        shown = f"{config.test_folder.name}/{path.name}"
        try:
            table = source_files.read_path(path)
            checked = schema.check(table, config.columns, config.missing_markers)
        except (schema.Refused, schema.BadHeader) as error:
            warnings.append(f"{shown}: not used ({error})")
            continue
        if checked.refused:
            first = checked.refused[0]
            why = f"first: line {first.line}: {first.reason}"
            warnings.append(f"{shown}: {len(checked.refused)} rows refused, {why}")
        frames.append(checked.frame())
    if not frames:
        rows = pd.DataFrame(columns=list(config.columns.table), dtype=object)
    else:
        rows = pd.concat(frames, ignore_index=True).drop_duplicates(ignore_index=True)
    return schema.typed(rows, config.columns)


def _unseen_sets(
    config: Config, labelled: pd.DataFrame
) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Rows that neither model was trained on: the test data, the other rows of the held-out clients,
    and of all held-out ones, where the truth moved, those from after the change."""
    warnings: list[str] = []
    columns = config.columns
    held_out = schema.held_out(labelled[schema.CLIENT_HASH], config.held_out_share)
    unseen = labelled[held_out]
    test = read_test_data(config, warnings)
    test = test[test[columns.outcome].notna()]
    test_ids = schema.row_ids(test, columns, with_outcome=False)
    known = np.isin(test_ids, labelled.loc[~held_out, schema.INPUT_ID])
    if known.any():
        warnings.append(f"{known.sum()} test rows are also training rows; they are not scored")
    again = np.isin(unseen[schema.INPUT_ID], test_ids)
    sets = {"test": test[~known], "unseen": unseen[~again]}
    if changes := releases.rows_before_change(config):
        is_older = np.isin(unseen[schema.ROW_ID], np.concatenate(changes))
        sets["recent"] = unseen[~is_older]
    return sets, warnings


def _history_rows(record: files.Record) -> list[dict[str, Any]]:
    found = []
    for name, scored in record["sets"].items():
        for metric, interval in (scored or {}).get("candidate", {}).items():
            if metric == "called":
                continue
            found.append(
                {
                    "scored_at": record["scored_at"],
                    "model": record["candidate"]["sha256"],
                    "kind": record["candidate"]["kind"],
                    "promoted": None,
                    "set": name,
                    "metric": metric,
                    **interval,
                }
            )
    return found


def _result(record: files.Record, *, up_to_date: bool) -> Scores:
    test = record["sets"]["test"]
    f1 = test["candidate"]["f1"]["value"] if test else None
    told = []
    for name, scored in record["sets"].items():
        if scored:
            auc = scored["candidate"]["roc_auc"]
            known = auc["value"] is not None and auc["low"] is not None
            text = (
                f"{auc['value']:.3f} [{auc['low']:.3f}, {auc['high']:.3f}]" if known else "unknown"
            )
            told.append(f"ROC AUC {text} on {scored['rows']:,} {name} rows")
    if f1 is not None:
        told.append(f"F1 {f1:.3f}")
    sentence = ", ".join(told) or "no unseen rows with an outcome, so nothing could be scored"
    return Scores(f1, sentence, tuple(record["warnings"]), up_to_date, record["seal"])


def main(argv: list[str] | None = None) -> int:
    """Score once, by hand."""
    options = cli.parser(__doc__).parse_args(argv)
    return cli.run(options, "scoring", score_model)


if __name__ == "__main__":
    sys.exit(main())
