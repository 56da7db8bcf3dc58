"""Begin from a published cutout-lite: read the weights of its ONNX file back into the network.

There the normalisation is folded into the convolutions; here it is set to do nothing but add the
convolution's bias, and stays so while the network learns on (`freeze`).
"""

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import nn

from training.networks import LiteNet

PLACES = {"e": "down", "d": "up", "lat": "across", "gp": "attend"}
"""How the first network, trained by scripts of its own, called the parts."""


def _name_here(there: str) -> str:
    """Turn `/m/e.2/e.2.1/a/a.0/Conv` into `down.2.1.first`, the same convolution here."""
    parts = [part for part in there.split("/") if part and part != "Conv"]
    if parts[-1] in {"a.0", "b.0"}:
        kind, *numbers = parts[-3].split(".")
        numbers.append("first" if parts[-1] == "a.0" else "second")
    else:
        kind, *numbers = parts[-1].split(".")
    return ".".join([PLACES.get(kind, kind), *numbers])


def load(network: LiteNet, weights: Path) -> None:
    """Fill `network` from the ONNX file `weights`.

    Raises:
        KeyError: the file's network has another shape.
    """
    graph = onnx.load(str(weights)).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    state = network.state_dict()
    missing = {name.rsplit(".", 1)[0] for name in state if state[name].ndim == 4}
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        name = _name_here(node.name)
        kernel, bias = (torch.tensor(values[each]).float() for each in node.input[1:3])
        state[f"{name}.weight"].copy_(kernel)
        state[_bias_of(name, state)].copy_(bias)
        missing.remove(name)
    if missing:
        raise KeyError(f"the file has no {sorted(missing)}")


def _bias_of(name: str, state: dict[str, torch.Tensor]) -> str:
    if f"{name}.bias" in state:
        return f"{name}.bias"
    if name.endswith(("first", "second")):
        return f"{name}_norm.bias"
    stem, number = name.rsplit(".", 1)
    return f"{stem}.{int(number) + 1}.bias"


def freeze(network: nn.Module) -> None:
    """Keep every normalisation from looking at the batch."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
