#!/usr/bin/env python3
"""Trains for a moment, kills the process, goes on, and reads the event files as TensorBoard's users do.

    make event-files
    python tests/tensorboard/check_events.py target/release/mlpconv

The run is read by `EventAccumulator`, and by `tensorboard --logdir` with either of its loaders, over HTTP. Each has to give
the steps of an undisturbed run, once each, and the numbers of results.csv.
"""
import csv
import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STEPS, EPOCHS = 5, 3
RECIPE = f"--device cpu --preset small --train-limit 40 --test-limit 8 --batch-size 8 --epochs {EPOCHS}".split()
COLUMNS = {
    "loss/train": "loss", "accuracy/train": "train_accuracy", "loss/test": "test_loss", "accuracy/test": "test_accuracy",
    "rate": "rate", "images_per_second": "examples_per_second",
}


def train(mlpconv, run):
    """A run that is killed in the middle, and gone on with."""
    process = subprocess.Popen(
        [mlpconv, "train", *RECIPE, "--tensorboard", "--log-every", "1", "--save-every", "1000", "--out", run],
        stdout=subprocess.PIPE, text=True,
    )
    for line in process.stdout:
        # Steps after the first epoch are lost with the process, and their events are void.
        if line.startswith("epoch 2/3, step 2/5"):
            break
    process.kill()
    process.wait()
    subprocess.run([mlpconv, "train", "--resume", run, "--log-every", "1"], check=True, stdout=subprocess.DEVNULL)


def check(what, scalars, rows):
    """scalars: the pairs of step and value of each tag."""
    assert set(scalars) == set(COLUMNS), f"{what}: {sorted(scalars)}"
    ends = [STEPS * int(row["epoch"]) for row in rows]
    for tag, column in COLUMNS.items():
        steps = [step for step, _ in scalars[tag]]
        expected = list(range(1, STEPS * EPOCHS + 1)) if tag.endswith("train") else ends
        assert steps == expected, f"{what}: {tag} at {steps}"
        values = dict(scalars[tag])
        for step, row in zip(ends, rows):
            rounded = struct.unpack("f", struct.pack("f", float(row[column])))[0]
            assert values[step] == rounded, f"{what}: {tag} is {values[step]} at {step}, not {rounded}"
    print(f"{what}: {sum(map(len, scalars.values()))} values of {len(scalars)} tags")


def by_accumulator(run):
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def by_server(folder, fast):
    """What the page asks its server for."""
    command = ["tensorboard", "--logdir", folder, "--port", "0", "--host", "127.0.0.1", f"--load_fast={fast}"]
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PATH": path})
    try:
        said = []
        while not (found := re.search(r"http://[^ ]+", line := server.stderr.readline())):
            assert line, f"{command} ended: {''.join(said)}"
            said.append(line)
        address = found.group()

        def get(what):
            with urllib.request.urlopen(f"{address.rstrip('/')}/data/plugin/scalars/{what}") as answer:
                return json.load(answer)

        deadline = time.monotonic() + 60
        while "run" not in (tags := get("tags")):
            assert time.monotonic() < deadline, f"{command}: no run after a minute"
            time.sleep(0.2)
        # All files are read by then.
        time.sleep(2)
        tags = get("tags")["run"]
        query = {tag: urllib.parse.urlencode({"run": "run", "tag": tag}) for tag in tags}
        return {tag: [(step, value) for _, step, value in get(f"scalars?{query[tag]}")] for tag in tags}
    finally:
        server.kill()
        server.wait()


def main():
    mlpconv = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        run = pathlib.Path(folder, "run")
        train(mlpconv, run)
        files = sorted(file.name for file in run.glob("events.out.tfevents.*"))
        assert len(files) == 2, files
        with open(run / "results.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1", "2", "3"], rows
        check("EventAccumulator", by_accumulator(run), rows)
        for fast in ["false", "true"]:
            check(f"tensorboard --load_fast={fast}", by_server(folder, fast), rows)


if __name__ == "__main__":
    main()
