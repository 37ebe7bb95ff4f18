"""Run every benchmark in turn, but for the sweep of all faults (make sweep), which takes hours.

Run: python -m benchmarks
"""

import sys

from benchmarks import crowd, databases, kills, ranking, shift, week


def main() -> int:
    """Return 0 when all of them held."""
    codes = [shift.main(["--shift", name]) for name in ("none", "harmless", "harmful")]
    codes += [ranking.main([]), kills.main([]), crowd.main([]), week.main([])]
    codes.append(databases.main([]))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
