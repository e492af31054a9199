"""Writes tests/fixtures/parity/cifar.json: a training step of the preset `cifar` as PyTorch computes it, for tests/parity.

Run from the repository's root, with tests/pytorch/requirements.txt installed:

    python tests/pytorch/make_cifar_fixture.py

The network is the paper's (arXiv 1312.4400) at its own size, without dropout. Its weights and images are too large to
commit. Both sides compute them by a formula: element i of tensor t, in PyTorch's order, is uniform noise of 24 bits,
`noise` below. The file has the logits, the loss, and of each parameter's gradient the sum, the Euclidean norm, and the
values at the indices of `places`. PyTorch computes in double precision on numbers that are rounded to float32.
"""

import json
import math
import pathlib

import numpy
import torch
from torch import nn

BATCH, SIZE = 2, 32
LABELS = [3, 8]
SAMPLES = 32


def noise(tensor, count):
    """`count` numbers in [-1, 1): multiples of 2^-23."""
    word = numpy.arange(count, dtype=numpy.uint32) + numpy.uint32(tensor * 0x9E3779B9 % 2**32)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        word = (word ^ (word >> numpy.uint32(shift))) * numpy.uint32(factor)
    word ^= word >> numpy.uint32(16)
    return (word >> numpy.uint32(8)).astype(numpy.float64) / 2.0**23 - 1.0


def rounded(values, shape):
    return torch.from_numpy(values.astype(numpy.float32).astype(numpy.float64).reshape(shape))


def places(count):
    # The step is a prime that divides no extent, so the places cover all taps and channels.
    return [i * 104_729 % count for i in range(min(SAMPLES, count))]


def block(inputs, widths, filter, pad, last_relu=True):
    a, b, c = widths
    layers = [nn.Conv2d(inputs, a, filter, 1, pad), nn.ReLU(), nn.Conv2d(a, b, 1), nn.ReLU(), nn.Conv2d(b, c, 1)]
    return nn.Sequential(*layers, *([nn.ReLU()] if last_relu else []))


def cifar():
    return nn.Sequential(
        block(3, (192, 160, 96), 5, 2), nn.MaxPool2d(3, 2), nn.Dropout(0.0),
        block(96, (192, 192, 192), 5, 2), nn.MaxPool2d(3, 2), nn.Dropout(0.0),
        block(192, (192, 192, 10), 3, 1, last_relu=False), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten())


def main():
    torch.set_num_threads(1)
    net = cifar().double()
    assert sum(p.numel() for p in net.parameters()) == 966_986
    with torch.no_grad():
        for tensor, (name, param) in enumerate(net.named_parameters(), start=1):
            # He's bound for weights. Biases are not zero, so that they are compared too.
            bound = 0.05 if param.dim() == 1 else math.sqrt(6.0 / param[0].numel())
            param.copy_(rounded(bound * noise(tensor, param.numel()), param.shape))
    x = rounded(0.5 + 0.5 * noise(0, BATCH * 3 * SIZE * SIZE), (BATCH, 3, SIZE, SIZE))
    logits = net(x)
    loss = nn.CrossEntropyLoss()(logits, torch.tensor(LABELS))
    loss.backward()
    gradients = {}
    for name, param in net.named_parameters():
        grad = param.grad.flatten()
        assert torch.isfinite(grad).all() and grad.abs().max() > 0, name
        gradients[name] = {
            "sum": grad.sum().item(),
            "norm": grad.norm().item(),
            "values": grad[places(grad.numel())].tolist(),
        }
        assert numpy.count_nonzero(gradients[name]["values"]) > 4, name
    fixture = {
        "torch": torch.__version__,
        "labels": LABELS,
        "logits": logits.flatten().tolist(),
        "loss": loss.item(),
        "gradients": gradients,
    }
    path = pathlib.Path("tests/fixtures/parity/cifar.json")
    path.write_text(json.dumps(fixture, indent=1) + "\n")


if __name__ == "__main__":
    main()
