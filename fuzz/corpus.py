#!/usr/bin/env python3
"""Builds the corpora to begin with: fuzz/corpus/TARGET, from fuzz/seeds/TARGET and, when they are there,
from the recorded logs in the folder that CURFEW_DATA names. Nothing of the logs is kept in the repository."""
import hashlib
import os
import pathlib
import random
import shutil

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("CURFEW_DATA", HERE.parent.parent / "shared" / "data"))
FORMATS = {"auto": 0, "clf": 1, "json": 2, "csv": 3, "tsv": 4}


def keep(target, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def options(chosen, key=0, columns=1):
    """The first bytes of an input of `lines`: format, key, time, columns, drip, block, longest, reserved."""
    return bytes([FORMATS[chosen], key, 0, columns, 7, 15, 3, 0])


def samples():
    """The first lines of each recorded log, as many as a fuzzer can chew."""
    for path in sorted((DATA / "formats").glob("*")) if (DATA / "formats").is_dir() else []:
        if path.suffix != ".md":
            lines = path.read_bytes().splitlines(keepends=True)
            yield path.name, [lines[:1], lines[:4], lines[4:7]]


def main():
    shutil.rmtree(HERE / "corpus", ignore_errors=True)
    for path in sorted((HERE / "seeds").glob("*/*")):
        if path.suffix == ".log":
            for chosen in FORMATS:
                for key in (0, 2, 4, 5):
                    keep("lines", options(chosen, key) + path.read_bytes())
        elif path.suffix == ".toml":
            keep("policy", b"\x01" + path.read_bytes())
        elif path.suffix == ".specs":
            for line in path.read_bytes().splitlines():
                keep("policy", b"\x00" + line)
        else:
            keep(path.parent.name, path.read_bytes())
    keep("policy", b"\x01" + (HERE.parent / "examples" / "policies.toml").read_bytes())
    recorded = 0
    for name, parts in samples():
        for lines in parts:
            text = b"".join(lines)[:4000]
            chosen = "json" if "json" in name else "tsv" if name.endswith(".tsv") else "clf"
            keep("lines", options("auto") + text)
            keep("lines", options(chosen, key=2) + text)
            recorded += 1
    # Decisions are bytes; any will do to begin with.
    dice = random.Random(1)
    for target, length in (("model", 60), ("model", 300), ("attach", 100), ("attach", 3000), ("mutate", 60), ("mutate", 300), ("rebuild", 60), ("rebuild", 300), ("synth", 16)):
        for _ in range(8):
            keep(target, dice.randbytes(length))
    counts = {folder.name: len(list(folder.iterdir())) for folder in sorted((HERE / "corpus").iterdir())}
    print("corpora:", ", ".join(f"{target} {count}" for target, count in counts.items()))
    if not recorded:
        print(f"no recorded logs at {DATA} (set CURFEW_DATA): seeds of our own only")


main()
