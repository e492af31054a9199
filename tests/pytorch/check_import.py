"""Saves preset small's network as PyTorch makes it, imports it by `mlpconv import`, and compares the logits.

Run from the repository's root, with tests/pytorch/requirements.txt installed and cargo in reach:

    python tests/pytorch/check_import.py

The state dict is saved in several ways: in fp32, under `state_dict` with DataParallel's prefix, with its tensors in
another order of memory, and in bf16, whose logits are compared with those of the rounded weights. Fails where a logit
differs by more than the tolerance.
"""

import pathlib
import subprocess
import sys
import tempfile

import torch

import check_weights
import torch_nin

# Each logit comes through twelve layers of float32 sums, which the two add in another order.
TOLERANCE = 1e-5
IMAGES = 16
SIZE = 28


def channels_last(tensor):
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def main():
    torch.manual_seed(0)
    net = torch_nin.small().eval()
    state = net.state_dict()
    rounded = {name: tensor.bfloat16() for name, tensor in state.items()}
    files = {
        "fp32": (state, state),
        "wrapped": ({"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, state),
        "channels-last": ({name: channels_last(tensor) for name, tensor in state.items()}, state),
        "bf16": (rounded, {name: tensor.float() for name, tensor in rounded.items()}),
    }
    x = torch.rand(IMAGES, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    good = True
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for name, (saved, weights) in files.items():
            file, run = folder / f"{name}.pt", folder / name
            torch.save(saved, file)
            command = ["cargo", "run", "--quiet", "--release", "--bin", "mlpconv", "--", "import", file]
            subprocess.run([*command, "--preset", "small", "--out", run], check=True)
            ours = check_weights.logits_of_the_crate(run / "weights.safetensors", x, folder, "small")
            net.load_state_dict(weights)
            with torch.no_grad():
                theirs = net(x)
            difference, largest = (ours - theirs).abs().max().item(), theirs.abs().max().item()
            agrees = ours.shape == theirs.shape and difference <= TOLERANCE and largest > 0
            good &= agrees
            verdict = "good" if agrees else "NOT GOOD"
            print(f"{name}: largest logit {largest:.4g}, largest difference {difference:.3g}: {verdict}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
