"""Compare the required, installed and latest versions of the dependencies.

The package index is asked for the latest version of each package. If the index cannot be reached, a
cache may still answer with old versions. So a package that only the index has is asked for first: if it
has no answer, every latest version is unknown. Slow; never called in a request.
"""

import importlib.metadata
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from packaging.version import Version

AT_ONCE = 2
TIMEOUT_S = 30
UNKNOWN = "unknown"
CANARY = "sampleproject"


def read_required(requirements: Path) -> dict[str, str]:
    """Read the pinned version of each direct dependency by its name."""
    pins = re.findall(
        r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;#]+)",
        requirements.read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return dict(pins)


def find_installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def ask_latest(name: str) -> str | None:
    """Ask the index for the latest version of a package; None if there is no answer."""
    command = [sys.executable, "-m", "pip", "index", "versions", name]
    command += ["--retries", "0", "--timeout", "5", "--disable-pip-version-check", "--no-input"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"^Available versions: ([^,\s]+)", answer.stdout, re.MULTILINE)
    return match[1] if answer.returncode == 0 and match else None


def ask_all(names: list[str]) -> dict[str, str | None]:
    """Ask for the latest version of every package; all None if the index itself does not answer."""
    if ask_latest(CANARY) is None:
        return dict.fromkeys(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(names, pool.map(ask_latest, names), strict=True))


def compare_versions(
    required: dict[str, str], latest: dict[str, str | None]
) -> list[dict[str, Any]]:
    """Compare versions by package: name, required, installed, latest, outdated (None if unknown)."""
    rows = []
    for name in sorted(required, key=str.lower):
        installed, newest = find_installed(name), latest.get(name)
        if newest and installed and Version(newest) < Version(installed):
            newest = None  # the answer is out of date if it is older than the installed version
        rows.append(
            {
                "name": name,
                "required": required[name],
                "installed": installed or "not installed",
                "latest": newest or UNKNOWN,
                "outdated": None if newest is None else newest != installed,
            }
        )
    return rows
