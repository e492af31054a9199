"""Writes tests/fixtures/parity/: a narrow d2l NiN as PyTorch computes it, for tests/parity to compare with.

Run from the repository's root, with tests/pytorch/requirements.txt installed:

    python tests/pytorch/make_parity_fixture.py            # everything
    python tests/pytorch/make_parity_fixture.py --adamw    # adamw.json alone, from the tensors that are there

The network is the peer's (torch_nin.py) without dropout, narrow enough that its numbers can be committed. The images
are small too, but not so small that the global average would see a single pixel: 112 pixels leave it 2x2 of them.
"""

import argparse
import json
import pathlib
import platform
import tempfile
import time

import numpy
import safetensors.numpy
import torch

import torch_nin

SIZE = 112
BATCH = 2
STEPS = 10
CHANNELS = (12, 20, 28)
# The weight decay is large enough to show in ten steps.
ADAMW = {"lr": 0.002, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1}

README = f"""# A narrow NiN, as PyTorch computes it

`nin-12-20-28.safetensors` is written by `python tests/pytorch/make_parity_fixture.py` (on {{date}} with PyTorch
{torch.__version__}, its CPU backend on one thread, numpy {numpy.__version__}, safetensors {safetensors.__version__},
Python {platform.python_version()}). All numbers come from `torch.manual_seed(0)`; no data set. `tests/parity` reads it.

The network is d2l's with {", ".join(map(str, CHANNELS))} instead of 96, 256, 384 channels and without dropout. All
tensors but `y` are float32, in PyTorch's layouts (images NCHW, weights OIHW).

| tensor         | shape                  | what it is                                                               |
|----------------|------------------------|--------------------------------------------------------------------------|
| `x`            | {BATCH}x1x{SIZE}x{SIZE}            | images, uniform in [0, 1)                                                |
| `y`            | {BATCH}                      | their labels, int64                                                      |
| `param.NAME`   | its parameter's        | the 24 initial parameters: Xavier weights, PyTorch's default biases      |
| `logits`       | {BATCH}x10                   | the network's output for `x` with the initial parameters                 |
| `grad.NAME`    | its parameter's        | gradient of the mean cross-entropy of `logits` and `y` by each parameter |
| `losses`       | {STEPS}                     | the loss before each of {STEPS} steps of SGD on this batch at rate 0.05      |

`adamw.json` has the loss before each of {STEPS} steps of `torch.optim.AdamW` on this batch, from the same parameters, computed in
f64, and the optimiser's settings (`--adamw` writes this file alone, from the tensors that are there).

`cifar.json` is written by `python tests/pytorch/make_cifar_fixture.py` (PyTorch's version is in it): logits, loss, and of
each parameter's gradient the sum, the norm and some values, of a step of the preset `cifar` on weights and images that come
from a formula.
"""


TENSORS = "nin-12-20-28.safetensors"


def adamw(folder):
    tensors = safetensors.numpy.load_file(folder / TENSORS)
    net = torch_nin.nin(0.0, CHANNELS).double()
    net.load_state_dict({name: torch.from_numpy(tensors["param." + name]) for name, _ in net.named_parameters()})
    x, y = torch.from_numpy(tensors["x"]).double(), torch.from_numpy(tensors["y"])
    optimizer = torch.optim.AdamW(net.parameters(), **ADAMW)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], losses
    settings = {"rate": ADAMW["lr"]} | {name: ADAMW[name] for name in ("betas", "eps", "weight_decay")}
    (folder / "adamw.json").write_text(json.dumps(settings | {"losses": losses}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--adamw", action="store_true", help="write adamw.json alone")
    arguments = parser.parse_args()
    # One thread, so that sums do not depend on the number of cores.
    torch.set_num_threads(1)
    folder = pathlib.Path("tests/fixtures/parity")
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.adamw:
        adamw(folder)
        return
    with tempfile.TemporaryDirectory() as dump:
        torch_nin.dump(dump, SIZE, BATCH, STEPS, CHANNELS)
        tensors = {file.stem: numpy.load(file) for file in sorted(pathlib.Path(dump).glob("*.npy"))}
    # A tensor that is zero everywhere would be a useless reference.
    for name, values in tensors.items():
        assert numpy.isfinite(values).all() and numpy.abs(values).max() > 0, name
    safetensors.numpy.save_file(tensors, folder / TENSORS)
    adamw(folder)
    (folder / "README.md").write_text(README.format(date=time.strftime("%Y-%m-%d")))


if __name__ == "__main__":
    main()
