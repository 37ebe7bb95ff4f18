"""Run every benchmark in turn.

Run: python -m benchmarks
"""

import sys

from benchmarks import kills, lanes, ranking, scale, shift


def main() -> int:
    """Return 0 when all of them held."""
    codes = [shift.main(["--shift", name]) for name in ("none", "harmless", "harmful")]
    return max(*codes, ranking.main([]), kills.main([]), lanes.main([]), scale.main([]))


if __name__ == "__main__":
    sys.exit(main())
