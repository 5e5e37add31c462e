"""Tables of the figures of benchmarks/loader.py, and the targets that they meet."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from benchmarks.contenders import APPROACHES, BASE, CONTROL, OURS

__all__ = ["judge", "print_figures"]

_THROUGHPUT, _LABEL_US, _OPEN_S, _WORKER_MB, _FLAT_MB = 0.98, 40.0, 0.5, 60.0, 2.0


def judge(figures: dict) -> list[dict]:
    """Return each target with its measurement; `met` is None if the noise leaves it open."""
    out = []
    for workers, found in figures["throughput"].items():
        ratio, control = (found["approaches"][name]["ratio"] for name in (OURS, CONTROL))
        met = True if ratio["low"] >= _THROUGHPUT else False if ratio["high"] < _THROUGHPUT else None
        text = f"{_span(ratio)}, control {_span(control)}"
        if not found["settled"] and ratio["low"] <= control["high"] and ratio["high"] >= control["low"]:
            met, text = None, f"{text}: indistinguishable from 1"
        out.append(
            {"target": f"samples/s >= {_THROUGHPUT} of ImageFolder's, {workers} workers", "is": text, "met": met}
        )
    cost, store = figures["labels_us"][OURS], figures["store"]
    growth = [
        step - store["touch"]["before_mb"] for step in (store["touch"]["dataset_mb"], *store["touch"]["touched_mb"])
    ]
    workers_mb = [mb for step in [store["workers"]["first_mb"], *store["workers"]["touched_mb"]] for mb in step]
    flat = growth[-1] - growth[1]
    simple = [
        (f"labels alone <= {_LABEL_US:.0f} us", f"{cost['value']:.1f} us", cost["value"] <= _LABEL_US),
        (f"opening the index <= {_OPEN_S} s", f"{store['touch']['open_store_s']:.3f} s",
         max(store["touch"]["open_store_s"], store["touch"]["open_dataset_s"]) <= _OPEN_S),
        (f"store's private memory <= {_WORKER_MB:.0f} MB per process",
         f"{max(growth):.1f} MB", max(growth) <= _WORKER_MB),
        (f"private memory <= {_WORKER_MB:.0f} MB per worker",
         f"{max(workers_mb):.1f} MB", max(workers_mb) <= _WORKER_MB),
        (f"flat: growth after the first quarter <= {_FLAT_MB:.0f} MB", f"{flat:+.1f} MB", flat <= _FLAT_MB),
    ]  # fmt: skip
    return out + [{"target": target, "is": text, "met": bool(met)} for target, text, met in simple]


def print_figures(figures: dict, console: Console) -> None:
    """Print all tables."""
    for workers, found in figures["throughput"].items():
        console.print(_throughput(workers, found))
    for table in (
        _labels(figures["labels_us"]),
        _start(figures["start"]),
        _store(figures),
        _targets(figures["targets"]),
    ):
        console.print(table)


def _throughput(workers: str, found: dict) -> Table:
    base = found["approaches"][BASE]["samples_per_s"]
    limit = f"{found['precision']:.0%}"
    note = f"control settled within +-{limit}" if found["settled"] else f"control did NOT settle within +-{limit}"
    table = Table(title=f"{workers} workers: ImageFolder {base:.0f} samples/s; {found['repeats']} repeats, {note}")
    for column in ("approach", "samples/s relative to ImageFolder", "95% interval", "by CPU time", "95% interval"):
        table.add_column(column)
    for name in APPROACHES:
        if name == BASE or name not in found["approaches"]:
            continue
        row = found["approaches"][name]
        cells = [f"{row['ratio']['value']:.3f}", _range(row["ratio"])]
        if "cpu_ratio" in row:
            cells += [f"{row['cpu_ratio']['value']:.3f}", _range(row["cpu_ratio"])]
        table.add_row(name, *cells)
    return table


def _labels(costs: dict) -> Table:
    table = Table(title="labels alone, for a given crop, 4 regions of 64 x 64")
    for column in ("approach", "us per sample", "95% interval"):
        table.add_column(column)
    for name, cost in costs.items():
        table.add_row(name, f"{cost['value']:.1f}", f"{cost['low']:.1f} to {cost['high']:.1f}")
    return table


def _start(start: dict) -> Table:
    table = Table(title=f"start-up and private memory (USS) at {start['images']} images")
    columns = ("approach", "time to create", "memory", "worker's first batch after", "worker's memory after an epoch")
    for column in columns:
        table.add_column(column)
    for name, row in start["approaches"].items():
        cells = f"{row['make_s'] * 1e3:.1f} ms", f"{row['make_mb']:.1f} MB", f"{row['first_batch_s'] * 1e3:.0f} ms"
        table.add_row(name, *cells, f"{row['worker_mb']:.1f} MB")
    return table


def _store(figures: dict) -> Table:
    built, touch, dense = (figures["store"][name] for name in ("build", "touch", "dense"))
    table = Table(title=f"{built['rows']} rows, 3 regions of 64 x 64 each", show_header=False)
    table.add_row("Parquet", f"{built['parquet_mb']:.0f} MB")
    table.add_row(
        "index", f"{built['index_mb']:.0f} MB, built in {built['build_s']:.1f} s, peak {built['peak_mb']:.0f} MB"
    )
    opened = f"{touch['open_store_s']:.4f} s; MultiLabelImageNet {touch['open_dataset_s']:.4f} s"
    table.add_row("opening the index in a fresh process", opened)
    table.add_row("private memory before, with the store, with the dataset",
                  ", ".join(f"{touch[key]:.1f}" for key in ("before_mb", "store_mb", "dataset_mb")) + " MB")  # fmt: skip
    steps = ", ".join(f"{mb:.1f}" for mb in touch["touched_mb"])
    table.add_row(f"after each quarter of {touch['touched']} random samples", f"{steps} MB")
    workers = figures["store"]["workers"]
    steps = "; ".join(", ".join(f"{mb:.1f}" for mb in step) for step in [workers["first_mb"], *workers["touched_mb"]])
    table.add_row("two workers, at the start and after each quarter", f"{steps} MB")
    table.add_row(f"dense vectors at {dense['rows']} rows", f"{dense['seconds']:.1f} s, {dense['mb']:.0f} MB")
    extrapolated = f"{dense['extrapolated_s']:.0f} s, {dense['extrapolated_mb']:.0f} MB"
    table.add_row(f"dense vectors, extrapolated to {built['rows']} rows", extrapolated)
    return table


def _targets(targets: list[dict]) -> Table:
    table = Table(title="targets")
    for column in ("target", "measured", ""):
        table.add_column(column)
    for row in targets:
        table.add_row(row["target"], row["is"], {True: "met", False: "MISSED", None: "open"}[row["met"]])
    return table


def _span(interval: dict) -> str:
    return f"{interval['value']:.3f} ({_range(interval)})"


def _range(interval: dict) -> str:
    return f"{interval['low']:.3f} to {interval['high']:.3f}"
