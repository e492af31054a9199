"""Loads weights that `train --preset d2l` saved into PyTorch's own network and compares the logits.

Run from the repository's root, with tests/pytorch/requirements.txt installed and cargo in reach:

    python tests/pytorch/check_weights.py runs/d2l-20260131-120000
    python tests/pytorch/check_weights.py weights.safetensors --logits logits.safetensors

The network is the peer's (torch_nin.py), and it must take every tensor of the file as it is. The images are noise from
a fixed seed; our logits for them come from examples/logits.rs, or from a file that it wrote for the same images.
Prints the largest difference and fails where it is more than the tolerance.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

import torch_nin

# Each logit comes through twelve layers of float32 sums of a few thousand products, which the two add in another order.
TOLERANCE = 1e-4
IMAGES = 4
SIZE = 224


def logits_of_the_crate(weights, x, folder, preset="d2l"):
    images, out = folder / "images.safetensors", folder / "logits.safetensors"
    save_file({"x": x}, images)
    command = ["cargo", "run", "--quiet", "--release", "--example", "logits", "--", preset, weights, images, out]
    subprocess.run(command, check=True)
    return load_file(out)["logits"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", metavar="RUN_OR_FILE", type=pathlib.Path)
    parser.add_argument("--logits", metavar="FILE", type=pathlib.Path, help="compare with these instead of running us")
    args = parser.parse_args()
    weights = args.weights / "weights.safetensors" if args.weights.is_dir() else args.weights

    net = torch_nin.nin(0.5).eval()
    net.load_state_dict(load_file(weights), strict=True)
    x = torch.rand(IMAGES, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = net(x)
    if args.logits:
        ours = load_file(args.logits)["logits"]
    else:
        with tempfile.TemporaryDirectory() as folder:
            ours = logits_of_the_crate(weights, x, pathlib.Path(folder))

    if ours.shape != theirs.shape:
        sys.exit(f"our logits are {tuple(ours.shape)}, PyTorch's {tuple(theirs.shape)}")
    difference = (ours - theirs).abs().max().item()
    # A dead network's logits are all zero and would agree with any weights.
    largest = theirs.abs().max().item()
    good = difference <= TOLERANCE and largest > 0
    print(
        f"{weights}: {len(net.state_dict())} tensors loaded; {IMAGES} images, largest logit {largest:.4g}, "
        f"largest difference {difference:.3g}, at most {TOLERANCE} allowed: {'good' if good else 'NOT GOOD'}"
    )
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
