"""`mlimagenet`: looks at annotations from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlimagenet_data.classes import imagenet_classes
from mlimagenet_data.errors import MLImageNetError

__all__ = ["main"]

_AUDIT = """\
Ranks images whose label is likely wrong, with cleanlab's multi-label quality scores, and says how original and new labels
disagree. Low quality comes first. Nothing is changed."""


_EXPORT = """\
Writes annotations in a form that other tools read. coco: instance JSON with masks stretched to the images. tsv: the paper's file,
filename, original class, classes, scores. csv: a line for each label. What a form has no room for is left out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 1 after an error that was printed."""
    given = _parser().parse_args(arguments)
    try:
        run: Callable[[argparse.Namespace], None] = given.run
        run(given)
    except (MLImageNetError, OSError, ModuleNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlimagenet", description="Looks at multi-label, region-grounded annotations."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    stats = _command(commands, "stats", _stats, "Counts labels, regions, classes, and classes that occur together.")
    stats.add_argument("--plot", metavar="FILE.png", type=Path, help="Draw the counts, too. Needs matplotlib.")
    stats.add_argument("--pairs", metavar="N", type=int, default=10, help="Pairs of classes to print (default: 10).")
    audit = _command(commands, "audit", _audit, _AUDIT)
    audit.add_argument(
        "--of", choices=("original", "labels"), default="original", help="Which labels to judge (default: original)."
    )
    audit.add_argument("--top", metavar="N", type=int, default=20, help="Images to list (default: 20).")
    audit.add_argument("--verdict", help="List only images of this kind: agrees, weaker, replaced, unseen.")
    audit.add_argument("--images", metavar="DIR", type=Path, help="The split's images, to draw those that are listed.")
    audit.add_argument(
        "--sheet", metavar="FILE.png", type=Path, default=Path("audit.png"),
        help="Where to draw them, with --images (default: audit.png).",
    )  # fmt: skip
    export = _command(commands, "export", _export, _EXPORT)
    export.add_argument("out", type=Path, help="The file to write.")
    export.add_argument("--to", choices=("coco", "tsv", "csv"), required=True, help="Its form.")
    return parser


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text.partition(". ")[0], description=text)
    parser.add_argument("annotations", help="The dataset's folder, or its id on the Hub (USER/NAME).")
    parser.add_argument("--split", default="train", help="Split to read (default: train).")
    parser.add_argument("--json", action="store_true", help="Print JSON, for scripts.")
    parser.set_defaults(run=run)
    return parser


def _print(*lines: str) -> None:
    print(*lines, sep="\n")


def _stats(given: argparse.Namespace) -> None:
    from mlimagenet_data.statistics import collect, plot
    from mlimagenet_data.store import annotation_files

    found = collect(annotation_files(given.annotations, given.split))
    if given.plot:
        plot(found, given.plot)
    if given.json:
        _print(json.dumps(found.as_dict()))
        return
    names, readable = imagenet_classes().names, max(found.readable, 1)
    several = sum(found.by_labels[2:])
    _print(
        f"images              {found.images}, {found.readable} of them readable",
        f"labels an image     {found.labels / readable:.2f}; {100 * several / readable:.1f}% of the images have two or more",
        f"regions an image    {found.regions / readable:.2f}",
        f"classes             {sum(count > 0 for count in found.per_class)} occur as labels",
    )
    if found.with_original:
        share = 100 / found.with_original
        _print(
            f"original labels     {share * found.original_among:.1f}% are among the labels, "
            f"{share * found.original_first:.1f}% have the best score"
        )
    for a, b, count in found.pairs[: given.pairs]:
        _print(f"{count:>8} images with {names[a]} and {names[b]}")


def _audit(given: argparse.Namespace) -> None:
    from mlimagenet_data.audit import VERDICTS, audit
    from mlimagenet_data.store import AnnotationStore

    if given.verdict and given.verdict not in VERDICTS:
        raise MLImageNetError(f"--verdict {given.verdict}: it must be one of {', '.join(VERDICTS)}")
    store = AnnotationStore(given.annotations, given.split)
    findings = audit(store, of=given.of)
    counts = Counter(finding.verdict for finding in findings)
    listed = [f for f in findings if given.verdict in (None, f.verdict)][: given.top]
    if given.json:
        _print(json.dumps({"counts": counts, "findings": [finding.as_dict() for finding in listed]}))
    else:
        _print(*(f"{counts[name]:>8} {name}: {text}" for name, text in VERDICTS.items() if counts[name]), "")
        names = imagenet_classes().names
        for f in listed:
            original = "-" if f.original is None else f"{names[f.original]} {f.original_score:.2f}"
            labels = ", ".join(f"{names[index]} {score:.2f}" for index, score in f.labels[:4])
            _print(f"{f.quality:.3f} {f.verdict:<8} {f.image_id}: original {original}; labels {labels}")
    if given.images and listed:
        from mlimagenet_data.images import load_image
        from mlimagenet_data.view import write_sheet

        records = [store.record(f.row) for f in listed]
        write_sheet(given.sheet, [(load_image(given.images / r.file_name), r) for r in records])
        if not given.json:
            _print(f"picture sheet: {given.sheet}")


def _export(given: argparse.Namespace) -> None:
    from mlimagenet_data.formats.coco import write_coco
    from mlimagenet_data.formats.tables import write_csv, write_tsv
    from mlimagenet_data.store import AnnotationStore

    write = {"coco": write_coco, "tsv": write_tsv, "csv": write_csv}[given.to]
    counts = write(AnnotationStore(given.annotations, given.split), given.out)
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    _print(json.dumps(counts) if given.json else f"{given.out}: {text}")


if __name__ == "__main__":
    sys.exit(main())
