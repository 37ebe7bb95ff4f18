"""Which of our dependencies are outdated: required, installed, and the latest there is.

The latest version is asked of the package index, package by package. Where the index cannot be reached
a cache beside it may still answer, with what it happens to hold; so a package that only the index has is
asked for first, and without it nothing is called current. Slow; never asked in a request.
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
    """Return name -> pinned version of each direct dependency."""
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
    """Ask the index for the latest version of a package; None when there is no answer."""
    command = [sys.executable, "-m", "pip", "index", "versions", name]
    command += ["--retries", "0", "--timeout", "5", "--disable-pip-version-check", "--no-input"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"^Available versions: ([^,\s]+)", answer.stdout, re.MULTILINE)
    return found[1] if answer.returncode == 0 and found else None


def ask_all(names: list[str]) -> dict[str, str | None]:
    """Ask for all packages, or for none when the index itself does not answer."""
    if ask_latest(CANARY) is None:
        return dict.fromkeys(names)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(names, pool.map(ask_latest, names), strict=True))


def table(required: dict[str, str], latest: dict[str, str | None]) -> list[dict[str, Any]]:
    """Return a line a package: name, required, installed, latest, outdated (None: not known)."""
    lines = []
    for name in sorted(required, key=str.lower):
        installed, newest = find_installed(name), latest.get(name)
        if newest and installed and Version(newest) < Version(installed):
            newest = None  # who has not heard of what is installed cannot tell what is latest
        lines.append(
            {
                "name": name,
                "required": required[name],
                "installed": installed or "not installed",
                "latest": newest or UNKNOWN,
                "outdated": None if newest is None else newest != installed,
            }
        )
    return lines
