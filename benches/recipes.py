#!/usr/bin/env python3
"""Trains recipes one after the other, each with several seeds, and makes the table of what they reach.

    python3 benches/recipes.py list                 the trials, each with its command
    python3 benches/recipes.py run [NAME ...]       trains those that are not done, or goes on with them
    python3 benches/recipes.py table                writes benches/results/recipes.md from what is done

A trial is a line of TRIALS: a name, the options of `mlpconv train`, the seeds, and what it is for. A run lies in
target/recipes/NAME-SEED. One that was interrupted goes on from its last save, so `run` may be stopped (Ctrl-C) and started at
any time; a night's log is benches/results/recipes.jsonl, which has a line for every run that came to its end. Trials with
`holdout` are for choosing: their figures are of 5,000 training images, and the test images are not looked at.
"""
import argparse
import datetime
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys

from compare import commit, cpu_name

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNS = os.path.join(ROOT, "target", "recipes")
RECORD = os.path.join(ROOT, "benches", "results", "recipes.jsonl")
TABLE = os.path.join(ROOT, "benches", "results", "recipes.md")
PROGRAM = os.path.join(ROOT, "target", "release", "mlpconv")

# Name, options, seeds, what it is for.
SHORT = "--resize 67 --epochs 4 --train-limit 6000 --test-limit 1000"
TRIALS = [
    ("small", "--preset small", [0, 1, 2], "the preset"),
    ("tuned", "--preset tuned", [0, 1, 2], "the preset"),
    ("stable-67", f"--preset stable {SHORT}", list(range(8)), "188 steps of the preset at 67x67: does a run die?"),
    ("d2l-67", f"--preset d2l {SHORT}", list(range(8)), "the same of d2l's recipe"),
]


def command(name, options, seed):
    """The command of a run, from the project's root; of one that was begun, the command that goes on with it."""
    folder = os.path.join("target", "recipes", f"{name}-{seed}")
    program = os.path.relpath(PROGRAM, ROOT)
    if os.path.exists(os.path.join(ROOT, folder, "config.toml")):
        return [program, "train", "--resume", folder, "--progress", "plain"]
    return [program, "train", *shlex.split(options), "--seed", str(seed), "--out", folder, "--progress", "plain"]


def recorded():
    """The lines of the record, by name, options and seed: a trial whose options change is another one."""
    if not os.path.exists(RECORD):
        return {}
    with open(RECORD) as lines:
        return {(line["name"], line["options"], line["seed"]): line for line in map(json.loads, lines)}


def result(name, options, seed):
    """What a run that came to its end reached."""
    folder = os.path.join(RUNS, f"{name}-{seed}")
    with open(os.path.join(folder, "metrics.jsonl")) as lines:
        epochs = [json.loads(line) for line in lines]
    scores = []
    if os.path.exists(os.path.join(folder, "scores.json")):
        with open(os.path.join(folder, "scores.json")) as file:
            scores = json.load(file)
    return {
        "name": name,
        "seed": seed,
        "options": options,
        "epochs": len(epochs),
        "measured_on": "holdout" if "--holdout" in options else "test",
        "last": epochs[-1]["test_accuracy"],
        "best": max(epoch["test_accuracy"] for epoch in epochs),
        "train_accuracy": epochs[-1]["train_accuracy"],
        "scores": [[score["weights"], score["tta"], score["accuracy"]] for score in scores],
        "epoch_seconds": round(min(epoch["train_seconds"] + epoch["test_seconds"] for epoch in epochs), 1),
        "machine": f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores",
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
    }


def run(names):
    unknown = set(names) - {name for name, *_ in TRIALS}
    if unknown:
        sys.exit(f"no trial is named {', '.join(sorted(unknown))}; `list` shows them")
    if not os.path.exists(PROGRAM):
        sys.exit("target/release/mlpconv is not there; run: cargo build --release --bin mlpconv")
    done = recorded()
    # Seed after seed, so that every trial has a figure early.
    chosen = [trial for trial in TRIALS if not names or trial[0] in names]
    rounds = max((len(seeds) for _, _, seeds, _ in chosen), default=0)
    order = [(name, options, seeds[i]) for i in range(rounds) for name, options, seeds, _ in chosen if i < len(seeds)]
    for name, options, seed in order:
        if (name, options, seed) in done:
            continue
        words = command(name, options, seed)
        print(f"$ {shlex.join(words)}", flush=True)
        # Ctrl-C is for the training, which saves and ends; then this ends as well.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        ended = subprocess.run(words, cwd=ROOT, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if ended.returncode != 0:
            sys.exit(f"ended with {ended.returncode}; the same command goes on")
        os.makedirs(os.path.dirname(RECORD), exist_ok=True)
        with open(RECORD, "a") as record:
            record.write(json.dumps(result(name, options, seed)) + "\n")


def table():
    done = recorded()
    lines = [
        "# Recipes",
        "",
        "Made by `python3 benches/recipes.py table` from `recipes.jsonl`, a line for every run. A figure is the mean over the",
        "seeds, with the least and the largest; of a run it is the score that counts: of the average of the weights and on mirror",
        "images where the recipe says so, else of the last epoch. *Holdout* are 5,000 training images, by which recipes were",
        "chosen, after the last epoch. Minutes are those of a quiet machine: the fastest epoch, with the measurement after it,",
        "times the epochs.",
        "",
    ]
    for title, on in [("On the test images", "test"), ("On the holdout", "holdout")]:
        rows = []
        for name, options, seeds, why in TRIALS:
            runs = [done[(name, options, seed)] for seed in seeds if (name, options, seed) in done]
            runs = [run for run in runs if run["measured_on"] == on]
            if not runs:
                continue
            figures = [run["scores"][-1][2] if run["scores"] and on == "test" else run["last"] for run in runs]
            spread = f"{min(figures):.4f} to {max(figures):.4f}" if len(figures) > 1 else "one seed"
            minutes = min(run["epochs"] * run["epoch_seconds"] for run in runs) / 60
            rows.append(
                f"| {name} | {statistics.mean(figures):.4f} | {spread} | {len(runs)} | {runs[0]['epochs']} | {minutes:.1f} "
                f"| {why} | `train {options}` |"
            )
        if rows:
            head = "| recipe | accuracy | range | seeds | epochs | minutes | what it is | options |"
            lines += [f"## {title}", "", head, "|---|---|---|---|---|---|---|---|", *rows, ""]
    planned = {(name, options, seed) for name, options, seeds, _ in TRIALS for seed in seeds}
    lost = {}
    for key, run in done.items():
        if key not in planned:
            lost.setdefault(run["name"], []).append(run)
    if lost:
        head = "| what | accuracy after the last epoch | measured on | seeds | epochs | commit | options |"
        lines += ["## Tried, and given up", "", head, "|---|---|---|---|---|---|---|"]
        for runs in lost.values():
            least, largest = (f"{limit(run['last'] for run in runs):.4f}" for limit in (min, max))
            reached = least if least == largest else f"{least} to {largest}"
            one = runs[0]
            lines.append(
                f"| {one['why']} | {reached} | {one['measured_on']} | {len(runs)} | {one['epochs']} | {one['commit']} "
                f"| `train {one['options']}` |"
            )
        lines.append("")
    machines = sorted({run["machine"] for run in done.values()})
    dates = sorted({run["date"] for run in done.values()})
    if dates:
        span = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        lines.append(f"Machine: {'; '.join(machines)}. {span}.")
    with open(TABLE, "w") as file:
        file.write(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["list", "run", "table"])
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    if args.what == "list":
        for name, options, seeds, why in TRIALS:
            print(f"{name}: {why} (seeds {', '.join(map(str, seeds))})\n    {shlex.join(command(name, options, seeds[0]))}")
    elif args.what == "run":
        run(args.names)
    else:
        table()


if __name__ == "__main__":
    main()
