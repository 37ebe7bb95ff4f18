"""Compare a running API with its own description: generated requests, all checks of schemathesis.

The three situations are an app with a token, the same app without it, and an app before its first
release; each is asked with every seed.

Reads   a project after its first run (--config), which is copied
Writes  nothing that stays
Run     python -m benchmarks.contract [--config PATH] [--seeds 1 2 3 4 5] [--examples 100]
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
CONTRACT = ROOT / "tests" / "campaigns" / "contract"
TOKEN = "a-token-for-the-contract-only"
SITUATIONS = ("token", "no token", "before the first release")


class Outcome(NamedTuple):
    """How many requests were generated, how many failures there were, and the report."""

    cases: int
    failures: int
    text: str


@contextmanager
def served(source: Path, situation: str) -> Iterator[str]:
    """Serve a copy of a project in a situation from a process of its own; yield the address."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        shutil.copytree(source.parent, folder, symlinks=True)
        settings = json.loads(source.read_text(encoding="utf-8"))
        if situation == SITUATIONS[2]:
            for key in ("prod_deployment_path", "output_model_path", "output_folder_path"):
                shutil.rmtree(folder / settings[key], ignore_errors=True)
            shutil.rmtree(folder / "reports", ignore_errors=True)
        else:
            settings["api"] = {**settings.get("api", {}), "token": "${ATTRITION_TOKEN}"}
            settings["api"]["requests_per_minute"] = 1_000_000
        (folder / source.name).write_text(json.dumps(settings), encoding="utf-8")
        command = [sys.executable, str(ROOT / "app.py"), "--config", str(folder / source.name)]
        with subprocess.Popen(
            [*command, "--port", "0", "--workers", "1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"ATTRITION_TOKEN": TOKEN},
        ) as process:
            try:
                assert process.stdout is not None
                port = re.search(r":(\d+) ", line := process.stdout.readline())
                assert port, line
                yield f"http://127.0.0.1:{port[1]}"
            finally:
                process.terminate()


def examine(address: str, situation: str, seed: int, examples: int) -> Outcome:
    """Generate requests by the description of an app, and check each answer."""
    with tempfile.TemporaryDirectory() as folder:
        document = Path(folder) / "openapi.json"
        document.write_bytes(fetch(address))
        command = [sys.executable, "-m", "schemathesis.cli"]
        command += ["--config-file", str(CONTRACT / "schemathesis.toml")]
        command += ["run", str(document), "--url", address, "--seed", str(seed), "--no-color"]
        command += ["--max-examples", str(examples), "--generation-database", "none"]
        if situation == SITUATIONS[0]:
            command += ["-H", f"Authorization: Bearer {TOKEN}"]
        environment: Mapping[str, str] = os.environ | {"PYTHONPATH": str(CONTRACT)}
        result = subprocess.run(
            command, cwd=CONTRACT, env=environment, capture_output=True, text=True, check=False
        )
    text = result.stdout + result.stderr
    cases = re.search(r"([\d,]+) generated", text)
    assert cases, text
    failures = re.search(r"found ([\d,]+) unique failures?", text)
    count = int(failures[1].replace(",", "")) if failures else int(result.returncode != 0)
    return Outcome(int(cases[1].replace(",", "")), count, text)


def fetch(address: str) -> bytes:
    """Return the description of an app, which needs the token too."""
    command = ["curl", "-s", "-H", f"Authorization: Bearer {TOKEN}", f"{address}/openapi.json"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=ROOT / "config.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--situation", choices=SITUATIONS, action="append")
    options = parser.parse_args()
    cases = failures = 0
    for situation in options.situation or SITUATIONS:
        with served(options.config.resolve(), situation) as address:
            for seed in options.seeds:
                outcome = examine(address, situation, seed, options.examples)
                print(
                    f"{situation}, seed {seed}: {outcome.cases} cases, {outcome.failures} failures"
                )
                if outcome.failures:
                    print(outcome.text)
                cases, failures = cases + outcome.cases, failures + outcome.failures
    print(f"{cases:,} cases, {failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
