"""Writes tests/fixtures/pytorch/: files of torch.save as programs write them, which `tests/parity` loads.

Run from the repository's root, with tests/pytorch/requirements.txt installed:

    python tests/pytorch/make_pt_fixtures.py

The network is that of tests/fixtures/weights, one 3x3 convolution from 1 to 2 channels, `0` of a
`torch.nn.Sequential`. Each value is a quarter of a whole number, exact in every type: element i of the weights is
(i - 9) / 4, element i of the bias is i + 1.
"""

import pathlib
import platform
import time

import torch
from torch import nn

FOLDER = pathlib.Path("tests/fixtures/pytorch")
WEIGHT = torch.tensor([(i - 9) / 4 for i in range(18)]).reshape(2, 1, 3, 3)
BIAS = torch.tensor([1.0, 2.0])

README = f"""# Files of PyTorch

Written by `python tests/pytorch/make_pt_fixtures.py` with PyTorch {torch.__version__}, Python
{platform.python_version()}, on {{date}}. Its head says what they hold. `tests/parity` loads those that hold a state
dict, and asserts that the others are refused.

| file | what is special |
|---|---|
| `f32`, `bf16`, `f16`, `f64` | the type of the elements |
| `protocol-4` | pickled by `pickle_protocol=4`: short texts, memoised one after the other |
| `no-checksums` | saved under `torch.serialization.set_crc32_options(False)`: its records have no checksums |
| `transposed` | the weights are a view with strides in another order, from the third element of their storage on |
| `shared` | weights and bias are views of one storage |
| `data-parallel` | names that begin with `module.`, as PyTorch's `DataParallel` makes them |
| `wrapped` | the state dict is the entry `state_dict`, beside an epoch, a rate and an optimiser's state |
| `parameters` | the entries are `nn.Parameter`, in a plain dictionary |
| `two-wrappers` | state dicts under `model` and under `net`: refused |
| `integers` | the bias is of int64: refused |
| `repeated` | the bias is one element that is repeated by a stride of 0, 100,000 times: refused |
| `whole-module` | the module itself, not its state dict: refused, it would call the module's class |
| `legacy` | the format before PyTorch 1.6: refused |
"""


def module():
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    with torch.no_grad():
        net[0].weight.copy_(WEIGHT)
        net[0].bias.copy_(BIAS)
    return net


def state_dict(dtype=torch.float32, prefix=""):
    return {f"{prefix}0.weight": WEIGHT.to(dtype), f"{prefix}0.bias": BIAS.to(dtype)}


def save(name, contents, **options):
    torch.save(contents, FOLDER / f"{name}.pt", **options)


def transposed():
    backwards = WEIGHT.permute(3, 2, 1, 0).contiguous()
    storage = torch.cat([torch.tensor([100.0, 101.0]), backwards.flatten(), torch.tensor([102.0])])
    weight = storage[2:20].reshape(3, 3, 1, 2).permute(3, 2, 1, 0)
    assert torch.equal(weight, WEIGHT) and not weight.is_contiguous() and weight.storage_offset() == 2
    return {"0.weight": weight, "0.bias": BIAS}


def shared():
    storage = torch.cat([BIAS, WEIGHT.flatten()])
    return {"0.weight": storage[2:].reshape(2, 1, 3, 3), "0.bias": storage[:2]}


def wrapped():
    net = module()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 1, 4, 4)).sum().backward()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    optimizer.step()
    return {"epoch": 3, "rate": 0.1, "best": None, "optimizer": optimizer.state_dict(), "state_dict": before}


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    net = module()
    save("f32", net.state_dict())
    for name, dtype in {"bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64}.items():
        save(name, state_dict(dtype))
    save("protocol-4", net.state_dict(), pickle_protocol=4)
    torch.serialization.set_crc32_options(False)
    save("no-checksums", net.state_dict())
    torch.serialization.set_crc32_options(True)
    save("transposed", transposed())
    save("shared", shared())
    save("data-parallel", nn.DataParallel(net).state_dict())
    save("wrapped", wrapped())
    save("parameters", dict(net.named_parameters()))
    save("two-wrappers", {"model": net.state_dict(), "net": net.state_dict()})
    save("integers", state_dict() | {"0.bias": torch.tensor([1, 2])})
    save("repeated", state_dict() | {"0.bias": torch.ones(1).expand(100_000)})
    save("whole-module", net)
    save("legacy", net.state_dict(), _use_new_zipfile_serialization=False)
    (FOLDER / "README.md").write_text(README.format(date=time.strftime("%Y-%m-%d")))


if __name__ == "__main__":
    main()
