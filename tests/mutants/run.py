"""Mutation test: removes each safety check of mutants.toml from a copy of the source, one at a time, and requires the
simulation to find it.

Prints a line for each: the seed that found it, and the violation. Fails if one is not found.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

RUNS = 10_000
ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "target" / "mutants"
COPY = PLACE / "source"
SIMULATION = ["cargo", "test", "--test", "it", "simulation::thousands"]
# The line in which the simulation reports a violation.
BROKEN = re.compile(r"^seed (\d+)[,:]? ?(.*)$", re.MULTILINE)


def copy_source():
    """Copies the tracked files; unchanged ones keep their timestamps, so that little is recompiled."""
    COPY.mkdir(parents=True, exist_ok=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        write(COPY / name, (ROOT / name).read_bytes())


def write(path: Path, content: bytes):
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def simulate() -> subprocess.CompletedProcess:
    environment = os.environ | {"CARGO_TARGET_DIR": str(PLACE / "build"), "PAYMUX_SEEDS": str(RUNS)}
    return subprocess.run(SIMULATION, cwd=COPY, env=environment, capture_output=True, text=True)


def found(mutant: dict) -> bool:
    path = COPY / mutant["file"]
    whole = path.read_text()
    first, last = mutant["from"].strip("\n"), mutant["to"].strip("\n")
    if whole.count(first) != 1:
        sys.exit(f"{mutant['file']}: expected exactly one {first!r}; bring mutants.toml up to date")
    path.write_text(whole.replace(first, last))
    result = simulate()
    path.write_text(whole)
    violation = BROKEN.search(result.stdout + result.stderr)
    if violation is None and "test result: ok" not in result.stdout:
        sys.exit(f"{mutant['takes_out']}: it does not compile, or the run failed:\n{result.stderr[-3000:]}")
    outcome = f"seed {violation[1]} | {violation[2]}" if violation else f"NOT FOUND in {RUNS} runs |"
    print(f"| {mutant['takes_out']} | {outcome} |", flush=True)
    return violation is not None


def main():
    mutants = tomllib.loads((ROOT / "tests/mutants/mutants.toml").read_text())["mutant"]
    selected = " ".join(sys.argv[1:])
    copy_source()
    missed = [one["takes_out"] for one in mutants if selected in one["takes_out"] and not found(one)]
    if missed:
        sys.exit(f"not found: {'; '.join(missed)}")


main()
