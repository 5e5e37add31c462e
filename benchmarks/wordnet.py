"""Make the table of the classes' hypernyms from a copy of WordNet 3.0, whose synset offsets are ImageNet's WordNet ids.

    python -m benchmarks.wordnet --wordnet /usr/share/wordnet

Debian has it as `wordnet-base`. Each line of the table is a synset: its id, its lemmas and the ids of its hypernyms. It
holds the 1000 classes and everything above them. WordNet's licence stands beside the table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mlimagenet_data.classes import imagenet_classes

TABLE = Path(__file__).parents[1] / "mlimagenet_data" / "imagenet_hypernyms.tsv"
_LICENCE_LINES = 29  # at the top of WordNet's files, each with its number


def make(wordnet: Path) -> tuple[str, str]:
    """Return the table and the licence.

    Raises:
        SystemExit: If a class is not in this copy of WordNet, which then is another release.
    """
    lines = (wordnet / "data.noun").read_text(encoding="utf-8").splitlines()
    licence = "\n".join(line.lstrip()[line.lstrip().find(" ") + 1 :].rstrip() for line in lines[:_LICENCE_LINES])
    synsets = {line[:8]: line for line in lines[_LICENCE_LINES:]}
    found: dict[str, tuple[str, list[str]]] = {}
    waiting = list(imagenet_classes().wnids)
    while waiting:
        wnid = waiting.pop()
        if wnid in found:
            continue
        if wnid[1:] not in synsets:
            raise SystemExit(f"{wordnet}: has no synset {wnid}; WordNet 3.0 is needed")
        words = synsets[wnid[1:]].partition(" | ")[0].split()
        count = int(words[3], 16)
        lemmas = [word.replace("_", " ") for word in words[4 : 4 + 2 * count : 2]]
        pointers = words[5 + 2 * count :]
        parents = [f"n{pointers[k + 1]}" for k, kind in enumerate(pointers) if kind in ("@", "@i")]
        found[wnid] = "|".join(lemmas), parents
        waiting += parents
    return "".join(
        f"{wnid}\t{names}\t{' '.join(above)}\n" for wnid, (names, above) in sorted(found.items())
    ), licence + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wordnet", type=Path, required=True, help="The folder that holds data.noun.")
    args = parser.parse_args()
    table, licence = make(args.wordnet)
    TABLE.write_text(table, encoding="utf-8")
    TABLE.with_suffix(".LICENSE").write_text(licence, encoding="utf-8")
    print(f"{TABLE}: {len(table.splitlines())} synsets, {len(table) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
