"""Kill the whole process at random moments of its first run; the next run must repair it.

After each kill a plain run follows, without any help. It must end with the same rows, the same account
of every source, one verified release of the same model, and the same list as a run nobody disturbed.

Run: python -m benchmarks.kills [--kills 30] [--seed 0]
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from attrition.config import Config
from attrition.operations import releases
from attrition.storage import files, history
from benchmarks.project import ROOT, make_project


def prepare(folder: Path) -> Config:
    """Copy the sample company into a project of its own."""
    config = make_project(folder)
    shutil.copytree(ROOT / "sourcedata", config.input_folder, dirs_exist_ok=True)
    return config


def start(config: Config) -> subprocess.Popen[bytes]:
    script = [sys.executable, str(ROOT / "fullprocess.py"), "--quiet"]
    return subprocess.Popen([*script, "--config", str(config.file)])


def outcome(config: Config) -> dict[str, object]:
    """Return what a crash may not change; times aside."""
    release = releases.read_current(config.production_folder)
    ledger = [line.split(",", 1)[1] for line in config.ingested_files.read_text().splitlines()]
    return {
        "finaldata": ledger.rows_version(config),
        "ledger": ledger,
        "releases": len(releases.list_ids(config.production_folder)),
        "model": release.model_sha256,
        "contact list": files.sha256_file(config.contact_list),
        "deployments": [row["action"] for row in history.read_deployments(config.history)],
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    rng = random.Random(options.seed)
    broken = 0
    with tempfile.TemporaryDirectory() as place:
        whole = prepare(Path(place) / "undisturbed")
        began = time.monotonic()
        assert start(whole).wait() == 0
        length_s = time.monotonic() - began
        expected = outcome(whole)
        for i in range(options.kills):
            config = prepare(Path(place) / f"killed{i}")
            process, moment = start(config), rng.uniform(0, length_s)
            try:
                process.wait(timeout=moment)
                told = "had ended"
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                told = "killed"
            code = start(config).wait()
            found = outcome(config) if code == 0 else {}
            wrong = [name for name in expected if found.get(name) != expected[name]]
            broken += bool(wrong)
            print(
                f"{moment:6.2f} s of {length_s:.1f} {told}; the next run: {wrong or 'all the same'}"
            )
            shutil.rmtree(config.file.parent)
    print(f"{options.kills} kills, {broken} not made good by the next plain run")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
