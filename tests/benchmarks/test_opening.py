import json

from benchmarks.opening import main


def test_the_cost_of_checks_is_measured(tmp_path, capsys):
    (found,) = main(
        ["--rows", "600", "--repeats", "3", "--work", str(tmp_path / "w"), "--json", str(tmp_path / "a.json")]
    )
    assert found["rows"] == 600
    assert json.loads((tmp_path / "a.json").read_text()) == [found]
    checks = [name for name in found if name.startswith("build, ") and name != "build, wall_s"]
    assert len(checks) == 5
    assert all(0 <= found[name] <= found["build, processor_s"] for name in checks)
    assert 0 < found["its checksum_us"] < found["record_us"]
    assert "checks at opening again" in capsys.readouterr().out
    assert not (tmp_path / "w").exists()
