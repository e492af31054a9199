"""Runs cudarc's own tests of the driver and of NVRTC under the virtual GPU: `make peer-tests`.

It fails unless exactly the tests listed in cudarc.txt do not pass, and at least LEAST pass.
"""

import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys

LEAST = 54
FEATURES = "std,driver,nvrtc,f16,fallback-dynamic-loading,cuda-12090"
CARGO = os.environ.get("CARGO", "cargo")
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PEERS = ROOT / "target/peers"


def output(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def source():
    """A copy of cudarc at the version of Cargo.lock, in a workspace of its own."""
    host = next(line.split()[1] for line in output("rustc", "-vV").splitlines() if line.startswith("host: "))
    # Only this platform's packages are downloaded.
    metadata = output(CARGO, "metadata", "--format-version", "1", "--locked", "--filter-platform", host, cwd=ROOT)
    metadata = json.loads(metadata)
    found = [package for package in metadata["packages"] if package["name"] == "cudarc"]
    copy = PEERS / "cudarc"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(pathlib.Path(found[0]["manifest_path"]).parent, copy)
    with open(copy / "Cargo.toml", "a") as manifest:
        manifest.write("\n[workspace]\n")
    # One test names the folder of CUDA's headers in its source.
    headers = installed("cuda_runtime/include")
    launch = copy / "src/driver/safe/launch.rs"
    text = launch.read_text()
    assert '"/usr/include"' in text, "cudarc's test of halves includes another folder than it did"
    launch.write_text(text.replace('"/usr/include"', json.dumps(headers)))
    print(f"cudarc {found[0]['version']}")
    return copy


def installed(folder):
    (found,) = glob.glob(str(PEERS / "venv/lib/python3*/site-packages/nvidia" / folder))
    return found


def build(copy):
    messages = output(
        CARGO, "test", "--lib", "--no-run", "--locked", "--no-default-features", "--features", FEATURES,
        "--message-format", "json", "--target-dir", str(PEERS / "target"), cwd=copy)
    built = [json.loads(line).get("executable") for line in messages.splitlines() if line.startswith("{")]
    return next(path for path in built if path)


def environment():
    """The names by which programs look up the driver and NVRTC, in one folder."""
    names = PEERS / "lib"
    shutil.rmtree(names, ignore_errors=True)
    names.mkdir(parents=True)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    nvrtc = installed("cuda_nvrtc/lib")
    library = (ROOT / target).resolve() / "debug/libvirtual_gpu.so"
    assert library.exists(), f"{library} is missing"
    for name in ["libcuda.so", "libcuda.so.1"]:
        (names / name).symlink_to(library)
    (names / "libnvrtc.so").symlink_to(pathlib.Path(nvrtc) / "libnvrtc.so.12")
    return {**os.environ, "LD_LIBRARY_PATH": f"{names}:{nvrtc}", "RUST_BACKTRACE": "0", "VIRTUAL_GPU_DEVICES": "2"}


def listed():
    tests = {}
    for line in (HERE / "cudarc.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            verdict, rest = line.split(" ", 1)
            name, _, reason = rest.partition(": ")
            assert verdict in ("fails", "chance") and reason, f"cudarc.txt: {line}"
            tests[name] = (verdict, reason)
    return tests


def names(tests, env, *options):
    lines = output(tests, "--list", "--format", "terse", *options, env=env).splitlines()
    return [line.removesuffix(": test") for line in lines if line.endswith(": test")]


def run(tests, env, *options):
    """The result of each test, and what the process said."""
    done = subprocess.run([tests, *options], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    results = {}
    for line in done.stdout.splitlines():
        head, separator, result = line.rpartition(" ... ")
        if separator and head.startswith("test "):
            results[head.removeprefix("test ").removesuffix(" - should panic")] = result == "ok"
    return results, done.stderr + done.stdout


def main():
    tests, env, known = build(source()), environment(), listed()
    every, alone = names(tests, env, "--include-ignored"), names(tests, env, "--ignored")
    unknown = sorted(known.keys() - set(every))
    chance = [name for name, (verdict, _) in known.items() if verdict == "chance"]
    skips = [word for name in chance for word in ("--skip", name)]
    results, said = run(tests, env, *skips)
    # Ignored tests need a process of their own, or several devices.
    for name in alone:
        own, more = run(tests, env, "--exact", name, "--include-ignored")
        results.update(own)
        said += more
    passed = {name for name, ok in results.items() if ok}
    wrong = [f"{name}: listed, and not a test of cudarc" for name in unknown]
    for name in every:
        verdict, reason = known.get(name, (None, None))
        if verdict is None and name not in passed:
            wrong.append(f"{name}: does not pass")
        if verdict == "fails" and name in passed:
            wrong.append(f"{name}: passes, and is listed: {reason}")
        if verdict:
            print(f"{'not run' if verdict == 'chance' else 'fails'}: {name}: {reason}")
    print(f"{len(passed)} of {len(every)} tests of cudarc pass")
    if len(passed) < LEAST:
        wrong.append(f"only {len(passed)} tests pass: at least {LEAST} must")
    if wrong:
        sys.exit(said + "\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
