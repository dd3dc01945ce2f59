import pytest
import torch

from robust_hub import demo
from robust_hub.evidence.records import read_run
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
    for picture in ("curves.png", "votes.png"):
        assert (tmp_path / "demo" / picture).read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "demo" / "sigma_0.25" / "records.tsv").read_bytes()
    again = demo.run_demo(tmp_path / "demo", epochs=1, images=4, n=64, progress=False)
    assert again[0].records == runs[0].records
    assert (tmp_path / "demo" / "sigma_0.25" / "records.tsv").read_bytes() == before


@pytest.mark.full
@pytest.mark.skipif(checkpoint_folder(demo.MODEL) is None, reason="the packaged checkpoint is not trained yet")
def test_the_packaged_checkpoint_is_robust_after_clean_fine_tuning(tmp_path):
    runs = demo.run_demo(tmp_path / "demo", epochs=3, sigmas=(0.25,), images=20, n=200, progress=False)
    right = sum(record.correct and record.radius >= 0.25 for record in runs[0].records)
    assert right >= 5
