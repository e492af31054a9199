#!/usr/bin/env python3
"""One training step of d2l's NiN, ours and PyTorch's, side by side on this machine's CPU.

    make compare                       (or: python3 benches/compare.py, with PyTorch installed)

The programs run in turn, ours and each of PyTorch's modes, several times over, so that whatever else the machine does
falls on all of them. A figure is the median over the rounds; of a round, the program's own median over its
steps. Memory is the peak resident set of the whole process, as the operating system counts it. The ratios are the
result: absolute times belong to one machine on one day.
"""
import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BEGIN, END = "<!-- compare: begin -->", "<!-- compare: end -->"


def run(args, command):
    """Runs a command to its end: its standard output, and its peak resident set in bytes."""
    # PyTorch counts cores, rayon hardware threads: both are told.
    threads = {"OMP_NUM_THREADS": str(args.threads), "RAYON_NUM_THREADS": str(args.threads)}
    with tempfile.TemporaryFile() as out:
        pid = os.posix_spawnp(command[0], command, {**os.environ, **threads}, file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)])
        _, status, usage = os.wait4(pid, 0)
        if status != 0:
            sys.exit(f"{' '.join(command)} failed")
        out.seek(0)
        # In kilobytes, but for macOS, which counts bytes.
        return out.read().decode(), usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def ours(args):
    command = [os.path.join(ROOT, "target/release/mlpconv"), "time", "--preset", "d2l", "--device", "cpu", "--json",
               "--batch-size", str(args.batch), "--steps", str(args.steps)]
    out, rss = run(args, command)
    return {**json.loads(out), "rss": rss}


def theirs(args, mode):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, os.path.join(ROOT, "tests/pytorch/torch_nin.py"), "--device", "cpu", "--modes", mode,
                   "--batch", str(args.batch), "--steps", str(args.steps), "--json", file.name]
        _, rss = run(args, command)
        result = json.load(file)
    if not result["steps"]:
        sys.exit(f"PyTorch's mode {mode} failed")
    return {**result["steps"][0], "rss": rss, "torch": result["torch"]}


def cpu_name():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def git(*args):
    return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True).stdout.strip()


def measure(args):
    rounds = {"mlpconv fp32": [], **{f"PyTorch {mode}": [] for mode in args.modes}}
    for i in range(args.rounds):
        for name, results in rounds.items():
            results.append(ours(args) if name == "mlpconv fp32" else theirs(args, name.split()[1]))
            last = results[-1]
            print(f"round {i + 1}/{args.rounds}  {name:18} train {last['train_img_s']:6.1f} img/s  "
                  f"infer {last['infer_img_s']:6.1f} img/s  peak {last['rss'] / 2**20:6.0f} MiB", flush=True)
    peer = rounds[f"PyTorch {args.modes[0]}"][0]
    commit = git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "src", "Cargo.lock") else "")
    return {
        "date": datetime.date.today().isoformat(), "commit": commit, "cpu": cpu_name(), "threads": args.threads,
        "torch": peer["torch"], "batch": args.batch, "rounds": args.rounds, "steps": args.steps,
        "results": {name: [{key: r[key] for key in ("train_img_s", "infer_img_s", "rss")} for r in results]
                    for name, results in rounds.items()},
    }


def table(data):
    def median(name, key):
        return statistics.median(r[key] for r in data["results"][name])

    def spread(name, key):
        values = [r[key] for r in data["results"][name]]
        return f"{min(values):.1f} to {max(values):.1f}"

    mine = "mlpconv fp32"
    lines = ["| | training, images/s | (range) | ours ÷ theirs | inference, images/s | ours ÷ theirs | peak memory | ours ÷ theirs |",
             "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for name in data["results"]:
        def ratio(key):
            return "" if name == mine else f"**{median(mine, key) / median(name, key):.2f}**"
        lines.append(f"| {name} | {median(name, 'train_img_s'):.1f} | {spread(name, 'train_img_s')} | {ratio('train_img_s')} "
                     f"| {median(name, 'infer_img_s'):.1f} | {ratio('infer_img_s')} "
                     f"| {median(name, 'rss') / 2**20:.0f} MiB | {ratio('rss')} |")
    lines.append("")
    lines.append(f"{data['cpu']}, {data['threads']} threads; batch {data['batch']} at 224×224; PyTorch {data['torch']} "
                 f"(`fp32` is its default layout, `fp32-cl` channels_last); median of {data['rounds']} rounds of "
                 f"{data['steps']} steps, in turn; memory is the whole process's, libraries included; {data['date']}, commit {data['commit']}.")
    return "\n".join(lines)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--batch", type=int, default=64)
    ap.add_argument("--steps", type=int, default=4, help="timed steps a round, after one to warm up")
    ap.add_argument("--threads", type=int, default=os.cpu_count())
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--modes", type=lambda text: text.split(","), default=["fp32", "fp32-cl"])
    ap.add_argument("--json", metavar="FILE", help="write the measurements")
    ap.add_argument("--from-json", metavar="FILE", help="measure nothing: use what an earlier run wrote")
    ap.add_argument("--readme", metavar="FILE", help="put the table between this file's markers")
    args = ap.parse_args()
    if args.from_json:
        with open(args.from_json) as file:
            data = json.load(file)
    else:
        data = measure(args)
    if args.json:
        os.makedirs(os.path.dirname(args.json) or ".", exist_ok=True)
        with open(args.json, "w") as file:
            json.dump(data, file, indent=1)
            file.write("\n")
    text = table(data)
    print(text)
    if args.readme:
        with open(args.readme) as file:
            before, rest = file.read().split(BEGIN)
        after = rest.split(END)[1]
        with open(args.readme, "w") as file:
            file.write(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    main()
