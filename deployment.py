"""Step 4: deploy the candidate if the gate approves it; list releases; roll back.

Reads:  practicemodels/ (the candidate, its training.json and score.json)
Writes: production_deployment/releases/<id>/ with its modelcard.md, the pointer `current`, and the
        links that follow it; practicemodels/decision.json (the record)
Run:    python deployment.py [--config PATH] [--list | --rollback [RELEASE]]
"""

import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from attrition.config import Config
from attrition.errors import AttritionError, Damaged, NoModel
from attrition.modelling.metrics import Interval
from attrition.monitoring import gate, updating
from attrition.monitoring.gate import Comparison, Decision
from attrition.operations import cli, releases
from attrition.reporting import model_card
from attrition.reporting.report_data import find_latest_events
from attrition.storage import files, history, tables
from attrition.upkeep import integrity

logger = logging.getLogger(f"attrition.{Path(__file__).stem}")

SETTINGS = ("accept_leakage",)
TOO_LITTLE_DATA, LEAKAGE = "too_little_data", "leakage"


@dataclass(frozen=True)
class Deployment:
    """The decision of the gate, and the release in production now."""

    promoted: bool
    rule: str
    reason: str
    release: str
    up_to_date: bool
    seal: str

    def summary(self) -> str:
        return f"{self.reason}\nin production: {self.release}"


# ---- compute


def decide(
    score: files.Record,
    triggers: Sequence[str],
    looks: int,
    update: dict[str, Any] | None = None,
) -> Decision:
    """Decide whether to deploy, from the scores and the triggers of the training.

    looks: number of candidates compared with this champion, this one included; update: that of the
    training, if the candidate is one.
    """
    recalibration = None
    if update is not None and update["name"] in updating.RECALIBRATIONS:
        recalibration = Interval(**update["difference"])
    champion, figures = score["champion"], score["comparison"]
    return gate.decide_promotion(
        None if figures is None else Comparison.from_dict(figures),
        first=champion is None,
        identical=champion is not None and champion["sha256"] == score["candidate"]["sha256"],
        degraded="degraded" in triggers,
        moved="input_moved" in triggers,
        looks=looks,
        recalibration=recalibration,
    )


def count_looks(deployments: history.Rows) -> int:
    """Count the candidates compared with the present champion, the next one included.

    >>> count_looks([{"action": "promoted"}, {"action": "refused"}])
    2
    """
    refused = takewhile(lambda row: row["action"] == "refused", reversed(deployments))
    return 1 + sum(1 for _ in refused)


# ---- the step


def find_current_decision(config: Config) -> Deployment | None:
    """Return the decision on the present monitoring verdict; None if there is none yet."""
    config = config.limited_to(*SETTINGS)
    verdict = files.sha256_file(config.monitoring_record)
    if not verdict:
        return None
    decision = _find_decision(config, monitoring=verdict)
    # If more columns are accepted since a refusal for leakage, there is no decision yet.
    if decision is not None and decision.rule == LEAKAGE:
        return _find_decision(config, monitoring=verdict, accepted=config.fingerprint())
    return decision


def _find_decision(config: Config, **inputs: str) -> Deployment | None:
    """Return the decision on these inputs, from the record or from the release that it deployed.

    A release contains the decision that deployed it. If a run died between the release and the record,
    complete the deployment instead of deciding again.
    """
    files.finish_commit(config.model_folder)
    record = _read_whole(config.decision_record)
    if record is not None and inputs.items() <= record["inputs"].items():
        return _deployment(config, record, up_to_date=True)
    for release_id in reversed(releases.list_ids(config.production_folder)):
        record = _read_whole(config.releases / release_id / releases.DECISION)
        if record is not None and inputs.items() <= record["inputs"].items():
            return _complete(config, release_id, record)
    return None


def _complete(config: Config, release_id: str, record: files.Record) -> Deployment | None:
    """Complete a deployment whose release is written; repeat each step, because any may be missing.

    If the history contains it, only the record is missing: production may have been rolled back since.
    """
    record = {**record, "release": release_id}
    deployments = history.read_deployments(config.history)
    if any(row["made"] == integrity.made_by(record) for row in deployments):
        record = files.commit(config.decision_record, {}, record)
        return _deployment(config, record, up_to_date=True)
    try:
        releases.activate(config.production_folder, release_id)
    except Damaged as error:
        logger.warning("%s; decided again", error)
        return None
    releases.collect(config.production_folder)
    return _save_decision(config, record, up_to_date=True)


def _read_whole(path: Path) -> files.Record | None:
    try:
        return files.read_record(path)
    except Damaged as error:
        logger.warning("%s; decided again", error)
        return None


def deploy_model(config: Config) -> Deployment:
    """Deploy the candidate or keep the champion, and record the reason; safe to run twice.

    Raises: NoModel if there is no scored candidate.
    """
    config = config.limited_to()
    inputs = {
        "monitoring": files.sha256_file(config.monitoring_record),
        "score": files.sha256_file(config.score_record),
    }
    if (done := _find_decision(config, **inputs)) is not None:
        return done
    training = files.read_record(config.training_record)
    score = files.read_record(config.score_record)
    if training is None or score is None:
        raise NoModel(f"{config.model_folder}: no scored candidate; run training.py and scoring.py")
    if score["inputs"]["candidate"] != training["outputs"][config.candidate.name]:
        raise NoModel(f"{config.score_record}: is of another candidate; run scoring.py")
    if wrong := files.damaged_outputs(config.model_folder, training):
        raise Damaged(f"{config.model_folder}: {', '.join(wrong)} not as trained; run training.py")
    monitoring = files.read_record(config.monitoring_record)
    triggers = monitoring["triggers"] if monitoring is not None else []
    looks = count_looks(history.read_deployments(config.history))
    decision = decide(score, triggers, looks, training["update"])
    record: files.Record = {
        "inputs": inputs,
        "decided_at": files.utc_now(),
        "promoted": decision.promoted,
        "rule": decision.rule,
        "reason": decision.reason,
        "candidate": score["candidate"]["sha256"],
        "champion": score["champion"]["release"] if score["champion"] else None,
        "comparison": score["comparison"],
        "looks": looks,
        "release": None,
    }
    if decision.promoted:
        record["release"] = _release(config, training, score, record)
        releases.collect(config.production_folder)
    return _save_decision(config, record, up_to_date=False)


def _release(
    config: Config, training: files.Record, score: files.Record, decision: files.Record
) -> str:
    """Write the release with all records of its model, then point production at it."""
    contents = {
        name: (config.model_folder / name).read_bytes()
        for name in (*training["outputs"], releases.TRAINING, releases.SCORE)
    }
    contents |= {
        path.name: path.read_bytes() for path in (config.latest_score, config.ingested_files)
    }
    contents |= _serving_model(config, training)
    contents[releases.DECISION] = files.encode(files.sealed(decision))
    lines = tables.parse_dicts(contents[config.ingested_files.name])
    contents[releases.CARD] = model_card.write(training, score, decision, lines).encode()
    manifest = {"deployed_at": decision["decided_at"], "model": decision["candidate"]}
    release_id = releases.create(config.production_folder, contents, manifest)
    releases.activate(config.production_folder, release_id)
    return release_id


def _serving_model(config: Config, training: files.Record) -> dict[str, bytes]:
    """Return the candidate as arrays by the name of their file; {} if it cannot be flattened."""
    from attrition.modelling import persistence
    from attrition.serving import flattening

    model = persistence.loads(config.candidate.read_bytes())
    rows = tables.read_texts(config.reference)
    for name in training["features"]["numeric"]:
        rows[name] = rows[name].replace("", "nan").astype("float64")
    try:
        flat = flattening.flatten_and_check(model, rows)
    except flattening.NotFlat as error:
        logger.warning("the model cannot be flattened: %s; predictions will be slower", error)
        return {}
    return {releases.SERVING_MODEL: flat.to_bytes()}


def _save_decision(config: Config, record: files.Record, *, up_to_date: bool) -> Deployment:
    """Save a decision in the history, then as the record."""
    row = {
        "at": record["decided_at"],
        "made": integrity.made_by(record),
        "action": "promoted" if record["promoted"] else "refused",
        "release": record["release"] or record["champion"],
        "reason": record["reason"],
    }
    if record[
        "promoted"
    ]:  # first, because `_complete` takes the row below as a sign that this is done
        history.mark_promoted(config.history, record["candidate"])
    history.save(config.history, "deployments", [row])
    record = files.commit(config.decision_record, {}, record)
    return _deployment(config, record, up_to_date=up_to_date)


def _deployment(config: Config, record: files.Record, *, up_to_date: bool) -> Deployment:
    release = releases.current_id(config.production_folder)
    events = find_latest_events(history.read_deployments(config.history), record)
    reason = events[-1]["reason"]  # that of a rollback since, if there was one
    return Deployment(
        record["promoted"], record["rule"], reason, release, up_to_date, record["seal"]
    )


def refuse(config: Config, rule: str, reason: str) -> Deployment:
    """Record that the champion stays because no candidate could be trained."""
    config = config.limited_to(*SETTINGS)
    record: files.Record = {
        "inputs": {
            "monitoring": files.sha256_file(config.monitoring_record),
            "score": "",
            "accepted": config.fingerprint(),
        },
        "decided_at": files.utc_now(),
        "promoted": False,
        "rule": rule,
        "reason": f"kept the champion: {reason}",
        "candidate": "",
        "champion": releases.current_id(config.production_folder),
        "comparison": None,
        "release": None,
    }
    return _save_decision(config, record, up_to_date=False)


def roll_back(config: Config, release_id: str | None) -> str:
    """Point production at an older release, by default the one deployed before the current.

    Raises: NoModel if there is none; Damaged if it does not match its manifest.
    """
    ids = releases.list_ids(config.production_folder)
    current = _current_or_none(config)
    if release_id is None:
        older = [one for one in ids if current is None or one < current]
        if not older:
            raise NoModel(f"{config.releases}: no older release to go back to; see --list")
        release_id = older[-1]
    releases.activate(config.production_folder, release_id)
    now = files.utc_now()
    action_id = f"{now} {time.time_ns()} {release_id}"
    row: dict[str, Any] = {"at": now, "made": action_id, "action": "rolled back"}
    row |= {"release": release_id, "reason": f"by hand, from {current}"}
    history.save(config.history, "deployments", [row])
    return release_id


def _current_or_none(config: Config) -> str | None:
    try:
        return releases.current_id(config.production_folder)
    except (NoModel, Damaged):
        return None


def list_releases(config: Config) -> str:
    """Format one line per release; `*` marks the current one."""
    current = _current_or_none(config)
    lines = []
    for release_id in releases.list_ids(config.production_folder):
        mark = "*" if release_id == current else " "
        try:
            release = releases.read(config.production_folder, release_id)
        except AttritionError as error:
            lines.append(f"{mark} {release_id}  damaged: {error}")
            continue
        scored = next((s for s in release.score["sets"].values() if s), None)
        auc = scored["candidate"]["roc_auc"]["value"] if scored else None
        figure = f"ROC AUC {auc:.3f}" if auc is not None else "not scored"
        lines.append(f"{mark} {release_id}  {release.training['kind']}, {figure}")
    return "\n".join(lines) or "no release yet; run fullprocess.py"


def main(argv: list[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--list", action="store_true", help="list the releases")
    parser.add_argument(
        "--rollback",
        nargs="?",
        const="",
        metavar="RELEASE",
        help="go back to RELEASE; default: the previous one",
    )
    options = parser.parse_args(argv)
    if not options.list and options.rollback is None:
        return cli.run(options, "deployment", deploy_model)

    def work(config: Config) -> int:
        if options.list:
            print(list_releases(config))
            return 0
        with cli.step_lock(config, "rollback"):
            print(f"in production: {roll_back(config, options.rollback or None)}")
        return 0

    return cli.run_command(options, work)


if __name__ == "__main__":
    sys.exit(main())
