"""Training of the labeler on regions in class order, and shuffled; `benchmarks.labeler` is its command line."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, TensorDataset

from build.labeler.head import Labeler, one_thread
from build.labeler.regions import Regions, open_regions, save_regions
from build.labeler.training import Training, train

DIMENSION = 64
SPREAD = 2.2  # standard deviation of a coordinate within a class; between centres it is 1
BATCH = 256
RATE = 3e-3


def make(classes: int, regions: int, seed: int) -> tuple[Regions, float]:
    """Return regions in class order, a fifth of them held out, and the accuracy of the best rule on these."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(classes, DIMENSION))
    labels = np.repeat(np.arange(classes), regions)
    features = (centres[labels] + generator.normal(scale=SPREAD, size=(len(labels), DIMENSION))).astype(np.float16)
    held_out = generator.random(len(labels)) < 0.2
    distance = (centres**2).sum(axis=1) - 2 * features[held_out].astype(np.float64) @ centres.T
    best = float((distance.argmin(axis=1) == labels[held_out]).mean())
    return Regions(features[:, None], labels, held_out), best


def learn(regions: Regions, classes: int, epochs: int) -> tuple[float, float]:
    """Train on regions in a file; return the held-out accuracy and the trained regions per second."""
    with TemporaryDirectory() as folder:
        save_regions([regions], len(regions.classes), Path(folder) / "set")
        stored = open_regions(Path(folder) / "set")
        start = time.perf_counter()
        how = Training(epochs=epochs, learning_rate=RATE, batch_size=BATCH, balance=1.0, patience=epochs)
        history = train(Labeler(DIMENSION, classes), stored, how)
        return history.held_out_accuracy, history.epochs * int((~regions.held_out).sum()) / (
            time.perf_counter() - start
        )


def peer(regions: Regions, classes: int, epochs: int) -> tuple[float, float]:
    """Do the same with a DataLoader on tensors in memory."""
    keep = ~regions.held_out
    data = TensorDataset(torch.from_numpy(regions.features[keep, 0]), torch.from_numpy(regions.classes[keep]))
    labeler = Labeler(DIMENSION, classes)
    optimiser = torch.optim.AdamW(labeler.parameters(), lr=RATE)
    start = time.perf_counter()
    for _ in range(epochs):
        for features, wanted in DataLoader(data, BATCH, shuffle=True):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(labeler(features.float()), wanted).backward()
            optimiser.step()
    rate = epochs * len(data) / (time.perf_counter() - start)
    found = labeler.logits(regions.features[regions.held_out, 0]).argmax(axis=1)
    return float((found == regions.classes[regions.held_out]).mean()), rate


def run(args: argparse.Namespace) -> None:
    """Measure, and print a table."""
    table = Table("classes", "best", "in order", "shuffled", "peer", "regions/s", "of peer")
    with one_thread():
        learn(make(2, 20, 0)[0], 2, 1)  # the first step of an optimiser imports much
        for classes in args.classes:
            torch.manual_seed(args.seed)
            regions, best = make(classes, args.regions, args.seed)
            mixed = np.random.default_rng(args.seed).permutation(len(regions.classes))
            ordered, rate = learn(regions, classes, args.epochs)
            shuffled, _ = learn(Regions(*(values[mixed] for values in regions)), classes, args.epochs)
            other, peers = peer(regions, classes, args.epochs)
            accuracies = (f"{value:.1%}" for value in (best, ordered, shuffled, other))
            table.add_row(str(classes), *accuracies, f"{rate:,.0f}", f"{rate / peers:.1f} x")
    Console().print(table)
