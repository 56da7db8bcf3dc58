"""A network's graph, rearranged so that onnxruntime runs it faster; what it computes stays.

The released files are exports of training code: half of what they do beside convolving is moving
the same numbers about. Each rearrangement is exact in real arithmetic; in floats masks differ by
less than 1e-5. docs/adr/0028 has what each of them saves.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Shapes = dict[str, tuple[int, ...]]
Node = Any
"""onnx.NodeProto, whose fields no type checker can see."""

LARGE_BYTES: Final = 2**20
"""Tensors above it are weights, and only in the way while the rest is folded."""
LANES: Final = 16
"""Channels that onnxruntime convolves at once where the CPU has AVX-512; half as many elsewhere."""
ONNXRUNTIME_LOGS_ERRORS_ONLY: Final = 3
CPU: Final = "CPUExecutionProvider"


def rearranged(contents: bytes) -> bytes:
    """Return an ONNX model whose first output is that of `contents`, and its only one.

    A model whose input has no fixed shape, or that holds graphs in itself, is returned as it is.
    """
    model = onnx.load_from_string(contents)
    if not _has_fixed_inputs(model) or _has_branches(model):
        return contents
    weights = _set_apart(model)
    model = _folded(model)
    shapes = _shapes_of(model)
    graph = _Graph(model, weights)
    graph.edit(lambda node: _scaled(graph, shapes, node))
    graph.edit(lambda node: _unjoined(graph, shapes, node))
    graph.edit(lambda node: _summed(graph, shapes, node))
    graph.edit(lambda node: _narrowed(graph, node))
    return graph.finished()


def _has_fixed_inputs(model: Any) -> bool:
    held = {tensor.name for tensor in model.graph.initializer}
    return all(
        dimension.dim_value > 0
        for given in model.graph.input
        if given.name not in held
        for dimension in given.type.tensor_type.shape.dim
    )


def _has_branches(model: Any) -> bool:
    """Say whether a node holds a graph of its own, which may use what no input of it names."""
    kinds = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}
    return any(each.type in kinds for node in model.graph.node for each in node.attribute)


def _set_apart(model: Any) -> list[Any]:
    """Turn large tensors into inputs, in place; return them."""
    large = [each for each in model.graph.initializer if len(each.raw_data) > LARGE_BYTES]
    names = {tensor.name for tensor in large}
    kept = [each for each in model.graph.initializer if each.name not in names]
    given = {each.name for each in model.graph.input}
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        for tensor in large
        if tensor.name not in given
    )
    return large


def _folded(model: Any) -> Any:
    """Let onnxruntime work out what is constant, sizes above all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.intra_op_num_threads = 1
        options.log_severity_level = ONNXRUNTIME_LOGS_ERRORS_ONLY
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU])
        return onnx.load(path)


def _shapes_of(model: Any) -> Shapes:
    """Return the shape of every value that has a fixed one."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    return {name: shape for name, shape in shapes.items() if shape and all(shape)}


class _Graph:
    """A model under edit: nodes that are replaced, constants that are added."""

    def __init__(self, model: Any, weights: list[Any]) -> None:
        self._model = model
        self._held = {each.name: each for each in (*model.graph.initializer, *weights)}
        del model.graph.initializer[:]
        inputs = [each for each in model.graph.input if each.name not in self._held]
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        del model.graph.output[1:]

    def edit(self, replaced: Callable[[Node], Iterator[Node]]) -> None:
        """Put what `replaced` answers in the place of every node."""
        nodes = [each for node in self._model.graph.node for each in replaced(node)]
        del self._model.graph.node[:]
        self._model.graph.node.extend(nodes)

    def constant(self, name: str) -> NDArray[Any] | None:
        return numpy_helper.to_array(self._held[name]) if name in self._held else None

    def hold(self, name: str, values: NDArray[Any]) -> str:
        self._held[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def maker_of(self, name: str) -> Node | None:
        return next((node for node in self._model.graph.node if name in node.output), None)

    def finished(self) -> bytes:
        """Leave out what the output does not need, and serialise."""
        graph = self._model.graph
        wanted, kept = {graph.output[0].name}, []
        for node in reversed(graph.node):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                kept.append(node)
        del graph.node[:]
        graph.node.extend(reversed(kept))
        del graph.value_info[:]
        graph.initializer.extend(each for name, each in self._held.items() if name in wanted)
        return bytes(self._model.SerializeToString())


def _attributes(node: Node) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _scaled(graph: _Graph, shapes: Shapes, node: Node) -> Iterator[Node]:
    """Give a resize its factors, not its size: only those stay in the blocked layout.

    What would not fill its blocks, single planes, is better off outside.
    """
    source = shapes.get(node.input[0]) if node.op_type == "Resize" else None
    target = graph.constant(node.input[3]) if len(node.input) > 3 else None  # noqa: PLR2004 X, roi, scales, sizes
    attributes = _attributes(node)
    how = attributes.get("coordinate_transformation_mode", b"half_pixel")
    if (
        source is None
        or target is None
        or target.size != len(source)
        or any(target % source)
        or source[1] % LANES
        or attributes.get("mode") != b"linear"
        or how not in {b"half_pixel", b"pytorch_half_pixel"}
        or attributes.get("antialias")
        or attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch"
    ):
        yield node
        return
    if how == b"pytorch_half_pixel" and min(target[2:]) > 1:  # it differs for one pixel alone
        attributes["coordinate_transformation_mode"] = b"half_pixel"
    attributes.pop("keep_aspect_ratio_policy", None)  # it is for sizes
    factors = graph.hold(f"{node.output[0]} factors", (target / source).astype(np.float32))
    whole = graph.hold("the whole", np.empty(0, np.float32))
    yield helper.make_node(
        "Resize", [node.input[0], whole, factors], node.output, node.name, **attributes
    )


def _joined(graph: _Graph, node: Node) -> tuple[list[str], NDArray[Any] | None]:
    """Return whose channels a convolution sees joined, and its weight; none where it does not."""
    maker = graph.maker_of(node.input[0]) if node.op_type == "Conv" else None
    if maker is None or maker.op_type != "Concat" or _attributes(maker)["axis"] != 1:
        return [], None
    return list(maker.input), graph.constant(node.input[1])


def _unjoined(graph: _Graph, shapes: Shapes, node: Node) -> Iterator[Node]:
    """Convolve two things apart and add them, instead of copying both into one first."""
    sources, weight = _joined(graph, node)
    if (
        weight is None
        or len(sources) != 2  # noqa: PLR2004 a pair
        or _attributes(node).get("group", 1) != 1
        or any(each not in shapes or shapes[each][1] % LANES for each in sources)
    ):
        yield node
        return
    (out,) = node.output
    first_channels = shapes[sources[0]][1]
    halves = np.split(weight, [first_channels], axis=1)
    biases: list[list[str]] = [[], list(node.input[2:])]
    for at, (source, half, bias) in enumerate(zip(sources, halves, biases, strict=True)):
        own = graph.hold(f"{out} weight {at}", half)
        part = helper.make_node("Conv", [source, own, *bias], [f"{out} part {at}"])
        part.attribute.extend(node.attribute)
        yield part
    yield helper.make_node("Add", [f"{out} part 1", f"{out} part 0"], [out])


def _summed(graph: _Graph, shapes: Shapes, node: Node) -> Iterator[Node]:
    """Weigh single planes and add them up, instead of convolving what they are joined into."""
    sources, weight = _joined(graph, node)
    if (
        weight is None
        or weight.shape != (1, len(sources), 1, 1)
        or shapes.get(node.output[0]) != shapes.get(sources[0])  # strides or pads
        or any(shapes.get(each, (0, 0))[1] != 1 for each in sources)
    ):
        yield node
        return
    (out,) = node.output
    terms = [each for each in node.input[2:] if each]
    for at, source in enumerate(sources):
        own = graph.hold(f"{out} weight {at}", weight[0, at].reshape(1))
        terms.append(f"{out} term {at}")
        yield helper.make_node("Mul", [source, own], terms[-1:])
    yield helper.make_node("Sum", terms, [out])


def _narrowed(graph: _Graph, node: Node) -> Iterator[Node]:
    """Make one plane of many in another order: weigh per pixel first, then gather the neighbours.

    A blocked convolution to one plane computes sixteen, for all of its window; so it does that for
    one pixel only, and the window is left to a convolution that gathers plane by plane.
    """
    weight = graph.constant(node.input[1]) if node.op_type == "Conv" else None
    attributes = _attributes(node)
    if (
        weight is None
        or weight.shape[0] != 1
        or weight.shape[1] < LANES
        or weight.shape[2:] != (3, 3)
        or attributes.get("pads") != [1, 1, 1, 1]
        or any(set(attributes.get(name, [1])) != {1} for name in ("strides", "dilations"))
    ):
        yield node
        return
    (out,) = node.output
    places = weight[0].reshape(-1, 9).T
    weigh = np.zeros((LANES, weight.shape[1], 1, 1), weight.dtype)
    weigh[:9, :, 0, 0] = places
    gather = np.zeros((LANES, 1, 3, 3), weight.dtype)
    gather.reshape(LANES, 9)[range(9), range(9)] = 1
    names = [f"{out} weighed", f"{out} gathered"]
    held = [
        graph.hold(f"{out} weigh", weigh),
        graph.hold(f"{out} gather", gather),
        graph.hold(f"{out} sum", np.ones((1, LANES, 1, 1), weight.dtype)),
    ]
    yield helper.make_node("Conv", [node.input[0], held[0]], names[:1])
    yield helper.make_node("Conv", [names[0], held[1]], names[1:], group=LANES, pads=[1, 1, 1, 1])
    yield helper.make_node("Conv", [names[1], held[2], *node.input[2:]], [out])
