#!/usr/bin/env python3
"""Checks `mlpconv scaling` against ranks on this machine: two processes of one thread each, which train one network over TCP.

    make scaling                                  builds, measures, writes benches/results/scaling.json and docs/scaling.md
    python3 benches/scaling.py                    the same with the program already built; only prints the table
    python3 benches/scaling.py --tables           measures nothing; writes the measured table from benches/results/
    python3 benches/scaling.py --tables --check   fails if it differs
    python3 benches/scaling.py --simulated        measures nothing; writes the simulated tables of docs/scaling.md

Each round runs, one after the other, one process with one thread, two such processes at once that do not know of each other, one process
with two threads, and two ranks with one thread each; all with --shards 2, so that they train the same weights. Figures are medians over the
rounds. The simulation gets the step of the two processes at once (they share caches and memory as ranks do), its spread, and the ring and
the calls as `mlpconv scaling --measure` measures them in the same rounds; it does not get the time of the ranks, which it predicts. The
script fails if the two differ by more than 15 %.
"""
import argparse
import datetime
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile

import compare

ROOT = compare.ROOT
DOC = os.path.join(ROOT, "docs/scaling.md")
RESULTS = os.path.join(ROOT, "benches/results/scaling.json")
# Images of a batch, and steps of a run.
PRESETS = {"small": (128, 90), "d2l": (8, 24)}
# Of each run, the share of steps that only warm up.
WARM = 0.2
LIMIT = 0.15
KINDS = {"alone": "1 process, 1 thread", "beside": "the same, beside another", "threads": "1 process, 2 threads",
         "ranks": "2 ranks, 1 thread each"}
SIMULATED = {"gpus": [], "tcp": ["--over", "tcp", "--preset", "small", "--batch-size", "128", "--total", "128", "--step-ms", "100",
                                 "--spread", "3", "--steps", "100"]}


# Measuring.

def start(args, preset, threads, ranks, folder, name):
    batch, steps = sizes(args, preset)
    launch = ["launch", "-n", str(ranks), "--"] if ranks > 1 else []
    command = [args.mlpconv, *launch, "train", "--device", "cpu", "--preset", preset, "--batch-size", str(batch), "--shards", "2",
               "--train-limit", str(batch * steps), "--test-limit", "8", "--epochs", "1", "--progress", "json",
               "--out", os.path.join(folder, name)]
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    log = open(os.path.join(folder, name + ".log"), "w+")
    return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT), log, command


def steps_of(process, log, command):
    """The milliseconds of each step after the warm-up. The program's stamps are to the millisecond."""
    code = process.wait()
    log.seek(0)
    text = log.read()
    log.close()
    if code != 0:
        sys.exit(f"{text}\n{' '.join(command)} failed")
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    stamps = [1e3 * line["seconds"] for line in lines if line["event"] == "step"]
    stamps = stamps[int(WARM * len(stamps)):]
    return [later - earlier for earlier, later in zip(stamps, stamps[1:])]


def deviation(values):
    """Of the normal distribution whose values differ as much, in the mean over all pairs, as these: what two ranks wait for each other."""
    pairs = [abs(one - other) for i, one in enumerate(values) for other in values[:i]]
    return statistics.mean(pairs) * math.sqrt(math.pi) / 2


def measured(args, preset, kind, folder):
    """A run's mean step in milliseconds, and the deviation of its steps as a share of it."""
    threads, ranks, processes = {"alone": (1, 1, 1), "beside": (1, 1, 2), "threads": (2, 1, 1), "ranks": (1, 2, 1)}[kind]
    runs = [start(args, preset, threads, ranks, folder, f"{kind}{number}") for number in range(processes)]
    steps = [steps_of(*run) for run in runs]
    mean = statistics.mean(step for run in steps for step in run)
    variance = statistics.mean(deviation(run) ** 2 for run in steps)
    # Rounding a stamp to a whole millisecond adds 1/12 to its variance.
    return {"step_ms": mean, "spread": math.sqrt(max(0.0, variance - 1 / 6)) / mean}


def ring(args, preset):
    command = [args.mlpconv, "launch", "-n", "2", "--", "scaling", "--measure", "--preset", preset, "--steps", "50", "--json"]
    return json.loads(compare.run(command, {"RAYON_NUM_THREADS": "1"})[0].splitlines()[0])


def sizes(args, preset):
    batch, steps = PRESETS[preset]
    return batch, args.steps or steps


def median(results, key):
    return statistics.median(result[key] for result in results)


def simulated(args, preset, data):
    batch, _ = sizes(args, preset)
    beside, rings = data["runs"]["beside"], data["rings"]
    # A step has two parts; parts whose times are independent differ more than their sum.
    spread = 100 * math.sqrt(2) * median(beside, "spread")
    command = [args.mlpconv, "scaling", "--over", "tcp", "--ranks", "2", "--shards", "2", "--preset", preset, "--json",
               "--batch-size", str(batch), "--total", str(batch), "--step-ms", str(median(beside, "step_ms")), "--step-shards", "2",
               "--spread", f"{spread:.3f}", "--latency-us", str(median(rings, "latency_us")), "--bandwidth",
               str(median(rings, "bandwidth")), "--call-us", str(median(rings, "call_us")), "--steps", "200"]
    rows = [json.loads(line) for line in compare.run(command)[0].splitlines()]
    row = next(row for row in rows if row["scaling"] == "strong" and row["exchange"] == "tree")
    return {**row, "spread": spread / 100}


def measure(args):
    data = {"date": datetime.date.today().isoformat(), "commit": args.commit, "cpu": compare.cpu_name(), "cores": os.cpu_count(),
            "rounds": args.rounds, "presets": {}}
    for preset in args.presets:
        batch, steps = sizes(args, preset)
        data["presets"][preset] = {"batch": batch, "steps": steps, "runs": {kind: [] for kind in KINDS}, "rings": []}
    for i in range(args.rounds):
        for preset, result in data["presets"].items():
            with tempfile.TemporaryDirectory() as folder:
                for kind in KINDS:
                    result["runs"][kind].append(measured(args, preset, kind, folder))
                    step = result["runs"][kind][-1]["step_ms"]
                    print(f"round {i + 1}/{args.rounds}  {preset:6} {KINDS[kind]:24} {step:9.2f} ms a step  "
                          f"{1e3 * result['batch'] / step:8.1f} images/s", flush=True)
                result["rings"].append(ring(args, preset))
    for preset, result in data["presets"].items():
        result["simulated"] = simulated(args, preset, result)
        result["ratio"] = result["simulated"]["step_us"] / 1e3 / median(result["runs"]["ranks"], "step_ms")
    return data


# Tables.

def table(data):
    lines = []
    for preset, result in data["presets"].items():
        rings, simulation = result["rings"], result["simulated"]
        lines += [f"`{preset}`, batch {result['batch']}, two shards:", "", "| | step, ms | (range) | images/s |",
                  "|---|---:|---:|---:|"]
        for kind, name in KINDS.items():
            steps = [run["step_ms"] for run in result["runs"][kind]]
            step = statistics.median(steps)
            lines.append(f"| {name} | {step:.2f} | {min(steps):.2f} to {max(steps):.2f} | {1e3 * result['batch'] / step:.1f} |")
        step = simulation["step_us"] / 1e3
        lines += [f"| 2 ranks, simulated | {step:.2f} | | {1e3 * result['batch'] / step:.1f} |",
                  f"| **simulated ÷ measured** | **{result['ratio']:.2f}** | | |", "",
                  f"Of the simulated step: compute {simulation['compute_us'] / 1e3:.2f} ms, waiting for the slower rank "
                  f"{simulation['wait_us'] / 1e3:.2f}, exchange {simulation['exchange_us'] / 1e3:.2f}, additions and update "
                  f"{simulation['rest_us'] / 1e3:.2f}, vote {simulation['host_us'] / 1e3:.2f}. Measured for it: the ring "
                  f"{median(rings, 'bandwidth'):.2f} GB/s after {median(rings, 'latency_us'):.0f} µs, a vote "
                  f"{median(rings, 'vote_us'):.0f} µs, steps that spread by {median(result['runs']['beside'], 'spread'):.1%}.", ""]
    lines.append(f"{data['cpu']}, {data['cores']} cores; median of {data['rounds']} rounds, in turn; {data['date']}, commit "
                 f"{data['commit']}.")
    return "\n".join(lines)


def tables(args):
    text = compare.UNMEASURED
    if os.path.exists(RESULTS):
        with open(RESULTS) as file:
            text = table(json.load(file))
    if not compare.write(args.doc, "measured", text, args.check) and args.check:
        sys.exit(f"{args.doc}: its table is not that of {RESULTS}; run python3 benches/scaling.py --tables")


def find(args):
    args.mlpconv = args.mlpconv or compare.first_of(compare.target("release/mlpconv"), os.path.join(ROOT, ".gpu/bin/mlpconv"))
    if not args.mlpconv:
        sys.exit("mlpconv is not built: cargo build --release --bin mlpconv, or name it with --mlpconv")


def simulations(args):
    for marker, options in SIMULATED.items():
        said = compare.run([args.mlpconv, "scaling", *options])[0].rstrip("\n")
        compare.write(args.doc, marker, f"```text\n$ mlpconv {' '.join(['scaling', *options])}\n{said}\n```")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--rounds", type=int, default=5)
    ap.add_argument("--steps", type=int, help="of each run (90; of d2l 24)")
    ap.add_argument("--presets", type=lambda text: text.split(","), default=list(PRESETS))
    ap.add_argument("--mlpconv", metavar="FILE", help="the program")
    ap.add_argument("--commit", default=compare.commit(), help="what was built, where git cannot tell")
    ap.add_argument("--doc", metavar="FILE", default=DOC)
    ap.add_argument("--record", action="store_true", help="write benches/results/scaling.json, and the table of docs/scaling.md")
    ap.add_argument("--simulated", action="store_true", help="measure nothing: the simulated tables of docs/scaling.md")
    ap.add_argument("--tables", action="store_true", help="measure nothing: the measured table from benches/results/")
    ap.add_argument("--check", action="store_true", help="with --tables: change nothing, fail if there is a difference")
    args = ap.parse_args()
    if args.tables:
        return tables(args)
    find(args)
    if args.simulated:
        return simulations(args)
    if not args.commit:
        sys.exit("git cannot tell what was built here: say --commit")
    data = measure(args)
    print(table(data))
    wrong = [f"{preset}: simulated / measured is {result['ratio']:.2f}, further from 1 than {LIMIT}"
             for preset, result in data["presets"].items() if abs(result["ratio"] - 1) > LIMIT]
    if wrong:
        sys.exit("\n".join(wrong))
    if args.record:
        with open(RESULTS, "w") as file:
            json.dump(data, file, indent=1)
            file.write("\n")
        compare.write(args.doc, "measured", table(data))


if __name__ == "__main__":
    main()
