"""Where each file of an installation is; the only module that contains paths and file names."""

import hashlib
import os
from collections.abc import Collection
from pathlib import Path

from attrition.idle import WATCH_LIST


class _File:
    """The path of one of our files: the setting of its folder, and its name."""

    def __init__(self, folder: str, name: str) -> None:
        self.folder, self.name = folder, name

    def __get__(self, paths: "Paths", owner: type) -> Path:
        return getattr(paths, self.folder) / self.name


class Paths:
    """The files of an installation, by the folders that config.json names."""

    output_folder: Path
    production_folder: Path
    reports_folder: Path
    contacts_folder: Path
    access_folder: Path

    # ingestion
    final_data = _File("output_folder", "finaldata.csv")
    rows = _File("output_folder", "finaldata.parquet")
    ingested_files = _File("output_folder", "ingestedfiles.txt")
    rejected = _File("output_folder", "rejected.csv")
    withdrawn = _File("output_folder", "withdrawn.csv")
    table_rows = _File("output_folder", "table_rows.npz")
    deliveries = _File("output_folder", "deliveries.npz")
    gone = _File("output_folder", "gone.npz")
    ingestion_record = _File("output_folder", "ingestion.json")

    # training, scoring, the decision to deploy
    candidate = _File("model_folder", "trainedmodel.skops")
    evaluation_model = _File("model_folder", "evaluationmodel.skops")
    reference = _File("model_folder", "reference.csv")
    known_rows = _File("model_folder", "known_rows.npz")
    training_record = _File("model_folder", "training.json")
    latest_score = _File("model_folder", "latestscore.txt")
    score_record = _File("model_folder", "score.json")
    decision_record = _File("model_folder", "decision.json")

    # production
    releases = _File("production_folder", "releases")
    current = _File("production_folder", "current")
    history = _File("production_folder", "history.sqlite")
    lock = _File("production_folder", ".lock")
    last_run = _File("production_folder", "lastrun.json")
    notices = _File("production_folder", "notices.json")
    hashes = _File("production_folder", "hashes.json")
    watch_list = _File("production_folder", WATCH_LIST)
    forgotten = _File("production_folder", "forgotten.json")
    forgetting = _File("production_folder", "forgetting.json")
    write_back_record = _File("production_folder", "writeback.json")

    # monitoring
    monitoring_record = _File("production_folder", "monitoring.json")
    settled_rows = _File("production_folder", "settled_rows.npz")

    # who may use the API
    tokens = _File("access_folder", "tokens.json")
    users = _File("access_folder", "users.json")
    sessions = _File("access_folder", "sessions.sqlite")

    # what people enter
    contact_log = _File("contacts_folder", "contacts.sqlite")

    # what people read
    clients = _File("reports_folder", "clients.parquet")
    risk_scores = _File("reports_folder", "riskscores.csv")
    contact_list = _File("reports_folder", "contactlist.csv")
    earlier_clients = _File("reports_folder", "previous.parquet")
    risk_history = _File("reports_folder", "riskhistory.npy")
    assessment_record = _File("reports_folder", "assessment.json")
    diagnostics_record = _File("reports_folder", "diagnostics.json")
    dependencies = _File("reports_folder", "dependencies.json")
    report = _File("reports_folder", "report.pdf")
    contact_sheet = _File("reports_folder", "contactlist.xlsx")
    report_record = _File("reports_folder", "report.json")
    api_returns = _File("reports_folder", "apireturns.txt")
    diary = _File("reports_folder", "fullprocess.log")
    metrics = _File("reports_folder", "attrition.prom")

    @property
    def inbox(self) -> Path:
        """The folder for sheets that people have filled in."""
        return self.contacts_folder / "inbox"

    def audit_log(self, month: str) -> Path:
        return self.access_folder / f"audit-{month}.jsonl"

    def figure(self, name: str) -> Path:
        return self.reports_folder / f"{name}.png"

    def manager_pages(self, manager: str) -> Path:
        """Return the printed list of a client manager; different names never have the same file."""
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in manager)[:40]
        digest = hashlib.sha256(manager.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return self.reports_folder / f"list-{plain}-{digest}.pdf"

    def manager_sheet(self, manager: str) -> Path:
        """Return the Excel sheet of a client manager."""
        return self.manager_pages(manager).with_suffix(self.contact_sheet.suffix)

    def find_manager_sheets(self) -> list[Path]:
        return sorted(self.reports_folder.glob(f"list-*{self.contact_sheet.suffix}"))

    def declared_files(self) -> list[Path]:
        """Return the path of each file of ours that has a name of its own, figures aside."""
        return [getattr(self, n) for n, value in vars(Paths).items() if isinstance(value, _File)]

    def segment(self, generation: int) -> Path:
        """Return the file of the rows that a generation added, beside those of `rows`."""
        return self.rows.with_name(f"{self.rows.stem}-{generation}{self.rows.suffix}")

    def deliveries_of(self, segment: Path) -> Path:
        """Return the file about the arrival of the rows in a segment."""
        ending = segment.stem.removeprefix(self.rows.stem)
        return self.deliveries.with_name(f"{self.deliveries.stem}{ending}{self.deliveries.suffix}")

    def list_segments(self, outputs: Collection[str]) -> list[Path]:
        """Return the files of rows among the outputs of ingestion, oldest first."""
        stem, suffix = f"{self.rows.stem}-", self.rows.suffix
        names = [name for name in outputs if name.startswith(stem) and name.endswith(suffix)]
        numbers = sorted(int(name.removeprefix(stem).removesuffix(suffix)) for name in names)
        base = [self.rows] if self.rows.name in outputs else []
        return [*base, *map(self.segment, numbers)]

    def list_derived(self, outputs: Collection[str]) -> list[Path]:
        """Return the outputs of ingestion that follow from others: segments, beside finaldata.csv."""
        return self.list_segments(outputs) if self.final_data.name in outputs else []

    def find_segments(self) -> list[Path]:
        """Return the existing segments beside `rows`, and the files about their arrival."""
        pattern = self.segment(0).name.replace("0", "*")
        found = [
            path
            for path in sorted(self.output_folder.glob(pattern))
            if path.stem.rpartition("-")[2].isdecimal()  # any other one is not ours
        ]
        return [*found, *filter(Path.exists, map(self.deliveries_of, found))]

    def find_figures(self) -> list[Path]:
        return sorted(self.reports_folder.glob(self.figure("*").name))

    @property
    def project(self) -> str:
        """The identity of this installation: a hash of where its production folder is."""
        place = os.fsencode(self.production_folder.resolve())
        return hashlib.sha256(place).hexdigest()[:16]
