"""Writes tests/fixtures/parity/: a narrow d2l NiN as PyTorch computes it, for tests/parity.rs to compare with.

Run from the repository's root, with tests/pytorch/requirements.txt installed:

    python tests/pytorch/make_parity_fixture.py

The network is the peer's (torch_nin.py) without dropout, narrow enough that its numbers can be committed. The images
are small too, but not so small that the global average would see a single pixel: 112 pixels leave it 2x2 of them.
"""

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

README = f"""# A narrow NiN, as PyTorch computes it

`nin-12-20-28.safetensors` is written by `python tests/pytorch/make_parity_fixture.py` (on {{date}} with PyTorch
{torch.__version__}, its CPU backend on one thread, numpy {numpy.__version__}, safetensors {safetensors.__version__},
Python {platform.python_version()}). All numbers come from `torch.manual_seed(0)`; no data set. `tests/parity.rs` reads it.

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

`cifar.json` is written by `python tests/pytorch/make_cifar_fixture.py` (PyTorch's version is in it): logits, loss, and of
each parameter's gradient the sum, the norm and some values, of a step of the preset `cifar` on weights and images that come
from a formula.
"""


def main():
    # Sums must not depend on how many cores share them.
    torch.set_num_threads(1)
    folder = pathlib.Path("tests/fixtures/parity")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as dump:
        torch_nin.dump(dump, SIZE, BATCH, STEPS, CHANNELS)
        tensors = {file.stem: numpy.load(file) for file in sorted(pathlib.Path(dump).glob("*.npy"))}
    # A gradient that is zero everywhere would agree with anything.
    for name, values in tensors.items():
        assert numpy.isfinite(values).all() and numpy.abs(values).max() > 0, name
    safetensors.numpy.save_file(tensors, folder / "nin-12-20-28.safetensors")
    (folder / "README.md").write_text(README.format(date=time.strftime("%Y-%m-%d")))


if __name__ == "__main__":
    main()
