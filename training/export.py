"""Write a trained network as ONNX: opset 17, large weights kept as fp16, arithmetic in fp32.

onnxruntime unfolds the fp16 weights when it loads the file, so half the bytes cost no time.
The edge network is so small that it keeps all its digits.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from core.clues import CLUES
from training.edge_network import DrawnEdgeNet, EdgeNet
from training.lite_network import LiteNet
from training.lite_samples import SEEN_PX

OPSET = 17
SMALL_COUNT = 64
"""Tensors of fewer numbers stay fp32: biases and shapes weigh nothing."""
DIFFERENCE_MAX = 0.02
BLOBS = 6
NETWORKS: dict[str, type[nn.Module]] = {"edge": EdgeNet, "drawn": DrawnEdgeNet, "lite": LiteNet}
ORIGIN = (
    "cutout-lite, Apache-2.0. Derived from u2netp (xuebinqin/U-2-Net, Apache-2.0, Copyright 2020 "
    "Xuebin Qin), changed in structure and trained on; docs/models/cutout-lite.md says how."
)


class Delivered(nn.Module):
    """The mask network as it is delivered: what it says lies within 0..1."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Return (N, 1, H, W), 0..1."""
        return torch.sigmoid(self.network(planes))


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """Keep large weights as fp16 and cast them back where they are used."""
    graph, casts = model.graph, []
    for weight in list(graph.initializer):
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < SMALL_COUNT:
            continue
        name = weight.name
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _picture() -> torch.Tensor:
    """Return soft blobs of colour: on noise a network's answer is noise, whatever its digits."""
    blobs = torch.rand(1, 3, BLOBS, BLOBS, generator=torch.Generator().manual_seed(1))
    size_px = (SEEN_PX, SEEN_PX)
    return functional.interpolate(blobs, size_px, mode="bicubic").clamp(0, 1)


def middle(checkpoints: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return the mean of the networks in `checkpoints`.

    Of a network and the same one trained on for something new, the middle keeps more of what the
    first knew and loses little of what the second learnt (Wortsman et al., Robust fine-tuning of
    zero-shot models, CVPR 2022, arXiv:2109.01903).
    """
    states = [torch.load(path, map_location="cpu")["average"] for path in checkpoints]
    return {
        name: torch.stack([state[name] for state in states]).double().mean(0).to(value.dtype)
        for name, value in states[0].items()
    }


def export(name: str, checkpoints: Sequence[Path], out: Path) -> float:
    """Write `out` and return its largest difference from the network itself."""
    network = NETWORKS[name]()
    network.load_state_dict(middle(checkpoints))
    is_edge = name != "lite"
    delivered = (network if is_edge else Delivered(network)).eval()
    given = torch.rand(512, CLUES) if is_edge else _picture()
    source, answer = ("clues", "correction") if is_edge else ("input", "alpha")
    torch.onnx.export(
        delivered,
        (given,),
        str(out),
        opset_version=OPSET,
        input_names=[source],
        output_names=[answer],
        dynamic_axes={source: {0: "pixels"}, answer: {0: "pixels"}} if is_edge else None,
        dynamo=False,
    )
    if name == "lite":
        model = halve(onnx.load(str(out)))
        model.doc_string = ORIGIN
        onnx.save(model, str(out))
    ort_session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    got = ort_session.run([answer], {source: given.numpy()})[0]
    with torch.no_grad():
        return float(np.abs(got - delivered(given).numpy()).max())


def main() -> None:
    """Export."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("network", choices=list(NETWORKS))
    arguments.add_argument("checkpoints", type=Path, nargs="+", help="of several, their mean")
    arguments.add_argument("out", type=Path)
    given = arguments.parse_args()
    difference = export(given.network, given.checkpoints, given.out)
    print(f"{given.out.stat().st_size} bytes, differs by {difference:.4f} at most")
    if difference > DIFFERENCE_MAX:
        raise SystemExit("the file does not do what the network does")


if __name__ == "__main__":
    main()
