"""Takes the protections of mutants.toml out of a copy of the source, one at a time, and lives until each is missed.

Prints a line for each: after how many lives it was found, and as what. Fails if one is not found.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

LIVES = 10_000
ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "target" / "mutants"
COPY = PLACE / "source"
SIMULATION = ["cargo", "test", "--test", "it", "simulation::thousands"]
# How the simulation says what broke.
BROKEN = re.compile(r"^seed (\d+)[,:]? ?(.*)$", re.MULTILINE)


def copy_source():
    """As it is now, without what is built; unchanged files keep their times, so that little is compiled anew."""
    COPY.mkdir(parents=True, exist_ok=True)
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        write(COPY / name, (ROOT / name).read_bytes())


def write(path: Path, content: bytes):
    if not path.exists() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def live() -> subprocess.CompletedProcess:
    home = os.environ | {"CARGO_TARGET_DIR": str(PLACE / "build"), "PAYMUX_SEEDS": str(LIVES)}
    return subprocess.run(SIMULATION, cwd=COPY, env=home, capture_output=True, text=True)


def found(mutant: dict) -> bool:
    path = COPY / mutant["file"]
    whole = path.read_text()
    first, last = mutant["from"].strip("\n"), mutant["to"].strip("\n")
    if whole.count(first) != 1:
        sys.exit(f"{mutant['file']}: expected exactly one {first!r}; bring mutants.toml up to date")
    path.write_text(whole.replace(first, last))
    lived = live()
    path.write_text(whole)
    said = BROKEN.search(lived.stdout + lived.stderr)
    if said is None and "test result: ok" not in lived.stdout:
        sys.exit(f"{mutant['takes_out']}: it does not compile, or the run failed:\n{lived.stderr[-3000:]}")
    told = f"seed {said[1]} | {said[2]}" if said else f"NOT FOUND in {LIVES} lives |"
    print(f"| {mutant['takes_out']} | {told} |", flush=True)
    return said is not None


def main():
    mutants = tomllib.loads((ROOT / "tests/mutants/mutants.toml").read_text())["mutant"]
    wanted = " ".join(sys.argv[1:])
    copy_source()
    missed = [one["takes_out"] for one in mutants if wanted in one["takes_out"] and not found(one)]
    if missed:
        sys.exit(f"not found: {'; '.join(missed)}")


main()
