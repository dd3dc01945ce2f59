import json

import pytest
import torch
from click.testing import CliRunner

from robust_hub import demo
from robust_hub.cli.main import main
from robust_hub.evidence.record import Record
from robust_hub.evidence.records import Run, read_run
from robust_hub.guarantee.certificate import Certificate
from robust_hub.models.resnets import load_model
from robust_hub.models.shelves import checkpoint_folder


def test_the_demo_tunes_certifies_and_draws(tmp_path, monkeypatch):
    def untrained(name):
        torch.manual_seed(0)
        return load_model("resnet18s_ln", num_classes=200)

    monkeypatch.setattr(demo, "load_model", untrained)
    runs = demo.run_demo(tmp_path / "demo", epochs=1, images=4, n=64, progress=False)
    assert [run.sigma for run in runs] == [0.25, 0.5]
    assert all(run.finished and len(run.records) == 4 for run in runs)
    assert read_run(tmp_path / "demo" / "sigma_0.5").records == runs[1].records
    assert "sigma = 0.25" in (tmp_path / "demo" / "table.md").read_text()
    for picture in ("curves.png", "digit-certificate.png", "digit-seen.png"):
        assert (tmp_path / "demo" / picture).read_bytes().startswith(b"\x89PNG")
    said = demo.explain(tmp_path / "demo", runs)
    first = Certificate.from_json((tmp_path / "demo" / "digit-sigma0.25.json").read_text())
    assert "these 4 digits" in " ".join(said.split()) and first.n == 64
    assert "No answer, which is no error" in " ".join(said.split()) or f'"{first.class_name}"' in said
    words = next(line for line in said.splitlines() if line.startswith("Check it:")).split()[3:]
    checked = CliRunner().invoke(main, words)
    assert checked.exit_code == 0, checked.output
    before = (tmp_path / "demo" / "sigma_0.25" / "records.tsv").read_bytes()
    picture = (tmp_path / "demo" / "digit-certificate.png").read_bytes()
    again = demo.run_demo(tmp_path / "demo", epochs=1, images=4, n=64, progress=False)
    assert again[0].records == runs[0].records
    assert (tmp_path / "demo" / "sigma_0.25" / "records.tsv").read_bytes() == before
    assert (tmp_path / "demo" / "digit-certificate.png").read_bytes() == picture


def test_the_digit_that_is_drawn_is_right_divided_and_of_a_middle_radius():
    def record(idx, radius, count, label=1):
        return Record(idx, label, 1, radius, label == 1, 1.0, n=100, count=count)

    wrong, unanimous = record(0, 0.5, 80, label=2), record(1, 0.5, 100)
    divided = [record(idx, radius, 80) for idx, radius in ((2, 0.0), (3, 0.5), (4, 0.25), (5, 0.25))]
    assert demo.choose([wrong, unanimous, *divided]).idx == 5
    assert demo.choose([wrong, unanimous]).idx == 1 and demo.choose([wrong]).idx == 0


def test_the_demo_says_what_it_shows(tmp_path, monkeypatch):
    def table(out, progress):
        out.mkdir()
        (out / "table.md").write_text("| x |")
        return [Run((Record(0, 1, 1, 0.5, 1, 1.0, sigma=0.25),), {}, out)]

    monkeypatch.setattr(demo, "run_demo", table)
    monkeypatch.setattr(demo, "explain", lambda out, runs: "one\n\ntwo")
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "demo")])
    assert result.output == "| x |\none\n\ntwo\n"
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path / "again"), "--json"])
    assert json.loads(result.stdout)["digit"]["0.25"] == str(tmp_path / "again" / "digit-sigma0.25.json")


@pytest.mark.full
@pytest.mark.skipif(checkpoint_folder(demo.MODEL) is None, reason="the packaged checkpoint is not trained yet")
def test_the_packaged_checkpoint_is_robust_after_clean_fine_tuning(tmp_path):
    runs = demo.run_demo(tmp_path / "demo", epochs=3, sigmas=(0.25,), images=20, n=200, progress=False)
    right = sum(record.correct and record.radius >= 0.25 for record in runs[0].records)
    assert right >= 5
