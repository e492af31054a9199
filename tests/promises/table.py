#!/usr/bin/env python3
"""Writes the README's table of promises.

    make torture                                     the long form of every test; writes promises.json and the table
    python3 tests/promises/table.py FIGURES SECONDS  the same from the folder of the figures that the tests have left
    python3 tests/promises/table.py --check          fails if the README's table differs from promises.json

A figure is a file `NN.test` with a line of text, which the test of promise NN has written.
"""
import datetime
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, "benches"))
from compare import commit, cpu_name  # noqa: E402

RESULTS = os.path.join(HERE, "promises.json")
BEGIN, END = "<!-- promises: begin -->", "<!-- promises: end -->"


def promises():
    with open(os.path.join(HERE, "promise.rs")) as file:
        listed = file.read().split("PROMISES: [&str; ", 1)[1]
    count, rest = listed.split("]", 1)
    texts = re.findall(r'^\s+"(.*)",$', rest.split("];")[0], re.M)
    if len(texts) != int(count):
        sys.exit(f"promise.rs has {count} promises, of which {len(texts)} were found")
    return texts


def collect(folder, seconds):
    figures = {}
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name)) as file:
            figures.setdefault(name.split(".")[0].lstrip("0"), []).append(file.read().strip())
    return {
        "date": datetime.date.today().isoformat(), "commit": commit(), "cpu": cpu_name(), "threads": os.cpu_count(),
        "minutes": round(float(seconds) / 60), "figures": figures,
    }


def table(data):
    lines = ["| | what holds | shown by |", "|---|---|---|"]
    for number, promise in enumerate(promises(), 1):
        figures = data["figures"].get(str(number))
        if not figures:
            sys.exit(f"promise {number} has no figure: {promise}")
        lines.append(f"| {number} | {promise} | {'; '.join(figures)} |")
    how = f"`make torture`, {data['minutes']} minutes on {data['threads']} threads of an {data['cpu'].split(' Processor')[0]}"
    lines += ["", f"{how}; {data['date']}, commit {data['commit']}."]
    return "\n".join(lines)


def main():
    check = sys.argv[1:] == ["--check"]
    if not check:
        data = collect(*sys.argv[1:3])
        with open(RESULTS, "w") as file:
            json.dump(data, file, indent=1, ensure_ascii=False)
            file.write("\n")
    with open(RESULTS) as file:
        text = table(json.load(file))
    readme = os.path.join(ROOT, "README.md")
    with open(readme) as file:
        old = file.read()
    before, rest = old.split(BEGIN)
    new = f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}"
    if check and new != old:
        sys.exit(f"{readme}: its table of promises is not that of {RESULTS}; run make torture")
    if not check:
        with open(readme, "w") as file:
            file.write(new)
        print(text)


if __name__ == "__main__":
    main()
