"""The time of an edge map, on a small one."""

import json

from benchmarks import edge_inference


def test_one_case_prints_its_figures(capsys):
    edge_inference.main(["--repeats", "1", "--one", "narrow", "32", "40"])
    found = json.loads(capsys.readouterr().out)
    assert found["ms"] > 0 and found["peak_mib"] >= found["model_mib"] > 0


def test_all_sizes_of_both_trunks_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(edge_inference, "SIZES", ((32, 40),))
    monkeypatch.setattr(edge_inference, "TRUNKS", ("narrow",))
    edge_inference.main(["--repeats", "1", "--json", str(tmp_path / "found.json")])
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert (row["trunk"], row["height"], row["width"]) == ("narrow", 32, 40) and row["ms"] > 0
