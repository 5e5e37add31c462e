from benchmarks.exporting import main


def test_exports_are_measured(capsys):
    main(["--rows", "8", "--shard-images", "3"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        [form, rows] for rows in "28" for form in ("coco", "tsv", "csv")
    ]
    assert all(float(line.split()[4]) > 10 for line in lines[1:])
