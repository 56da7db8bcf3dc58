"""How good are the edges? `python -m bench.quality [--quick] [--write]`.

Side by side with rembg's three modes on the same masks in the same run: on photographs with
measured alpha (if they lie beside the checkout) and on generated scenes whose truth is drawn. The
oracle mask is the truth thresholded at a half and reduced to 320 px, which measures the edge work
apart from the network.
"""

import argparse
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench import metrics, peers, report
from bench.photographs import (
    BINARY_SETS,
    EVAL,
    FITTING_HALF,
    MODELS,
    SOFT_SETS,
    photographs,
)
from bench.scenes import scenes
from core import Segmenter, load_segmenter
from core.confidence import doubt_edge, judge
from core.decontaminate import coarse_colours, decontaminate
from core.edge import EdgeNetwork
from core.matting import scale_up, solve
from core.segmenter import load_edge

ORACLE_PX = 320
FOUND_IOU = 0.9
OURS = "ours"
WAYS = (*peers.MODES, OURS)
CONFIDENCE_STEPS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

Plane = NDArray[Any]
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Case:
    """One picture with its truth; `foreground` is None where only the mask is known."""

    name: str
    image: NDArray[np.uint8]
    alpha: Plane
    foreground: Plane


def score(cutout: NDArray[np.uint8], case: Case) -> Scores:
    """Return every measure of one RGBA cutout."""
    alpha = cutout[..., 3] / 255
    colours = cutout[..., :3].astype(np.float64)
    scores: Scores = {
        "SAD": metrics.sad(alpha, case.alpha),
        "MSE": metrics.mse(alpha, case.alpha),
        "MAD": metrics.mad(alpha, case.alpha),
        "Grad": metrics.grad(alpha, case.alpha),
        "Conn": metrics.conn(alpha, case.alpha),
        "IoU": metrics.iou(alpha, case.alpha),
        "boundary IoU": metrics.boundary_iou(alpha, case.alpha),
    }
    fringes = metrics.fringe((colours, alpha), (case.foreground, case.alpha))
    for name, (signed, absolute) in fringes.items():
        scores[f"{name} signed"], scores[f"{name} abs"] = signed, absolute
    scores["fringe"] = float(np.mean([absolute for _, absolute in fringes.values()]))
    scores["colour MSE"] = metrics.colour_mse((colours, alpha), (case.foreground, case.alpha))
    return scores


@functools.cache
def edge_network() -> EdgeNetwork:
    return load_edge()


def ours(
    image: NDArray[np.uint8], mask: NDArray[np.float32], seen: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    matte = solve(image, mask, seen=seen, edge=edge_network())
    alpha = scale_up(matte, image)
    colours = coarse_colours(matte.picture, matte.alpha, image.shape)
    return np.dstack([decontaminate(image, alpha, colours), alpha])


def oracle_mask(alpha: Plane) -> NDArray[np.float32]:
    hard = (alpha > 0.5).astype(np.float32)
    size_px = (ORACLE_PX, ORACLE_PX)
    return np.asarray(cv2.resize(hard, size_px, interpolation=cv2.INTER_AREA), np.float32)


def as_picture(mask: Plane) -> Image.Image:
    return Image.fromarray((mask * 255).astype(np.uint8), mode="L")


def compare(
    case: Case,
    mask: NDArray[np.float32],
    peer_mask: Image.Image,
    seen: NDArray[np.uint8] | None = None,
) -> dict[str, Scores]:
    """Score all ways on one picture; `seen` is what the pipeline would have of it beside itself."""
    results = {mode: score(peers.cutout(case.image, peer_mask, mode), case) for mode in peers.MODES}
    results[OURS] = score(ours(case.image, mask, seen), case)
    return results


def compare_oracle(case: Case) -> dict[str, Scores]:
    mask = oracle_mask(case.alpha)
    return compare(case, mask, as_picture(mask))


def compare_exact(case: Case) -> dict[str, Scores]:
    """Give everybody the true alpha; only the colours are left to get wrong."""
    exact = np.rint(case.alpha * 255).astype(np.uint8)
    modes = ("rembg plain", "rembg decontaminate")
    results = {
        mode: score(peers.cutout(case.image, Image.fromarray(exact), mode), case) for mode in modes
    }
    results[OURS] = score(np.dstack([decontaminate(case.image, exact), exact]), case)
    return results


def own_masks(case: Case, segmenter: Segmenter, session: Any) -> dict[str, Scores]:
    (peer_mask,) = session.predict(Image.fromarray(case.image))
    found = segmenter.segment(case.image)
    return compare(case, found.mask, peer_mask, found.seen)


def means(results: Sequence[dict[str, Scores]]) -> dict[str, Scores]:
    return {
        way: {key: float(np.mean([each[way][key] for each in results])) for key in scores}
        for way, scores in results[0].items()
    }


ALPHA_COLUMNS = ("SAD", "MSE", "MAD", "Grad", "Conn", "IoU", "boundary IoU")


def alpha_table(average: dict[str, Scores]) -> str:
    rows = [
        [way, *(f"{scores[key]:.4g}" for key in ALPHA_COLUMNS)] for way, scores in average.items()
    ]
    return report.table(["", *ALPHA_COLUMNS], rows)


def fringe_table(average: dict[str, Scores]) -> str:
    names = list(metrics.BACKGROUNDS)
    rows = [
        [
            way,
            *(f"{scores[f'{name} abs']:.2f} ({scores[f'{name} signed']:+.2f})" for name in names),
            f"{scores['fringe']:.2f}",
            f"{scores['colour MSE']:.5f}",
        ]
        for way, scores in average.items()
    ]
    return report.table(["", *(f"on {name}" for name in names), "mean", "colour MSE"], rows)


def best_of_peer(average: dict[str, Scores], key: str) -> float:
    return min(scores[key] for way, scores in average.items() if way != OURS)


def ratio(average: dict[str, Scores], key: str) -> float:
    return average[OURS][key] / best_of_peer(average, key)


def soft_cases(limit: int | None) -> list[Case]:
    cases = []
    for photo in list(photographs(SOFT_SETS))[:limit]:
        foreground = peers.reference_foreground(photo.image, photo.alpha)
        cases.append(Case(photo.name, photo.image, photo.alpha, foreground))
    return cases


def confidence_table(segmenter: Segmenter, step: int) -> tuple[str, str]:
    """Return confidence against IoU, and the mask scores on the sets with binary truth."""
    judged: list[tuple[str, float, float, float]] = []
    for photo in list(photographs((*SOFT_SETS, *BINARY_SETS)))[::step]:
        found = segmenter.segment(photo.image)
        matte = solve(photo.image, found.mask, seen=found.seen, edge=segmenter.edge)
        edge_px, doubts = max(photo.image.shape), doubt_edge(found.seen, found.mask)
        confidence, _ = judge(found.raw, found.mask, matte.alpha, edge_px, doubts)
        alpha = scale_up(matte, photo.image)
        soft = alpha / 255
        overlap, edge = metrics.iou(soft, photo.alpha), metrics.boundary_iou(soft, photo.alpha)
        judged.append((photo.name.split("/")[0], confidence, overlap, edge))
    return _calibration(judged), _per_set(judged)


def _calibration(judged: list[tuple[str, float, float, float]]) -> str:
    rows = []
    for low, high in pairwise(CONFIDENCE_STEPS):
        overlaps = [each[2] for each in judged if low <= each[1] < high or each[1] == high == 1]
        if overlaps:
            spread = np.percentile(overlaps, [10, 50])
            rows.append(
                [
                    f"{low:.1f} to {high:.1f}",
                    str(len(overlaps)),
                    f"{np.mean(overlaps):.2f}",
                    f"{spread[1]:.2f}",
                    f"{spread[0]:.2f}",
                    f"{np.mean(np.array(overlaps) > FOUND_IOU):.0%}",
                ]
            )
    columns = ["confidence", "photographs", "mean IoU", "median", "worst tenth", "IoU > 0.9"]
    order = np.corrcoef([each[1] for each in judged], [each[2] for each in judged])[0, 1]
    return report.table(columns, rows) + f"\n\nCorrelation of confidence with IoU: {order:.2f}."


def _per_set(judged: list[tuple[str, float, float, float]]) -> str:
    rows = []
    for name in dict.fromkeys(each[0] for each in judged):
        values = np.array([each[1:] for each in judged if each[0] == name])
        rows.append([name, str(len(values)), *(f"{value:.3f}" for value in values.mean(0))])
    return report.table(["set", "photographs", "confidence", "IoU", "boundary IoU"], rows)


def measure(
    cases: Iterable[Case], way: Callable[[Case], dict[str, Scores]]
) -> list[dict[str, Scores]]:
    results = []
    for case in cases:
        results.append(way(case))
        print(".", end="", flush=True)
    print()
    return results


def targets_table(facts: Sequence[tuple[str, float, float]]) -> str:
    rows = [
        [what, f"<= {goal:g}", f"{value:.2f}", "reached" if value <= goal else "**missed**"]
        for what, goal, value in facts
    ]
    return report.table(["ours / best of rembg's modes", "goal", "measured", ""], rows)


def run(*, quick: bool) -> dict[str, str]:
    """Measure everything; return markdown by section."""
    facts: list[tuple[str, float, float]] = []
    sections: dict[str, str] = {}
    drawn = [Case(s.name, s.image, s.alpha, s.foreground) for s in scenes()][:: 4 if quick else 1]
    exact = means(measure(drawn, compare_exact))
    facts.append(("fringe, generated scenes, exact alpha given", 1.0, ratio(exact, "fringe")))
    worst_sign = max(abs(exact[OURS][f"{name} signed"]) for name in metrics.BACKGROUNDS)
    facts.append(("the same, its largest sign, of 255", 1.0, worst_sign))
    drawn_oracle = means(measure(drawn, compare_oracle))
    sections["scenes"] = (
        f"{len(drawn)} scenes. Exact alpha given, so that only colours differ:\n\n"
        f"{fringe_table(exact)}\n\nOracle mask at 320 px:\n\n"
        f"{alpha_table(drawn_oracle)}\n\n{fringe_table(drawn_oracle)}"
    )
    if EVAL.exists():
        sections |= _photographs(facts, quick=quick)
    else:
        print("no photographs beside the checkout: generated scenes only")
    sections["targets"] = targets_table(facts)
    return sections


def is_fitting(case: Case) -> bool:
    return case.name.split("/")[-1] in FITTING_HALF


def halves_table(
    oracle: Sequence[tuple[Case, dict[str, Scores]]], own: Sequence[tuple[Case, dict[str, Scores]]]
) -> str:
    """Return ours over the best of rembg's modes, on the fitting half and on the held-out one."""
    keys = ("Grad", "MAD", "fringe")
    rows = []
    for name, results in (("oracle mask", oracle), ("u2netp's mask, IoU > 0.9", own)):
        for half, wanted in (("fitting", True), ("held out", False)):
            chosen = [scores for case, scores in results if is_fitting(case) is wanted]
            if chosen:
                average = means(chosen)
                ratios = (f"{ratio(average, key):.2f}" for key in keys)
                rows.append([f"{name}, {half} half", str(len(chosen)), *ratios])
    return report.table(["ours / best of rembg's modes", "photographs", *keys], rows)


def _photographs(facts: list[tuple[str, float, float]], *, quick: bool) -> dict[str, str]:
    cases = soft_cases(4 if quick else None)
    of_oracle = measure(cases, compare_oracle)
    oracle = means(of_oracle)
    facts.append(("Grad, oracle mask, photographs", 0.4, ratio(oracle, "Grad")))
    segmenter, session = load_segmenter("u2netp", MODELS, threads=2), peers.session()
    everything = measure(cases, lambda case: own_masks(case, segmenter, session))
    found = [
        (case, scores)
        for case, scores in zip(cases, everything, strict=True)
        if scores["rembg plain"]["IoU"] > FOUND_IOU
    ]
    own = means([scores for _, scores in found])
    facts += [
        ("Grad, u2netp's mask, photographs with IoU > 0.9", 0.75, ratio(own, "Grad")),
        ("MAD, the same", 0.85, ratio(own, "MAD")),
        ("fringe, whole pipeline, the same", 0.75, ratio(own, "fringe")),
    ]
    calibration, per_set = confidence_table(segmenter, 6 if quick else 1)
    return {
        "photographs": (
            f"Oracle mask, {len(cases)} photographs:\n\n{alpha_table(oracle)}\n\n"
            f"{fringe_table(oracle)}\n\nu2netp's own mask, the {len(found)} photographs where the "
            f"network finds the subject (IoU > {FOUND_IOU}):\n\n{alpha_table(own)}\n\n"
            f"{fringe_table(own)}\n\nBy halves (`bench/photographs.py`):\n\n"
            f"{halves_table(list(zip(cases, of_oracle, strict=True)), found)}"
        ),
        "confidence": f"{calibration}\n\n{per_set}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a part of the pictures")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    asked = parser.parse_args()
    for name, markdown in run(quick=asked.quick).items():
        print(f"\n## {name}\n\n{markdown}")
        if asked.write:
            report.write_section(name, f"{report.stamp()}.\n\n{markdown}")


if __name__ == "__main__":
    main()
