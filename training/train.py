"""Train a network: restartable, seeded, the same on CPU and GPU.

The rate is constant and then falls to zero over the last part (`--cooldown`) of `--steps`. A run
that is stopped goes on from its last checkpoint; a run that must end earlier than planned is
restarted with fewer steps, and cools down from there.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training import warm_start
from training.edge_network import DrawnEdgeNet, EdgeNet
from training.edge_pixels import edge_batches
from training.generate import read_backgrounds
from training.lite_network import LiteNet
from training.lite_samples import ANSWERED_PX, lite_batches
from training.losses import CARE_DRAWN, edge_loss, lite_loss
from training.photos import Image, Plane

CHECKPOINT_EVERY = 50
PICTURES_NDIM = 4
AVERAGE_DECAY_MAX = 0.998
WARM_UP_STEPS = 100


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is particular to one of the networks."""

    network: Callable[[argparse.Namespace], nn.Module]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    batches: Callable[[int, argparse.Namespace, list[Image]], Iterator[tuple[Plane, Plane]]]
    composes: bool


def _edge_batches(
    seed: int, given: argparse.Namespace, photos: list[Image]
) -> Iterator[tuple[Plane, Plane]]:
    del photos
    return edge_batches(seed, given.pixels, given.batch)


def _lite_batches(
    seed: int, given: argparse.Namespace, photos: list[Image]
) -> Iterator[tuple[Plane, Plane]]:
    folders = (given.store, given.pool)
    return lite_batches(seed, folders, photos, given.batch, ANSWERED_PX)


def _edge_network(given: argparse.Namespace) -> nn.Module:
    del given
    return EdgeNet()


def _drawn_network(given: argparse.Namespace) -> nn.Module:
    del given
    return DrawnEdgeNet()


def _lite_network(given: argparse.Namespace) -> nn.Module:
    network = LiteNet()
    warm_start.load(network, given.start)
    return network


RECIPES = {
    "edge": Recipe(_edge_network, edge_loss, _edge_batches, composes=False),
    "drawn": Recipe(
        _drawn_network, partial(edge_loss, care=CARE_DRAWN), _edge_batches, composes=False
    ),
    "lite": Recipe(_lite_network, lite_loss, _lite_batches, composes=True),
}


class Batches(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batches made on the processor's cores while the network learns."""

    def __init__(self, given: argparse.Namespace, start: int) -> None:
        super().__init__()
        self.given, self.start = given, start

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (input, truth), seeded by the step at which the run began and by the worker."""
        cv2.setNumThreads(1)
        worker = get_worker_info()
        seed = (self.given.seed * 1_000_003 + self.start) * 64 + (worker.id if worker else 0)
        recipe = RECIPES[self.given.network]
        photos = read_backgrounds(self.given.pack) if recipe.composes else []
        for planes, truth in recipe.batches(seed, self.given, photos):
            yield torch.from_numpy(planes), torch.from_numpy(truth)


def rate_at(step: int, given: argparse.Namespace) -> float:
    """Return the learning rate of `step`."""
    cooled = (given.steps - step) / max(1.0, given.cooldown * given.steps)
    return float(given.rate * min(1.0, (step + 1) / WARM_UP_STEPS, max(0.0, cooled)))


class Run:
    """A network in training, its running average, its optimiser and where it stands."""

    def __init__(self, given: argparse.Namespace) -> None:
        torch.manual_seed(given.seed)
        self.given = given
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.recipe = RECIPES[given.network]
        self.network, self.average = self.recipe.network(given), self.recipe.network(given)
        for network in (self.network, self.average):
            network.to(self.device, memory_format=torch.channels_last)
        self.average.load_state_dict(self.network.state_dict())
        many = [p for p in self.network.parameters() if p.ndim > 1]
        few = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": many, "weight_decay": 0.02}, {"params": few, "weight_decay": 0.0}],
            lr=given.rate,
        )
        self.step, self.seconds, self.smooth_loss = 0, 0.0, float("nan")
        self._resume()

    def _resume(self) -> None:
        path = self.given.out / "last.pt"
        if path.exists():
            kept = torch.load(path, map_location=self.device)
            self.network.load_state_dict(kept["network"])
            self.average.load_state_dict(kept["average"])
            self.optimiser.load_state_dict(kept["optimiser"])
            self.step, self.seconds = kept["step"], kept["seconds"]

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        kept = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(kept, self.given.out / "next.pt")
        (self.given.out / "next.pt").replace(self.given.out / "last.pt")

    def learn(self, planes: torch.Tensor, truth: torch.Tensor) -> float:
        """Take one step and return its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.step, self.given)
        planes = planes.to(self.device)
        is_picture = planes.ndim == PICTURES_NDIM
        if is_picture:
            planes = planes.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=is_picture):
            guess = self.network(planes)
        loss = self.recipe.loss(guess.float(), truth.to(self.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.step += 1
        self._average()
        return float(loss.detach())

    def _average(self) -> None:
        decay = min(AVERAGE_DECAY_MAX, (1 + self.step) / (20 + self.step))
        with torch.no_grad():
            kept, fresh = self.average.state_dict(), self.network.state_dict()
            for name, value in kept.items():
                if value.is_floating_point():
                    value.lerp_(fresh[name], 1 - decay)

    def go(self) -> None:
        """Learn until the last step, saying how it goes."""
        loader = DataLoader(
            Batches(self.given, self.step),
            batch_size=None,
            num_workers=self.given.workers,
            prefetch_factor=4 if self.given.workers else None,
        )
        self.network.train()
        began, before, losses = time.monotonic(), self.seconds, []
        for planes, truth in loader:
            if self.step >= self.given.steps:
                break
            losses.append(self.learn(planes, truth))
            self.seconds = before + time.monotonic() - began
            if self.step % CHECKPOINT_EVERY == 0 or self.step == self.given.steps:
                self.save()
                self._note(float(np.mean(losses)))
                losses = []

    def _note(self, loss: float) -> None:
        line = {
            "step": self.step,
            "samples": self.step * self.given.batch,
            "minutes": round(self.seconds / 60, 1),
            "rate": round(rate_at(self.step, self.given), 6),
            "loss": round(loss, 5),
        }
        with (self.given.out / "curve.jsonl").open("a", encoding="utf-8") as curve:
            curve.write(json.dumps(line) + "\n")
        print(line, flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("network", choices=sorted(RECIPES))
    arguments.add_argument("--pack", type=Path, required=True, help="the unpacked photos.tar")
    arguments.add_argument("--pixels", type=Path, help="edge, drawn: from edge_pixels.py")
    arguments.add_argument("--pool", type=Path, default=None, help="lite: from generate.py")
    arguments.add_argument("--store", type=Path, default=None, help="lite: from store.py")
    arguments.add_argument("--start", type=Path, default=None, help="lite: u2netp.onnx, always")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--steps", type=int, default=4000)
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--rate", type=float, default=2e-3)
    arguments.add_argument("--cooldown", type=float, default=0.3)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    if given.network == "lite" and given.start is None:
        arguments.error("lite has no other start than u2netp.onnx: --start")
    return given


def main() -> None:
    """Train."""
    given = parse()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    Run(given).go()


if __name__ == "__main__":
    main()
