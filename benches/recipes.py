#!/usr/bin/env python3
"""Trains recipes one after the other, each with several seeds, and makes the table of what they reach.

    python3 benches/recipes.py list                 the trials, each with its command
    python3 benches/recipes.py run [NAME ...]       trains those that are not done, or goes on with them
    python3 benches/recipes.py table                writes benches/results/recipes.md from what is done

A trial is a line of TRIALS: a name, the options of `mlpconv train`, the seeds, and what it is for. A run lies in
target/recipes/NAME-SEED. One that was interrupted goes on from its last save, so `run` may be stopped (Ctrl-C) and started at
any time; a night's log is benches/results/recipes.jsonl, which has a line for every run that came to its end. Trials with
`holdout` are for choosing: their figures are of the last 5,000 training images, and the test images are not looked at.
"""
import argparse
import datetime
import json
import os
import platform
import re
import shlex
import signal
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNS = os.path.join(ROOT, "target", "recipes")
RECORD = os.path.join(ROOT, "benches", "results", "recipes.jsonl")
TABLE = os.path.join(ROOT, "benches", "results", "recipes.md")
PROGRAM = os.path.join(ROOT, "target", "release", "mlpconv")

# Name, options, seeds, what it is for.
TRIALS = [
    ("small", "--preset small", [0, 1, 2], "the preset"),
    ("tuned", "--preset tuned", [0, 1, 2], "the preset"),
]


def command(name, options, seed):
    """The command of a run, from the project's root; of one that was begun, the command that goes on with it."""
    folder = os.path.join("target", "recipes", f"{name}-{seed}")
    program = os.path.relpath(PROGRAM, ROOT)
    if os.path.exists(os.path.join(ROOT, folder, "config.toml")):
        return [program, "train", "--resume", folder, "--progress", "plain"]
    return [program, "train", *shlex.split(options), "--seed", str(seed), "--out", folder, "--progress", "plain"]


def recorded():
    """The lines of the record, by name and seed."""
    if not os.path.exists(RECORD):
        return {}
    with open(RECORD) as lines:
        return {(line["name"], line["seed"]): line for line in map(json.loads, lines)}


def result(name, options, seed):
    """What a run that came to its end reached."""
    folder = os.path.join(RUNS, f"{name}-{seed}")
    with open(os.path.join(folder, "metrics.jsonl")) as lines:
        epochs = [json.loads(line) for line in lines]
    scores = []
    if os.path.exists(os.path.join(folder, "scores.json")):
        with open(os.path.join(folder, "scores.json")) as file:
            scores = json.load(file)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
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
        "seconds": round(sum(epoch["train_seconds"] + epoch["test_seconds"] for epoch in epochs), 1),
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "commit": commit,
    }


def machine():
    """The processor, as the table names it."""
    model = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return f"{model}, {len(os.sched_getaffinity(0))} cores"


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
        if (name, seed) in done:
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
        "images where the recipe says so, else of the last epoch. *Holdout* are the last 5,000 training images, by which recipes",
        "were chosen, of the last epoch. Times are of training and of the measurement after each epoch.",
        "",
    ]
    for title, on in [("On the test images", "test"), ("On the holdout", "holdout")]:
        rows = []
        for name, options, seeds, why in TRIALS:
            runs = [done[(name, seed)] for seed in seeds if (name, seed) in done]
            runs = [run for run in runs if run["measured_on"] == on]
            if not runs:
                continue
            figures = [run["scores"][-1][2] if run["scores"] and on == "test" else run["last"] for run in runs]
            spread = f"{min(figures):.4f} to {max(figures):.4f}" if len(figures) > 1 else "one seed"
            minutes = statistics.mean(run["seconds"] for run in runs) / 60
            rows.append(
                f"| {name} | {statistics.mean(figures):.4f} | {spread} | {len(runs)} | {runs[0]['epochs']} | {minutes:.1f} "
                f"| {why} | `train {options}` |"
            )
        if rows:
            head = "| recipe | accuracy | range | seeds | epochs | minutes | what it is | options |"
            lines += [f"## {title}", "", head, "|---|---|---|---|---|---|---|---|", *rows, ""]
    machines = sorted({run["machine"] for run in done.values()})
    dates = sorted({run["date"] for run in done.values()})
    if dates:
        lines.append(f"Machine: {'; '.join(machines)}. {dates[0]} to {dates[-1]}.")
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
