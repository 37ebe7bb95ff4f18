"""Run every benchmark that needs no table, but for the sweep of all faults (make sweep): hours.

Run: python -m benchmarks
"""

import sys

from benchmarks import (
    crowd,
    databases,
    estimates,
    kills,
    lanes,
    life,
    morning,
    one_client,
    parse_once,
    planted,
    ranking,
    scale,
    serving,
    shift,
    statistics,
    week,
)


def main() -> int:
    """Return 0 when all of them held."""
    codes = [shift.main(["--shift", name]) for name in ("none", "harmless", "harmful")]
    codes += [statistics.main([section]) for section in statistics.RUNS]
    codes.append(estimates.main(["value"]))
    for benchmark in (
        ranking,
        parse_once,
        one_client,
        kills,
        lanes,
        scale,
        serving,
        crowd,
        week,
        life,
        databases,
        planted,
        morning,
    ):
        codes.append(benchmark.main([]))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
