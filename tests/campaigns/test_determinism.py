"""The same inputs and seed give the same bytes, whatever the hash seed and the time zone."""

import itertools
import os
import shutil
import subprocess
import sys

from attrition import config_file
from attrition.storage import files
from tests.conftest import ROOT, count_as_asked

SETTINGS = [*itertools.product(("0", "1"), ("UTC", "America/New_York"))]
# The sets of a score and the comparison, not the times in it.
SCORED = ("sets", "comparison", "curves", "threshold")


def made(config):
    """Return all that must be the same: bytes, and of the score what it says."""
    score = files.read_record(config.score_record)
    contents = (config.final_data, config.rejected, config.candidate, config.reference)
    contents += (config.known_rows, config.latest_score)
    contents += (config.clients, config.risk_scores, config.contact_list)
    found = {path.name: path.read_bytes() for path in contents}
    return found | {"score": files.encode({key: score[key] for key in SCORED if key in score})}


def test_hash_seed_and_time_zone_change_no_byte(small_project, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(small_project.file.parent, source, ignore=shutil.ignore_patterns("source"))
    outputs = []
    for i, (seed, zone) in enumerate(SETTINGS):
        folder = tmp_path / f"run{i}" / "project"
        shutil.copytree(source, folder)
        config = config_file.load(folder / "config.json")
        count_as_asked(config)
        subprocess.run(
            [sys.executable, ROOT / "fullprocess.py", "--config", config.file, "--quiet"],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            check=True,
        )
        outputs.append(made(config))
    first = outputs[0]
    assert all(first.values())
    for other in outputs[1:]:
        assert [name for name in first if first[name] != other[name]] == []
