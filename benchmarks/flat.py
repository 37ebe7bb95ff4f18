"""Compare the flat model of a release with the fitted one: equal risks and contributions, and time.

Run: python -m benchmarks.flat [CONFIG]   (a project with a model in production; default: config.json)
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from attrition import config_file
from attrition.modelling import explanations, models
from attrition.operations import releases
from attrition.serving import flattening
from attrition.serving.flat_model import FlatModel

Work = Callable[[], object]

ROWS, EXPLAINED = 10_000, 1_000
# Milliseconds of the flat model, and how many times as fast it must be.
LIMITS = {"one row": (0.3, 50), "10,000 rows": (70, 4), "contributions, 1,000 rows": (500, 2)}


def milliseconds(work: Work, times: int) -> float:
    """Measure the median CPU time of some work, after one run of it."""
    work()
    durations = []
    for _ in range(times):
        start = time.process_time()
        work()
        durations.append(time.process_time() - start)
    return 1000 * statistics.median(durations)


def compare(name: str, flat: Work, fitted: Work, times: int) -> bool:
    """Measure both models, and return whether the flat one is fast enough."""
    own, peer = milliseconds(flat, times), milliseconds(fitted, times)
    print(f"{name}: {own:.2f} ms, fitted model {peer:.1f} ms, {peer / own:.0f} times as fast")
    limit, ratio = LIMITS[name]
    return own <= limit and peer / own >= ratio


def main(argv: list[str] | None = None) -> int:
    """Return 0 if the risks are equal and the flat model is fast enough."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", nargs="?", type=Path, default=Path("config.json"))
    config = config_file.load(parser.parse_args(argv).config)
    release = releases.read_current(config.production_folder)
    model, baseline = releases.load_model(release), release.training["baseline"]
    flat = flattening.flatten(model)
    data = flat.to_bytes()
    load = milliseconds(lambda: FlatModel.from_bytes(data), 21)
    print(f"file: {len(data) / 1e6:.1f} MB, loaded in {load:.1f} ms")
    reference = releases.read_reference(release)
    difference = flattening.check_equal(flat, model, reference)
    rows = reference.sample(ROWS, replace=True, random_state=0)[list(model.features)]
    some = rows[:EXPLAINED]
    added = flat.explain(flattening.to_columns(flat, some), baseline)
    apart = np.abs(added - explanations.contributions(model, some, baseline).to_numpy()).max()
    print(f"greatest difference: risk {difference:.1e}, contribution {apart:.1e}")
    is_good = bool(apart <= 1e-9)
    for name, table, times in (("one row", rows[:1], 21), ("10,000 rows", rows, 5)):
        columns = flattening.to_columns(flat, table)
        is_good &= compare(
            name,
            lambda columns=columns: flat.predict(columns),
            lambda table=table: models.predict(model, table),
            times,
        )
    columns = flattening.to_columns(flat, some)
    return (
        0
        if is_good
        & compare(
            "contributions, 1,000 rows",
            lambda: flat.explain(columns, baseline),
            lambda: explanations.contributions(model, some, baseline),
            3,
        )
        else 1
    )


if __name__ == "__main__":
    sys.exit(main())
