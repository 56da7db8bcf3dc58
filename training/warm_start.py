"""Begin from the published small U²-Net: read the weights of u2netp.onnx into our network.

The file lists its 119 convolutions in the order in which they are computed, the normalisation
folded in; so does `_convolutions`. Where ours convolves before it enlarges, the kernel is halved in
reach.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from training.lite_network import DilatedBlock, Joined, LiteNet, Step, UBlock

Kernels = NDArray[np.float32]

HALF_REACH = np.array(((0.5, 0.0, 0.0), (0.5, 1.0, 0.5), (0.0, 0.0, 0.5)), np.float32)
"""A step of one pixel after enlarging is half a step before it: the mean of staying and going."""


def load(network: LiteNet, weights: Path) -> None:
    """Fill `network` from the ONNX file `weights`.

    Raises:
        ValueError: the file's network has another shape.
    """
    graph = onnx.load(str(weights)).graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    found = [node.input[1:3] for node in graph.node if node.op_type == "Conv"]
    with torch.no_grad():
        for place, (kernel, bias) in zip(_convolutions(network), found, strict=True):
            _fill(place, values[kernel], values[bias])


def _fill(place: nn.Module, kernel: Kernels, bias: Kernels) -> None:
    if isinstance(place, Joined):
        # The published network joins (from below, beside) in this order.
        below, beside = np.split(kernel, 2, axis=1)
        halved = np.einsum("xa,yb,oiab->oixy", HALF_REACH, HALF_REACH, below)
        _copy(place.below, halved, bias)
        place.beside.weight.copy_(torch.tensor(beside))
    elif isinstance(place, nn.Conv2d):
        _copy(place, kernel, bias)


def _copy(place: nn.Conv2d, kernel: Kernels, bias: Kernels) -> None:
    if place.weight.shape != kernel.shape or place.bias is None:
        raise ValueError(f"{tuple(place.weight.shape)} is asked for, the file has {kernel.shape}")
    place.weight.copy_(torch.tensor(kernel))
    place.bias.copy_(torch.tensor(bias))


def _convolutions(network: LiteNet) -> Iterator[nn.Module]:
    """Yield them as the published network computes them; a Joined counts as the one that it was."""
    for stage in network.down:
        yield from _of_block(stage)
    sides = list(network.sides)
    yield sides.pop()
    for stage in network.up:
        yield from _of_block(stage)
        yield sides.pop()
    yield network.fused


def _of_block(block: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(block, UBlock | DilatedBlock):
        raise TypeError(block)
    for step in [block.entry, *block.down, *block.up]:
        yield step[0] if isinstance(step, Step) else step
