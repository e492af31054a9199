#!/usr/bin/env python3
"""Exports networks, runs the files in onnxruntime and PyTorch, and compares the logits with the engine's.

    make export-check
    python tests/export/check.py target/release

The folder has the program mlpconv and examples/logits. Each network is trained for a step, so that no parameter is as
it was drawn. Fails where a checker refuses a file, or a logit differs by more than the tolerance.
"""
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy
import onnx
import onnxruntime
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

# Each logit comes through twelve layers of float32 sums, which the engines add in another order.
TOLERANCE = 1e-5
# Preset, side of the images, batches.
CASES = [("small", 28, [1, 128]), ("tuned", 28, [1, 128]), ("d2l", 224, [8])]


def engine(folder, preset, weights, x):
    """The logits of the engine."""
    images, out = weights.with_name("images.safetensors"), weights.with_name("logits.safetensors")
    save_file({"x": x}, images)
    subprocess.run([folder / "examples" / "logits", preset, weights, images, out], check=True)
    return load_file(out)["logits"]


def module(path):
    """The exported Python file, imported."""
    spec = importlib.util.spec_from_file_location("exported", path)
    exported = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(exported)
    return exported


def agree(what, ours, theirs):
    difference, largest = numpy.abs(ours - theirs).max(), numpy.abs(ours).max()
    good = ours.shape == theirs.shape and difference <= TOLERANCE and largest > 0
    print(f"{what}: largest logit {largest:.4g}, largest difference {difference:.3g}: {'good' if good else 'NOT GOOD'}")
    return good


def check(binaries, folder, preset, side, batches):
    run, files = folder / "run", {name: folder / f"net.{name}" for name in ["onnx", "safetensors", "py"]}
    sizes = "--epochs 1 --train-limit 8 --test-limit 4 --batch-size 8 --lr 0.001".split()
    train = [binaries / "mlpconv", "train", "--device", "cpu", "--preset", preset, *sizes, "--out", run]
    subprocess.run(train, check=True, stdout=subprocess.DEVNULL)
    export = [binaries / "mlpconv", "export", run, "--onnx", files["onnx"], "--safetensors", files["safetensors"]]
    subprocess.run([*export, "--torch-py", files["py"], "--npy", folder / "npy"], check=True)

    model = onnx.load(files["onnx"])
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["preset"] == preset and json.loads(facts["input_size"]) == [side, side], facts
    exported = module(files["py"])
    assert exported.CLASSES == json.loads(facts["classes"]) and len(exported.CLASSES) == 10, exported.CLASSES

    weights = load_file(files["safetensors"])
    arrays = {path.name.removesuffix(".npy"): numpy.load(path) for path in (folder / "npy").iterdir()}
    initializers = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for others in [arrays, initializers]:
        assert others.keys() == weights.keys()
        assert all(numpy.array_equal(others[name], values) for name, values in weights.items())

    session = onnxruntime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    net = exported.Net().eval()
    net.load_state_dict(load_torch(files["safetensors"]), strict=True)
    good = True
    for batch in batches:
        levels = numpy.random.default_rng(batch).integers(0, 256, (batch, 1, side, side), dtype=numpy.uint8)
        x = exported.normalize(torch.from_numpy(levels))
        ours = engine(binaries, preset, files["safetensors"], x.numpy())
        with torch.no_grad():
            theirs = net(x).numpy()
        good &= agree(f"{preset}, batch {batch}, PyTorch", ours, theirs)
        (theirs,) = session.run(["logits"], {"images": x.numpy()})
        good &= agree(f"{preset}, batch {batch}, onnxruntime", ours, theirs)
    return good


def main():
    binaries = pathlib.Path(sys.argv[1]).resolve()
    good = True
    for preset, side, batches in CASES:
        with tempfile.TemporaryDirectory() as folder:
            good &= check(binaries, pathlib.Path(folder), preset, side, batches)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
