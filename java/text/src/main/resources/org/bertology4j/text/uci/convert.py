#!/usr/bin/env python3
"""Writes amazon.tsv, imdb.tsv and yelp.tsv beside this script.

The sentences are taken from the npm package sentiment 5.0.2:

    npm pack sentiment@5.0.2 && tar xzf sentiment-5.0.2.tgz
    ./convert.py package/test/fixtures

Each of its files ends with one entry without text and class, which is left out. The order is kept, and so is every
character of the sentences (trailing blanks and C1 control characters are in the original).
"""

import json
import pathlib
import sys


def convert(source: pathlib.Path, target: pathlib.Path) -> None:
    entries = json.loads(source.read_text(encoding="utf-8"))
    rows = [(e["text"], e["class"]) for e in entries if e["class"] is not None]
    assert len(rows) == len(entries) - 1 == 1000, source
    assert entries[-1] == {"text": "", "class": None}, source
    assert not any(c in text for text, _ in rows for c in "\t\n\r"), source
    lines = ["sentence\tlabel"] + [f"{text}\t{label}" for text, label in rows]
    target.write_bytes(("\n".join(lines) + "\n").encode("utf-8"))


if __name__ == "__main__":
    folder = pathlib.Path(__file__).parent
    for name in ("amazon", "imdb", "yelp"):
        convert(pathlib.Path(sys.argv[1]) / f"{name}.json", folder / f"{name}.tsv")
