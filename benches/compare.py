#!/usr/bin/env python3
"""Compares a training step of mlpconv with PyTorch's: d2l's NiN on the GPU if there is one, else d2l's NiN and `small` on the CPU.

    make compare                                  builds, measures, writes benches/results/ and the README's table
    python3 benches/compare.py                    the same with the programs already built or staged; only prints the table
    python3 benches/compare.py --tables           measures nothing; writes the README's tables from benches/results/
    python3 benches/compare.py --tables --check   fails if the README's tables differ from benches/results/

The programs run alternately, ours and PyTorch's, in several rounds, so that other load on the machine affects all of
them. A figure is the median over the rounds of the program's own median in a round. On a CPU memory is the peak
resident set of the whole process, as the operating system reports it; on a GPU it is the peak of the memory that
tensors hold. The result is the ratios: absolute times belong to one machine on one day.

Our programs are taken from cargo's target folder, or from .gpu/ on a machine without a Rust toolchain; --mlpconv and
--bench name others. PyTorch is the one of the Python that runs this script.
"""
import argparse
import datetime
import glob
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MARKERS = {"cpu": "compare", "gpu": "gpu"}
UNMEASURED = "Not measured yet."
# The networks measured on a CPU, with their batch sizes.
PRESETS = {"d2l": 64, "small": 128}
# Our precisions; PyTorch's modes begin with the name of the precision.
PRECISIONS = ["fp32", "tf32", "bf16"]


# Running the programs.

def first_of(*paths):
    return next((path for path in paths if path and os.path.exists(path)), None)


def target(*parts):
    return os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target")), *parts)


def find_programs(args):
    args.mlpconv = args.mlpconv or first_of(target("release/mlpconv"), os.path.join(ROOT, ".gpu/bin/mlpconv"))
    if not args.mlpconv:
        sys.exit("mlpconv is not built: cargo build --release --bin mlpconv, or name it with --mlpconv")
    if not args.bench:
        built = [path for path in glob.glob(target("release/deps/convolution-*")) if os.access(path, os.X_OK)]
        built.sort(key=os.path.getmtime)
        args.bench = first_of(*built[-1:], os.path.join(ROOT, ".gpu/benches/convolution"))


def run(command, environment=None):
    """Runs a command to its end. Returns its standard output and its peak resident set in bytes."""
    with tempfile.TemporaryFile() as out:
        pid = os.posix_spawnp(command[0], command, {**os.environ, **(environment or {})},
                              file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)])
        _, status, usage = os.wait4(pid, 0)
        out.seek(0)
        text = out.read().decode()
        if status != 0:
            sys.exit(f"{text}\n{' '.join(command)} failed")
        # ru_maxrss is in kilobytes, on macOS in bytes.
        return text, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def batch(args, preset):
    return args.batch or (PRESETS[preset] if args.device == "cpu" else 128)


def steps(args, preset):
    """The steps of a round. On a CPU ten times as many for `small`, whose steps are 50 times as short."""
    if args.device != "cpu":
        return args.steps or 50
    return (args.steps or 4) * (10 if preset == "small" else 1)


def ours(args, precision, options=(), preset="d2l"):
    command = [args.mlpconv, "time", "--preset", preset, "--device", args.device, "--precision", precision, "--json",
               "--batch-size", str(batch(args, preset)), "--steps", str(steps(args, preset)), *options]
    out, rss = run(command, args.threads_told)
    return {**json.loads(out), "rss": rss}


def theirs(args, modes, options=(), preset="d2l"):
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        command = [sys.executable, args.peer, "--device", args.device, "--modes", modes, "--preset", preset,
                   "--batch", str(batch(args, preset)), "--steps", str(steps(args, preset)), "--json", file.name, *options]
        out, rss = run(command, args.threads_told)
        result = json.load(file)
    failed = [line for line in out.splitlines() if " failed: " in line]
    for line in failed:
        print(f"PyTorch: {line}", flush=True)
    if not result["steps"]:
        sys.exit(f"PyTorch's mode {modes} failed")
    return {**result, "failed": failed, "rss": rss}


def convolutions(args):
    """The times of each convolution alone, by our bench; None if the bench is not built."""
    if not args.bench:
        print("the convolutions are left out: their bench is not built (cargo bench --no-run), nor named by --bench")
        return None
    with tempfile.TemporaryDirectory() as folder:
        quick = ["--quick"] if args.quick else []
        environment = {"CARGO_TARGET_DIR": folder, "MLPCONV_BENCH_BATCH": str(args.batch)}
        run([args.bench, "--bench", "^whole", *quick], environment)
        with open(os.path.join(folder, "bench/convolution.json")) as file:
            return json.load(file)


# The machine and the commit.

def git(*args):
    """What git prints; nothing where it is not installed."""
    try:
        return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def commit():
    changed = git("status", "--porcelain", "--", "src", "kernels", "build.rs", "Cargo.toml", "Cargo.lock")
    return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")


def cpu_name():
    try:
        with open("/proc/cpuinfo") as info:
            return next(line.split(":", 1)[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def driver(args):
    """The driver's version, from nvidia-smi, and the CUDA version that it supports."""
    said = subprocess.run([args.mlpconv, "doctor"], capture_output=True, text=True).stdout
    cuda = re.search(r"^driver\s+(CUDA \S+)", said, re.MULTILINE)
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        smi = subprocess.run(query, capture_output=True, text=True)
        version = smi.stdout.split("\n")[0].strip() if smi.returncode == 0 else ""
    except OSError:
        version = ""
    return ", ".join(part for part in (version, cuda and cuda[1]) if part)


def no_gpu(args):
    """The reason why no GPU can be used for the comparison; None if one can."""
    probe = [args.mlpconv, "time", "--preset", "small", "--device", "cuda", "--precision", "fp32", "--batch-size", "1",
             "--steps", "1", "--rounds", "1"]
    mine = subprocess.run(probe, capture_output=True, text=True)
    if mine.returncode != 0:
        return f"mlpconv: {mine.stderr.strip()}"
    if args.modes == ["none"]:
        return None
    ask = [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"]
    sees = subprocess.run(ask, capture_output=True, text=True)
    return None if sees.stdout.strip() == "True" else f"PyTorch sees none {sees.stderr.strip().splitlines()[-1:]}"


# Measuring.

def report(args, i, name, result):
    rss = result["rss"] if args.device == "cpu" else result["peak_bytes"] or 0
    print(f"round {i + 1}/{args.rounds}  {name:24} train {result['train_img_s']:8.1f} img/s  "
          f"infer {result['infer_img_s']:8.1f} img/s  peak {rss / 2**20:6.0f} MiB", flush=True)


def measure_cpu(args):
    programs = ["mlpconv fp32", *(f"PyTorch {mode}" for mode in args.modes)]
    results = {preset: {name: [] for name in programs} for preset in PRESETS}
    version = None
    for i in range(args.rounds):
        for preset, name in itertools.product(PRESETS, programs):
            if name == "mlpconv fp32":
                result = ours(args, "fp32", preset=preset)
            else:
                peer = theirs(args, name.split()[1], preset=preset)
                version = peer["torch"]
                result = {**peer["steps"][0], "rss": peer["rss"]}
            results[preset][name].append({key: result[key] for key in ("train_img_s", "infer_img_s", "rss")})
            report(args, i, f"{preset}, {name}", {**result, "peak_bytes": None})
    return {
        "date": datetime.date.today().isoformat(), "commit": args.commit, "cpu": cpu_name(), "threads": args.threads,
        "torch": version, "rounds": args.rounds, "presets": {
            preset: {"batch": batch(args, preset), "steps": steps(args, preset), "results": results[preset]}
            for preset in PRESETS},
    }


def summary(results):
    def spread(values):
        return {"median": statistics.median(values), "least": min(values), "most": max(values), "n": len(values)}
    keys = ("train_img_s", "infer_img_s", "peak_bytes")
    return {key: spread([r[key] for r in results]) for key in keys if all(r[key] is not None for r in results)}


def agree(args, data, **here):
    """Fails if the measurements that --add goes on with were taken in another way than `here`."""
    for key, value in here.items():
        if data.setdefault(key, value) != value:
            sys.exit(f"{args.add} has the {key} {data[key]}, this run {value}: they do not go into one table")


def measure_gpu(args):
    if args.add:
        with open(args.add) as file:
            data = json.load(file)
    else:
        data = {"date": datetime.date.today().isoformat(), "torch": None, "rounds": 0, "results": {}, "summary": {},
                "bench": convolutions(args), "peer_convs": None, "peer_ceilings": None, "peer_failed": []}
    agree(args, data, commit=args.commit, driver=driver(args), batch=args.batch, steps=args.steps)
    before = data["rounds"]
    args.rounds += before
    for i in range(before, args.rounds):
        new = {f"mlpconv {precision}": ours(args, precision, ["--rounds", "3"]) for precision in PRECISIONS}
        # The device's name from mlpconv, without ordinal and precision.
        agree(args, data, device=new["mlpconv fp32"]["device"].split(", ", 1)[1].rsplit(", ", 1)[0])
        data["interpreter"] = "Virtual GPU" in data["device"]
        if data["interpreter"] and args.record:
            sys.exit("timings of an interpreter are not recorded")
        if args.modes != ["none"]:
            # Ceilings and convolutions do not change between rounds: only the first one measures them.
            first = data["torch"] is None
            peer = theirs(args, ",".join(args.modes), ["--ceilings", "--convs"] if first else [])
            new.update({f"PyTorch {step['mode']}": step for step in peer["steps"]})
            data["torch"] = data["torch"] or peer["torch"]
            agree(args, data, torch=peer["torch"])
            data["peer_failed"] += peer["failed"]
            if first:
                data["peer_convs"], data["peer_ceilings"] = peer.get("convs"), peer.get("ceilings")
        for name, result in new.items():
            data["results"].setdefault(name, []).append({**result, "round": i})
            report(args, i, name, {"rss": 0, **result})
        data["rounds"] = i + 1
        data["summary"] = {name: summary(results) for name, results in data["results"].items()}
        # Saved after each round, so that an interruption does not lose all of them.
        save(args, data)
    return data


def save(args, data):
    if args.json:
        os.makedirs(os.path.dirname(args.json) or ".", exist_ok=True)
        with open(args.json, "w") as file:
            json.dump(data, file, indent=1)
            file.write("\n")


# Tables.

def median(results, key):
    return statistics.median(r[key] for r in results)


def steps_table(data, memory, digits):
    """A row for each program; PyTorch's rows follow ours of the same precision."""
    results = data["results"]

    def spread(name, key):
        values = [r[key] for r in results[name]]
        return f"{min(values):.{digits}f} to {max(values):.{digits}f}"

    lines = ["| | training, images/s | (range) | ours ÷ theirs | inference, images/s | ours ÷ theirs "
             "| peak memory | ours ÷ theirs |", "|---|---:|---:|---:|---:|---:|---:|---:|"]
    named = [name for name in results if name.startswith("mlpconv ")]
    rows = [name for mine in named for name in [mine] + [
        other for other in results if other.startswith("PyTorch " + mine.split()[1])]]
    for name in rows:
        mine = "mlpconv " + name.split()[1].split("-")[0]

        def ratio(key):
            return "" if name == mine else f"**{median(results[mine], key) / median(results[name], key):.2f}**"
        lines.append(f"| {name} | {median(results[name], 'train_img_s'):.{digits}f} "
                     f"| {spread(name, 'train_img_s')} | {ratio('train_img_s')} "
                     f"| {median(results[name], 'infer_img_s'):.{digits}f} | {ratio('infer_img_s')} "
                     f"| {median(results[name], memory) / 2**20:.0f} MiB | {ratio(memory)} |")
    return lines


def cpu_table(data):
    lines = []
    for preset, measured in data["presets"].items():
        what = {"d2l": "d2l's NiN at 224×224", "small": "`small` at 28×28"}[preset]
        lines += [f"{what}, batch {measured['batch']}:", "", *steps_table(measured, "rss", 1 if preset == "d2l" else 0), ""]
    numbers = " and ".join(str(measured["steps"]) for measured in data["presets"].values())
    note = (f"{data['cpu']}, {data['threads']} threads; PyTorch {data['torch']} (`fp32` is its default layout, `fp32-cl` "
            f"channels_last); median of {data['rounds']} rounds of {numbers} steps, in turn; memory is the whole "
            f"process's, libraries included; {data['date']}, commit {data['commit']}.")
    return "\n".join([*lines, note])


def conv_table(data):
    """The times of each convolution alone, ours beside PyTorch's, in the precisions that both have."""
    key = {"bfloat16": "bf16", "float32": "tf32", "fwd": "fprop"}
    peers = {(r["conv"].split()[0], key.get(r["pass"], r["pass"]), key[r["dtype"]]): r["us"]
             for r in data["peer_convs"] or []}
    rows = {}
    for r in (r for r in data["bench"]["rows"] if r["group"] == "whole"):
        rows.setdefault((r["case"], r["pass"]), {})[r["precision"]] = r
    lines = ["| convolution | pass | fp32, µs | of the floor | tf32, µs | of the floor | PyTorch | ours ÷ theirs "
             "| bf16, µs | of the floor | PyTorch | ours ÷ theirs |", "|---|---|" + "---:|" * 10]
    for (case, kind), measured in rows.items():
        cells = []
        for precision in PRECISIONS:
            mine = measured.get(precision)
            share = mine and mine["share"]
            cells += [f"{mine['us']:.1f}" if mine else "", f"{share:.0%}" if share else ""]
            if precision != "fp32":
                theirs_us = peers.get((case.split()[0].replace("pointwise", "pw"), kind, precision))
                cells += [f"{theirs_us:.1f}", f"**{theirs_us / mine['us']:.2f}**"] if mine and theirs_us else ["", ""]
        lines.append(f"| {case} | {kind} | " + " | ".join(cells) + " |")
    return lines


def gpu_table(data):
    # With --add some modes have fewer rounds than others.
    counts = sorted({len(results) for results in data["results"].values()})
    rounds = " to ".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]]))
    note = (f"{data['device']}, driver {data['driver']}; batch {data['batch']} at 224×224; "
            f"PyTorch {data['torch']} (`-cl`: channels_last, `-compile`: torch.compile with "
            f"max-autotune); median of {rounds} rounds of "
            f"{data['steps']} steps, in turn; ours leaves out the pixels that no pool reads; "
            f"memory is what tensors hold at most; {data['date']}, commit {data['commit']}.")
    lines = [*steps_table(data, "peak_bytes", 0), "", note]
    if data["bench"]:
        what = ("The convolutions alone, GPU time; \"ours ÷ theirs\" is of speeds. Ours have bias, ReLU, its mask and "
                "the bias's gradient in them, PyTorch's have not; all pixels are computed. The floor is the larger of "
                "FLOPs and bytes at the card's peak rates; what lies in the card's cache can beat it.")
        lines += ["", what, "", *conv_table(data)]
    if data["interpreter"]:
        lines = ["THE DEVICE IS AN INTERPRETER: these times say nothing about any kernel.", "", *lines]
    return "\n".join(lines)


def write(path, marker, text, check=False):
    """Writes a text between its markers. Returns whether the file had it already."""
    begin, end = (f"<!-- {marker}: {which} -->" for which in ("begin", "end"))
    with open(path) as file:
        old = file.read()
    before, rest = old.split(begin)
    new = f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"
    if new != old and not check:
        with open(path, "w") as file:
            file.write(new)
    return new == old


def write_readme(path, kind, data, check=False):
    """Writes a table between its markers. Returns whether the file had it already."""
    if data is None:
        text = UNMEASURED
    elif data.get("interpreter"):
        sys.exit("timings of an interpreter do not go into the README")
    else:
        text = gpu_table(data) if kind == "gpu" else cpu_table(data)
    return write(path, MARKERS[kind], text, check)


def tables(args):
    readme = args.readme or os.path.join(ROOT, "README.md")
    same = True
    for kind in MARKERS:
        path = first_of(os.path.join(ROOT, "benches/results", f"{kind}.json"))
        data = None
        if path:
            with open(path) as file:
                data = json.load(file)
        same &= write_readme(readme, kind, data, args.check)
    if args.check and not same:
        sys.exit(f"{readme}: its tables are not those of benches/results/; run python3 benches/compare.py --tables")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    ap.add_argument("--batch", type=int, help="images a batch (128; of d2l's NiN on a CPU 64)")
    ap.add_argument("--steps", type=int,
                    help="timed steps a round, after some to warm up (50; on a CPU 4, and ten times as many of small)")
    ap.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU")
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--modes", type=lambda text: text.split(","), help="PyTorch's, or all; none: ours alone, on a GPU")
    ap.add_argument("--quick", action="store_true", help="less time on each convolution")
    ap.add_argument("--mlpconv", metavar="FILE", help="the program")
    ap.add_argument("--bench", metavar="FILE", help="the bench of the convolutions")
    ap.add_argument("--peer", metavar="FILE", default=os.path.join(ROOT, "tests/pytorch/torch_nin.py"))
    ap.add_argument("--commit", default=commit(), help="what was built, where git cannot tell")
    ap.add_argument("--json", metavar="FILE", help="write the measurements")
    ap.add_argument("--add", metavar="FILE", help="go on with a GPU's measurements: more rounds, or other modes")
    ap.add_argument("--record", action="store_true", help="write them to benches/results/, and the README's table")
    ap.add_argument("--readme", metavar="FILE", help="put the table between this file's markers")
    ap.add_argument("--tables", action="store_true", help="measure nothing: all tables from benches/results/")
    ap.add_argument("--check", action="store_true", help="with --tables: change nothing, fail if there is a difference")
    args = ap.parse_args()
    if args.tables:
        return tables(args)

    find_programs(args)
    if args.device == "auto":
        why = no_gpu(args)
        args.device = "cpu" if why else "cuda"
        print(f"on the {'CPU, since there is no GPU to compare on: ' + why if why else 'GPU'}", flush=True)
    kind = "cpu" if args.device == "cpu" else "gpu"
    gpu = kind == "gpu"
    if not args.commit:
        sys.exit("git cannot tell what was built here: say --commit")
    if args.add and not gpu:
        sys.exit("--add goes on with a GPU's measurements, and this run is on the CPU")
    if gpu:
        args.batch, args.steps = batch(args, "d2l"), steps(args, "d2l")
    args.modes = args.modes or (["all"] if gpu else ["fp32", "fp32-cl"])
    # By default PyTorch uses one thread a core and rayon one a hardware thread, so both are set.
    args.threads_told = {} if gpu else {"OMP_NUM_THREADS": str(args.threads), "RAYON_NUM_THREADS": str(args.threads)}
    if args.record:
        args.json = args.json or os.path.join(ROOT, "benches/results", f"{kind}.json")
        args.readme = args.readme or os.path.join(ROOT, "README.md")
    data = measure_gpu(args) if gpu else measure_cpu(args)
    save(args, data)
    print(gpu_table(data) if gpu else cpu_table(data))
    if args.readme:
        write_readme(args.readme, kind, data)


if __name__ == "__main__":
    main()
