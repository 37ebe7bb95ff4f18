"""Compare the required, installed and latest versions of the dependencies.

The package index is asked for the latest versions. If the index cannot be reached, a cache may still
answer with old versions, and each package waits for a timeout. So the first question is about a package
that only the index has: if there is no answer, every latest version is unknown. This is slow; never call
it in a request.
"""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.version import Version

TIMEOUT_S = 60
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


def ask_index(names: Iterable[str]) -> dict[str, str]:
    """Ask the index for the latest version of each package; packages without an answer are left out.

    One process of pip asks about all of them: it lists the outdated packages of a folder in which
    version 0 of each package seems to be installed.
    """
    with TemporaryDirectory(prefix="attrition-") as folder:
        for name in names:
            installed = Path(folder, f"{name.replace('-', '_')}-0.dist-info")
            installed.mkdir()
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n"
            (installed / "METADATA").write_text(metadata, encoding="utf-8")
        command = [sys.executable, "-m", "pip", "list", "--outdated", "--format=json"]
        command += ["--path", folder, "--retries", "0", "--timeout", "5"]
        command += ["--disable-pip-version-check", "--no-input"]
        environment = os.environ | {"PIP_USER": "0"}  # --user in a configuration forbids --path
        answer = subprocess.run(
            command, capture_output=True, env=environment, timeout=TIMEOUT_S, check=True
        )
    return {package["name"]: package["latest_version"] for package in json.loads(answer.stdout)}


def ask_all(names: list[str]) -> dict[str, str | None]:
    """Ask for the latest version of every package; all None if the index itself does not answer."""
    latest: dict[str, str] = {}
    with suppress(OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        if ask_index([CANARY]):
            latest = ask_index(names)
    return {name: latest.get(name) for name in names}


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
