"""Small ONNX files with the signatures of weights that are too large to ship or to fetch here.

They stand in for `u2net`, `u2net_human_seg`, `silueta` (320 px, seven outputs), `isnet-general-use`
(1024 px, seven outputs), `u2net_cloth_seg` (768 px, seven outputs of four classes). Their "network"
is a fixed formula of the picture's brightness, so what comes out can be told beforehand: what is
tested is our reading of the input and output, not a network.
"""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.weights import WEIGHTS

SIDE_OUTPUTS = 6


def install(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a stand-in for the weights of `name` and let the table accept its checksum."""
    path = folder / WEIGHTS[name].file_name
    path.write_bytes(network_like(name))
    checksums = (sha256(path.read_bytes()).hexdigest(),)
    monkeypatch.setattr(
        "core.segmenter.WEIGHTS",
        {**WEIGHTS, name: replace(WEIGHTS[name], checksums=checksums)},
    )
    return path


def network_like(name: str) -> bytes:
    """Build a network with the input, the outputs and the sizes of `name`."""
    weights = WEIGHTS[name]
    side_px, channels = weights.input_px, max(1, len(weights.classes))
    # Channel c scores (c + 1) x red - c x green, so that each colour has a class of its own.
    kernel = np.zeros((channels, 3, 1, 1), np.float32)
    for channel in range(channels):
        kernel[channel, :, 0, 0] = (
            (1, 1, 1) if channels == 1 else np.eye(4, 3, k=-1, dtype=np.float32)[channel]
        )
    nodes = [helper.make_node("Conv", ["input.1", "kernel"], ["score"])]
    nodes.append(helper.make_node("Sigmoid", ["score"], ["1959"]))
    shape = [1, channels, side_px, side_px]
    outputs = [helper.make_tensor_value_info("1959", TensorProto.FLOAT, shape)]
    for side in range(SIDE_OUTPUTS):
        nodes.append(helper.make_node("Neg", ["score"], [str(1960 + side)]))
        outputs.append(helper.make_tensor_value_info(str(1960 + side), TensorProto.FLOAT, shape))
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, side_px, side_px])],
        outputs,
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
