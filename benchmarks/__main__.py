"""Run every benchmark in turn, but for the sweep of all faults (make sweep), which takes hours.

Run: python -m benchmarks
"""

import sys

from benchmarks import crowd, databases, kills, lanes, planted, ranking, scale, shift, week


def main() -> int:
    """Return 0 when all of them held."""
    codes = [shift.main(["--shift", name]) for name in ("none", "harmless", "harmful")]
    for benchmark in (ranking, kills, lanes, scale, crowd, week, databases, planted):
        codes.append(benchmark.main([]))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
