"""A rearranged network answers what the released one does, from fewer and cheaper steps."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from core.graph import CPU, rearranged
from core.guided import Plane
from core.weights import EMBEDDED_FOLDER

CLOSE = 1e-5


def answer(contents: bytes, picture: Plane) -> Plane:
    session = onnxruntime.InferenceSession(contents, providers=[CPU])
    first, given = session.get_outputs()[0].name, session.get_inputs()[0].name
    return np.asarray(session.run([first], {given: picture})[0])


def steps(contents: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(contents).graph.node)


def noise(side_px: int) -> Plane:
    return np.random.default_rng(3).standard_normal((1, 3, side_px, side_px)).astype(np.float32)


def two_scales(
    side_px: int, channels: tuple[int, int], *, stride: int = 1, is_fixed: bool = True
) -> bytes:
    """Look at a picture whole and at half its size, join both, and make one plane of them.

    As in the released files, the size to return to is worked out by the graph itself, and there is
    a second output.
    """
    rng, (fine, coarse) = np.random.default_rng(5), channels
    shapes: dict[str, tuple[int, ...]] = {
        "f": (fine, 3, 3, 3),
        "c": (coarse, fine, 3, 3),
        "j": (32, fine + coarse, 3, 3),
    }
    shapes |= {"n": (1, 32, 3, 3), "bias j": (32,), "bias n": (1,)}
    held = [
        numpy_helper.from_array((rng.standard_normal(shape) * 0.1).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    held += [
        numpy_helper.from_array(np.array([2, 3], np.int64), "sides"),
        numpy_helper.from_array(np.array([1, coarse], np.int64), "planes"),
        numpy_helper.from_array(np.empty(0, np.float32), "none"),
    ]
    same: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    resize: dict[str, Any] = {
        "mode": "linear",
        "coordinate_transformation_mode": "pytorch_half_pixel",
    }
    nodes = [
        helper.make_node("Conv", ["picture", "f"], ["fine"], **same),
        helper.make_node("MaxPool", ["fine"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pooled", "c"], ["coarse"], **same),
        helper.make_node("Shape", ["fine"], ["shape"]),
        helper.make_node("Gather", ["shape", "sides"], ["size"]),
        helper.make_node("Concat", ["planes", "size"], ["wanted"], axis=0),
        helper.make_node("Resize", ["coarse", "none", "none", "wanted"], ["back"], **resize),
        helper.make_node("Concat", ["back", "fine"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "j", "bias j"], ["joined"], **same),
        helper.make_node(
            "Conv", ["joined", "n", "bias n"], ["plane"], strides=[stride] * 2, **same
        ),
        helper.make_node("Sigmoid", ["plane"], ["mask"]),
    ]
    sides: list[Any] = [1, 3, side_px, side_px] if is_fixed else [1, 3, "height", "width"]
    graph = helper.make_graph(
        nodes,
        "two scales",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("mask", "fine")],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    return bytes(model.SerializeToString())


@given(
    side_px=st.integers(6, 24),
    channels=st.sampled_from([(16, 16), (32, 16), (16, 24), (7, 16)]),
    stride=st.sampled_from([1, 2]),
)
def test_whatever_fits_and_what_does_not_the_answer_stays(
    side_px: int, channels: tuple[int, int], stride: int
) -> None:
    released = two_scales(side_px, channels, stride=stride)
    picture = noise(side_px)

    changed = rearranged(released)

    np.testing.assert_allclose(answer(changed, picture), answer(released, picture), atol=CLOSE)


def test_what_only_moves_numbers_about_is_gone() -> None:
    changed = rearranged(two_scales(24, (16, 16)))

    assert "Concat" not in steps(changed)
    assert "Shape" not in steps(changed)
    (resize,) = (
        each for each in onnx.load_from_string(changed).graph.node if each.op_type == "Resize"
    )
    assert len(resize.input) == 3  # by factors, not to a size
    (output,) = onnx.load_from_string(changed).graph.output
    assert output.name == "mask"
    onnx.checker.check_model(onnx.load_from_string(changed), full_check=True)


def test_planes_are_weighed_and_added_instead_of_joined() -> None:
    weights = {"one": (1, 3, 1, 1), "other": (1, 3, 3, 3), "join": (1, 2, 1, 1), "bias": (1,)}
    rng, picture = np.random.default_rng(7), noise(12)
    nodes = [
        helper.make_node("Conv", ["picture", "one"], ["first"]),
        helper.make_node("Conv", ["picture", "other"], ["second"], pads=[1, 1, 1, 1]),
        helper.make_node("Concat", ["first", "second"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "join", "bias"], ["mask"]),
    ]
    graph = helper.make_graph(
        nodes,
        "planes",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)

    changed = rearranged(model.SerializeToString())

    assert steps(changed)["Concat"] == 0
    assert steps(changed)["Sum"] == 1
    expected = answer(model.SerializeToString(), picture)
    np.testing.assert_allclose(answer(changed, picture), expected, atol=CLOSE)


def test_large_weights_are_carried_across(monkeypatch: pytest.MonkeyPatch) -> None:
    released, picture = two_scales(24, (16, 16)), noise(24)
    monkeypatch.setattr("core.graph.LARGE_BYTES", 1000)

    changed = rearranged(released)

    assert "Shape" not in steps(changed)
    (given_to_it,) = onnx.load_from_string(changed).graph.input
    assert given_to_it.name == "picture"
    np.testing.assert_allclose(answer(changed, picture), answer(released, picture), atol=CLOSE)


def test_weights_that_are_listed_as_inputs_too_are_no_inputs_afterwards() -> None:
    released, picture = onnx.load_from_string(two_scales(24, (16, 16))), noise(24)
    released.graph.input.extend(
        helper.make_tensor_value_info(each.name, each.data_type, list(each.dims))
        for each in released.graph.initializer
    )

    changed = rearranged(released.SerializeToString())

    (given_to_it,) = onnx.load_from_string(changed).graph.input
    assert given_to_it.name == "picture"
    expected = answer(two_scales(24, (16, 16)), picture)
    np.testing.assert_allclose(answer(changed, picture), expected, atol=CLOSE)


@pytest.mark.parametrize("how", [{"strides": [2, 2]}, {"pads": [1, 1, 1, 1]}])
def test_planes_that_are_joined_at_another_size_stay_joined(how: dict[str, Any]) -> None:
    join = np.ones((1, 2, 1, 1), np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["picture"], ["most"], axes=[1]),
            helper.make_node("ReduceMin", ["picture"], ["least"], axes=[1]),
            helper.make_node("Concat", ["most", "least"], ["both"], axis=1),
            helper.make_node("Conv", ["both", "join"], ["mask"], **how),
        ],
        "planes",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(join, "join")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    released, picture = model.SerializeToString(), noise(12)

    np.testing.assert_allclose(
        answer(rearranged(released), picture), answer(released, picture), atol=CLOSE
    )


def test_a_network_with_branches_is_left_as_it_is() -> None:
    def branch(name: str) -> onnx.GraphProto:
        doubled = helper.make_node("Add", ["seen", "seen"], [name])
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([doubled], name, [], [out])

    always = numpy_helper.from_array(np.ones((), bool), "always")
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["picture"], ["seen"]),
            helper.make_node(
                "If", ["always"], ["mask"], then_branch=branch("a"), else_branch=branch("b")
            ),
        ],
        "branches",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 12, 12])],
        [helper.make_tensor_value_info("mask", TensorProto.FLOAT, None)],
        [always],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    released = model.SerializeToString()

    assert rearranged(released) is released


def test_a_network_for_any_size_is_left_as_it_is() -> None:
    released = two_scales(24, (16, 16), is_fixed=False)

    assert rearranged(released) is released


def test_the_network_that_ships_answers_the_same() -> None:
    released = (EMBEDDED_FOLDER / "cutout-lite.onnx").read_bytes()
    picture = np.abs(noise(192)) / 3

    np.testing.assert_allclose(
        answer(rearranged(released), picture), answer(released, picture), atol=CLOSE
    )


def test_u2netp_answers_the_same_from_fewer_steps(shared_dir: Path) -> None:
    released = (shared_dir / "models/u2netp.onnx").read_bytes()

    changed = rearranged(released)

    np.testing.assert_allclose(
        answer(changed, noise(320)), answer(released, noise(320)), atol=CLOSE
    )
    assert steps(changed)["Concat"] == 0
    assert steps(changed).total() < steps(released).total() / 2
