#!/usr/bin/env python3
"""Builds the corpora to begin with, from fuzz/seeds/TARGET and from dice that always fall the same way.

    fuzz/corpus.py                 fuzz/corpus/TARGET anew; also from the recorded logs in the folder that
                                   CURFEW_DATA names, when they are there
    fuzz/corpus.py --seeds FOLDER  FOLDER/TARGET; from what is committed, and so the same everywhere

Nothing of the logs is kept in the repository."""
import hashlib
import os
import pathlib
import random
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
DATA = pathlib.Path(os.environ.get("CURFEW_DATA", HERE.parent.parent / "shared" / "data"))
FORMATS = {"auto": 0, "clf": 1, "json": 2, "csv": 3, "tsv": 4}


# Target, and how long its inputs are.
DICE = (
    ("model", 60), ("model", 300), ("attach", 100), ("attach", 3000), ("mutate", 60), ("mutate", 300),
    ("rebuild", 60), ("rebuild", 300), ("snapshot", 60), ("snapshot", 300), ("snapshot", 1500), ("synth", 16),
)  # fmt: skip
corpus = HERE / "corpus"


def keep(target, data):
    folder = corpus / target
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


def changed(text, others, dice):
    """`text` with some bytes changed, left out, there twice, or those of another input."""
    text = bytearray(text)
    for _ in range(1 + dice.randrange(4)):
        at = dice.randrange(len(text) + 1)
        part = slice(at, at + dice.choice((1, 1, 2, 8, 40)))
        other = dice.choice(others)
        start = dice.randrange(len(other))
        text[part] = dice.choice((
            b"", bytes(text[part]) * 2, dice.randbytes(1), bytes(byte ^ 1 << dice.randrange(8) for byte in text[part]),
            dice.choice((b"\n", b'"', b"\\", b"{", b"}", b"[", b",", b"\t", b"\r\n", b"\xff", b"\0", b"-", b" ")),
            other[start : start + dice.randrange(60)],
        ))  # fmt: skip
    return bytes(text)


def main(committed_only):
    shutil.rmtree(corpus, ignore_errors=True)
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
    for name, parts in [] if committed_only else samples():
        for lines in parts:
            text = b"".join(lines)[:4000]
            chosen = "json" if "json" in name else "tsv" if name.endswith(".tsv") else "clf"
            keep("lines", options("auto") + text)
            keep("lines", options(chosen, key=2) + text)
            recorded += 1
    # Decisions are bytes; any will do to begin with.
    dice = random.Random(1)
    for target, length in DICE:
        for _ in range(8):
            keep(target, dice.randbytes(length))
        if target == "snapshot":
            # The first byte says what the others are; these are laid over a real snapshot.
            for _ in range(4):
                keep(target, b"\x01" + dice.randbytes(length))
    if committed_only:
        # What covers its code anew hangs on hashes with a random seed, so a run that learns does not repeat itself.
        for target in ("lines", "snapshot"):
            seeds = [path.read_bytes() for path in sorted((corpus / target).iterdir())]
            for _ in range(6000):
                keep(target, changed(dice.choice(seeds), seeds, dice))
    counts = {folder.name: len(list(folder.iterdir())) for folder in sorted(corpus.iterdir())}
    print("corpora:", ", ".join(f"{target} {count}" for target, count in counts.items()))
    if not recorded and not committed_only:
        print(f"no recorded logs at {DATA} (set CURFEW_DATA): seeds of our own only")


if sys.argv[1:2] == ["--seeds"]:
    corpus = pathlib.Path(sys.argv[2])
main(committed_only=sys.argv[1:2] == ["--seeds"])
