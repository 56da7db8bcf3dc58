"""Draw how the loss fell, and where the rate did, from the `curve.jsonl` of one or more runs."""

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "the same curve is the same file"
from matplotlib import pyplot as plt  # noqa: E402 - after the choice of what draws

SIZE_INCHES = (7.2, 3.2)


def draw(runs: list[Path], out: Path) -> None:
    """Write an SVG: loss over samples, a line per run; the rate, grey, on an axis of its own."""
    figure, losses = plt.subplots(figsize=SIZE_INCHES, layout="constrained")
    rates = losses.twinx()
    for run in runs:
        lines = [json.loads(line) for line in run.read_text(encoding="utf-8").splitlines()]
        samples = [line["samples"] for line in lines]
        losses.plot(samples, [line["loss"] for line in lines], label=run.parent.name)
        rates.plot(samples, [line["rate"] for line in lines], color="0.75", linestyle=":")
    losses.set(xlabel="samples", ylabel="loss")
    rates.set(ylabel="rate (dotted)", ylim=(0, None))
    if len(runs) > 1:
        losses.legend()
    figure.savefig(out, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Draw."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("runs", type=Path, nargs="+", help="curve.jsonl of each")
    arguments.add_argument("--out", type=Path, required=True, help="an SVG")
    given = arguments.parse_args()
    draw(given.runs, given.out)


if __name__ == "__main__":
    main()
