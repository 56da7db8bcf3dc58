"""Measure a network on pictures it has never seen, beside what it competes with.

`lite` compares masks with u2netp's; `edge` compares mattes with the filters, on u2netp's own masks
and on the truth reduced to a hard mask of 320 pixels. Contact sheets of the best, the median and
the worst twelve are for looking at; the evaluation pictures are not to be passed on.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from bench import metrics
from bench.scenes import scenes
from core.edge import EdgeNetwork
from core.segmenter import HAZE
from training import edge_run
from training.coarse import guided
from training.generate import compose, foreground, scene
from training.label import EDGE_PX, Teacher
from training.photos import Image, Plane
from training.store import Store
from training.surfaces import colour, shadowed

SHEET_ROWS = 12
SHEET_PX = 160
IOU_FOUND = 0.9
SETS = ("ccp", "humanseg290", "alphamatting27", "sod")
MATTED_SETS = ("alphamatting27", "lemur")
MATTED_EDGE_PX_MAX = 800
PRODUCTS = 200
PLAIN_GOODS = Path(__file__).parent / "plain_goods.txt"
"""The names of the held-out photographs that show goods before plain grounds."""
WHITE_MIN = 225
HALF = 0.5

Judge = Callable[[Image], Plane]
"""A picture in, a mask (0..1) of its size out."""


@dataclass(frozen=True, slots=True)
class Case:
    """A picture and its true alpha, 0..1."""

    name: str
    image: Image
    truth: Plane


def read_set(folder: Path) -> Iterator[Case]:
    """Yield the pictures of one evaluation set."""
    masks = {path.stem: path for path in (folder / "masks").iterdir()}
    for path in sorted((folder / "images").iterdir()):
        image = np.ascontiguousarray(_read(path, cv2.IMREAD_COLOR)[..., ::-1])
        truth = _read(masks[path.stem], cv2.IMREAD_GRAYSCALE)
        if truth.shape != image.shape[:2]:
            truth = cv2.resize(truth, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        yield Case(path.stem, image, truth.astype(np.float32) / 255)


def _read(path: Path, flags: int) -> Plane:
    decoded = cv2.imread(str(path), flags)
    if decoded is None:
        raise FileNotFoundError(path)
    return np.asarray(decoded, np.uint8)


def read_held_out(store: Path) -> Iterator[Case]:
    """Yield the pack's held-out photographs; the truth is the teacher's opinion."""
    kept = Store.open(store, "holdout")
    for index in range(len(kept.masks)):
        truth = np.asarray(kept.masks[index]).astype(np.float32) / 255
        yield Case(kept.names[index], np.asarray(kept.images[index]), truth)


def generated_products(count: int = PRODUCTS) -> Iterator[Case]:
    """Yield generated products before plain or studio backgrounds, never used in training."""
    for index in range(count):
        image, alpha = scene(np.random.default_rng((99, index)), [], "solid")
        yield Case(f"product-{index}", image, alpha.astype(np.float32) / 255)


def plain_products(count: int = PRODUCTS) -> Iterator[Case]:
    """Yield generated products before one colour, every other one white; half cast a shadow."""
    for index in range(count):
        rng = np.random.default_rng((77, index))
        thing = foreground(rng, [], "solid")
        alpha = thing.alpha.astype(np.float32) / 255
        shade = rng.uniform(WHITE_MIN, 255) if index % 2 else np.clip(colour(rng), 0, 255)
        behind = np.full((*alpha.shape, 3), shade, np.float32)
        if rng.random() < HALF:
            behind = shadowed(rng, behind, alpha)
        yield Case(f"plain-{index}", compose(thing.colours, alpha, behind), alpha)


def student(weights: Path, threads: int) -> Judge:
    """Return a judge that asks our own network."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    ort_session = ort.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    size_px = ort_session.get_inputs()[0].shape[2]

    def judge(image: Image) -> Plane:
        small = cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
        batch = np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32) / 255
        raw = ort_session.run(["alpha"], {"input": batch})[0][0, 0]
        mask = np.clip((raw - HAZE[0]) / (HAZE[1] - HAZE[0]), 0, 1)
        return cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)

    return judge


def teacher(weights: Path, threads: int) -> Judge:
    """Return a judge that asks u2netp."""
    asked = Teacher(weights, threads)

    def judge(image: Image) -> Plane:
        mask = asked.mask(image)[0].astype(np.float32) / 255
        return cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)

    return judge


def sheet(rows: list[tuple[Image, Plane, Plane, Plane]]) -> Image:
    """Lay out picture, u2netp's mask, ours and the truth, one row each, three blocks abreast."""

    def tile(plane: Plane) -> Plane:
        shown = plane if plane.ndim == 3 else np.dstack([plane * 255] * 3)
        return cv2.resize(
            shown.astype(np.uint8), (SHEET_PX, SHEET_PX), interpolation=cv2.INTER_AREA
        )

    lines = [np.hstack([tile(plane) for plane in row]) for row in rows]
    height = -(-len(lines) // 3)
    lines += [np.zeros_like(lines[0])] * (3 * height - len(lines))
    return np.hstack([np.vstack(lines[i * height : (i + 1) * height]) for i in range(3)])


def judge_set(name: str, cases: list[Case], judges: tuple[Judge, Judge], out: Path) -> str:
    """Write the contact sheets of one set, and return its line of the table."""
    seen = [(case, judges[0](case.image), judges[1](case.image)) for case in cases]
    scores = np.array([[metrics.iou(mask, case.truth) for mask in masks] for case, *masks in seen])
    order = np.argsort(-scores[:, 1])
    middle = max(0, len(order) // 2 - SHEET_ROWS // 2)
    chosen = {"best": order[:SHEET_ROWS], "median": order[middle : middle + SHEET_ROWS]}
    chosen["worst"] = order[-SHEET_ROWS:]
    for which, indices in chosen.items():
        rows = [(seen[i][0].image, seen[i][1], seen[i][2], seen[i][0].truth) for i in indices]
        cv2.imwrite(str(out / f"{name}-{which}.jpg"), sheet(rows)[..., ::-1])
    mean, median = scores.mean(0), np.median(scores, 0)
    ratio = mean[1] / max(mean[0], 1e-6)
    figures = f"{mean[0]:.3f} / {median[0]:.3f} | {mean[1]:.3f} / {median[1]:.3f} | {ratio:.2f}"
    return f"| {name} | {len(cases)} | {figures} |"


def evaluate_lite(given: argparse.Namespace) -> None:
    """Print the table: mean and median IoU per set, u2netp's and ours."""
    judges = teacher(given.teacher, given.threads), student(given.weights, given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    sets = {name: list(read_set(given.eval / name)) for name in SETS}
    if given.store is not None:
        sets["held out of the pack"] = list(read_held_out(given.store))
        plain = PLAIN_GOODS.read_text(encoding="utf-8").split("\n")
        sets["plain goods of these"] = [
            case for case in sets["held out of the pack"] if case.name in plain
        ]
    sets["generated products"] = list(generated_products())
    sets["plain products"] = list(plain_products())
    print("| set | n | u2netp mean / median | ours mean / median | ratio |\n|---|---|---|---|---|")
    for name, cases in sets.items():
        print(judge_set(name.replace(" ", "-"), cases, judges, given.out), flush=True)
    image = next(iter(sets.values()))[0].image
    for label, judge in zip(("u2netp", "ours"), judges, strict=True):
        print(f"{label}: {best_time_ms(judge, image):.1f} ms")


def best_time_ms(judge: Judge, image: Image, times: int = 9) -> float:
    """Return the shortest of some runs: the one that others disturbed least."""
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        judge(image)
        spent.append(time.perf_counter() - began)
    return 1000 * min(spent)


def matted_cases(folder: Path) -> Iterator[Case]:
    """Yield the photographs with measured alpha, no longer than 800 pixels."""
    for name in MATTED_SETS:
        for case in read_set(folder / name):
            scale = min(1.0, MATTED_EDGE_PX_MAX / max(case.truth.shape))
            size_px = round(case.truth.shape[1] * scale), round(case.truth.shape[0] * scale)
            image = cv2.resize(case.image, size_px, interpolation=cv2.INTER_AREA)
            truth = cv2.resize(case.truth, size_px, interpolation=cv2.INTER_AREA)
            yield Case(case.name, image.astype(np.uint8), truth)


def hardened(truth: Plane) -> Plane:
    """Return the truth as a network of 320 pixels would see it, without any edge."""
    size_px = (EDGE_PX, EDGE_PX)
    return (cv2.resize(truth, size_px, interpolation=cv2.INTER_AREA) > 0.5).astype(np.float32)


def mattes(case: Case, mask: Plane, network: EdgeNetwork) -> dict[str, Plane]:
    """Return the matte of each contender."""
    image = case.image.astype(np.float32) / 255
    seen = edge_run.solved(case.image, mask)
    coarse = np.clip(cv2.resize(mask, case.truth.shape[::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
    mended = network.mend(seen.guide, seen.coarse, seen.alpha)
    perfect = cv2.resize(
        case.truth.astype(np.float32), seen.alpha.shape[::-1], interpolation=cv2.INTER_AREA
    )
    at_solving_size = {"core's solver": seen.alpha, "cutout-edge": mended, "no better": perfect}
    return {
        "scaled up": coarse,
        "guided, radius 8": np.clip((guided(image, coarse) - 0.02) / 0.96, 0, 1),
        "guided, radius 16": np.clip((guided(image, coarse, 16) - 0.02) / 0.96, 0, 1),
    } | {
        name: edge_run.spread(case.image, seen.guide, alpha)
        for name, alpha in at_solving_size.items()
    }


def evaluate_edge(given: argparse.Namespace) -> None:
    """Print MAD and Grad per contender, on photographs and on each class of generated scene.

    "no better" is the truth itself, brought to the solving size and scaled up from it: what a
    perfect network of this kind would reach.
    """
    asked = Teacher(given.teacher, given.threads)
    network = edge_run.open_network(given.weights, given.drawn)
    generated = [Case(each.name, each.image, each.alpha) for each in scenes()]
    groups = {"photographs": list(matted_cases(given.eval)), "generated": generated}
    figures: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for group, cases in groups.items():
        for case in cases:
            kind = group if group == "photographs" else case.name.split("-")[0]
            own = asked.mask(case.image)[0].astype(np.float32) / 255
            for which, mask in (("u2netp", own), ("oracle", hardened(case.truth))):
                for name, alpha in _worth_refining(mattes(case, mask, network), case):
                    errors = metrics.mad(alpha, case.truth), metrics.grad(alpha, case.truth)
                    figures.setdefault((kind, which, name), []).append(errors)
    print("| pictures | mask | n | matte | MAD | Grad |\n|---|---|---|---|---|---|")
    for (kind, which, name), rows in figures.items():
        mad, grad = np.mean(rows, axis=0)
        print(f"| {kind} | {which} | {len(rows)} | {name} | {mad:.4f} | {grad:.3f} |")
    if given.scenes is not None:
        _print_held_out(given.scenes, network)


def _print_held_out(path: Path, network: EdgeNetwork) -> None:
    """Print the same at the solving size, on composed scenes of things never trained on."""
    rows = []
    for scene_planes in np.load(path, mmap_mode="r"):
        guide = np.ascontiguousarray(scene_planes[:3].transpose(1, 2, 0))
        coarse, alpha, truth = scene_planes[3:].astype(np.float32) / 255
        both = alpha, network.mend(guide, coarse, alpha)
        rows.append([f(each, truth) for f in (metrics.mad, metrics.grad) for each in both])
    off = np.array(rows)
    mad, mended_mad, grad, mended_grad = off.mean(0)
    worse = float(np.mean(off[:, 1] > off[:, 0] + 5e-4))
    print(
        f"{len(off)} held-out scenes, at the solving size: MAD {mad:.4f} -> {mended_mad:.4f}, "
        f"Grad {grad:.3f} -> {mended_grad:.3f}; {worse:.0%} of them worse"
    )


def _worth_refining(found: dict[str, Plane], case: Case) -> list[tuple[str, Plane]]:
    """Return the contenders where the mask has found the subject; else none."""
    is_found = metrics.iou(found["scaled up"], case.truth) > IOU_FOUND
    return list(found.items()) if is_found else []


def main() -> None:
    """Evaluate."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("network", choices=["edge", "lite"])
    arguments.add_argument("weights", type=Path)
    arguments.add_argument("--eval", type=Path, required=True, help="folder of evaluation sets")
    arguments.add_argument("--teacher", type=Path, required=True, help="u2netp.onnx")
    arguments.add_argument("--store", type=Path, default=None, help="lite: from store.py")
    arguments.add_argument("--scenes", type=Path, default=None, help="edge: held out")
    arguments.add_argument("--drawn", type=Path, default=None, help="edge: weights for drawn masks")
    arguments.add_argument("--out", type=Path, default=Path("sheets"), help="lite: contact sheets")
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    (evaluate_edge if given.network == "edge" else evaluate_lite)(given)


if __name__ == "__main__":
    main()
