import dataclasses
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from robust_hub.certification import inputs
from robust_hub.certification.evaluate import certify
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.evidence.records import read_run
from robust_hub.guarantee.plans import sequential_plan
from robust_hub.images.data import load_data
from robust_hub.models.identity import weights_hash
from robust_hub.training import bf16

FLAT = {"mean": (0.5,) * 3, "std": (0.5,) * 3, "progress": False}
SCRIPT = """
import os, sys, torch
from torch import nn
from robust_hub.certification import evaluate, task
from robust_hub.images.data import load_data

torch.manual_seed(0)
model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))
left, append = int(sys.argv[2]), task.open_run

def opened(*args, **options):
    writer = append(*args, **options)
    write = writer.append
    def dying(record):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        write(record)
    writer.append = dying
    return writer

task.open_run = opened
radii = (0.0, 0.1, 0.25) if "radii" in sys.argv else None
evaluate.certify(model, load_data("digits", split="test"), 0.25, out=sys.argv[1], every=25, n=200, seed=7,
                 radii=radii, mean=(0.5,) * 3, std=(0.5,) * 3, progress=False)
"""


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 10))


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", split="test")


def without_times(records):
    return [{k: v for k, v in dataclasses.asdict(r).items() if k != "time"} for r in records]


def test_records_hold_what_the_smoothed_classifier_says(model, digits, tmp_path):
    run = certify(model, digits, 0.25, out=tmp_path / "run", every=100, n=200, seed=3, **FLAT)
    assert [r.idx for r in run.records] == list(range(0, len(digits), 100))
    assert run.finished
    smoothed = SmoothedClassifier(model, mean=FLAT["mean"], std=FLAT["std"])
    for record in run.records:
        image, label = digits[record.idx]
        certificate = smoothed.certify(image, 0.25, n=200, seed=3, index=record.idx)
        assert (record.predict, record.radius, record.count) == (
            certificate.prediction,
            certificate.radius,
            certificate.count,
        )
        assert record.label == label
        assert dict(record.counts) == {c: v for c, v in enumerate(certificate.counts) if v}
        assert record.base == int(smoothed.classify(image[None])[0])


def test_batch_size_and_grouping_do_not_change_records(model, digits, tmp_path):
    runs = [
        certify(model, digits, 0.5, out=tmp_path / str(size), every=60, n=100, seed=1, batch_size=size, **FLAT)
        for size in (33, 1000)
    ]
    assert without_times(runs[0].records) == without_times(runs[1].records)


def test_pixels_are_checked_once_an_image(model, digits, tmp_path, monkeypatch):
    checked = []
    monkeypatch.setattr(inputs, "check_pixels", lambda x: (checked.append(tuple(x.shape)), x)[1])
    run = certify(model, digits, 0.25, out=tmp_path, every=100, n=100, **FLAT)
    assert checked == [(3, 32, 32)] * len(run.records)


def test_the_bar_says_which_sigma_it_is_of(model, digits, tmp_path, capsys):
    for shown in (True, False):
        certify(model, digits, 0.5, out=tmp_path / str(shown), limit=1, n=50, **{**FLAT, "progress": shown})
        assert ("sigma 0.5: " in capsys.readouterr().err) == shown


@pytest.mark.parametrize("radii", [pytest.param(None, marks=pytest.mark.full), (0.0, 0.1, 0.25)])
def test_killed_in_the_middle_and_resumed_equals_uninterrupted(model, digits, tmp_path, radii):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    for left in ("4", "9"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "killed"), left, *(["radii"] if radii else [])],
            env=environment,
            capture_output=True,
        )
        assert done.returncode == -9, done.stderr.decode()
    assert len(read_run(tmp_path / "killed").records) == 3 + 8
    with (tmp_path / "killed" / "records.tsv").open("a") as file:
        file.write("275\t3\t3\t0.1")  # the line that a kill cut off
    arguments = {"every": 25, "n": 200, "seed": 7, "radii": radii, **FLAT}
    resumed = certify(model, digits, 0.25, out=tmp_path / "killed", **arguments)
    whole = certify(model, digits, 0.25, out=tmp_path / "whole", **arguments)
    assert without_times(resumed.records) == without_times(whole.records)
    assert len(whole.records) == 20


@pytest.mark.parametrize("radii", [pytest.param(None, marks=pytest.mark.full), (0.0, 0.1, 0.25)])
def test_two_processes_share_the_images_and_write_the_records_of_one(model, digits, tmp_path, radii):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    (tmp_path / "share.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d"]
    launch += ["--rdzv-endpoint", "127.0.0.1:0", str(tmp_path / "share.py"), str(tmp_path / "shared")]
    for left in ("4", "-1"):  # the process that writes dies at its fourth record, then the run is taken up again
        words = [*launch, left, *(["radii"] if radii else [])]
        done = subprocess.run(words, env=environment, capture_output=True, timeout=300)
        assert (done.returncode == 0) is (left == "-1"), done.stderr.decode()
        assert len(read_run(tmp_path / "shared").records) == (20 if left == "-1" else 3)
    whole = certify(model, digits, 0.25, out=tmp_path / "whole", every=25, n=200, seed=7, radii=radii, **FLAT)
    shared = read_run(tmp_path / "shared")
    assert shared.finished
    assert without_times(shared.records) == without_times(whole.records)


def test_without_a_seed_a_resume_keeps_the_one_drawn(model, digits, tmp_path):
    arguments = {"every": 100, "n": 100, **FLAT}
    first = certify(model, digits, 0.25, out=tmp_path / "a", **arguments)
    again = certify(model, digits, 0.25, out=tmp_path / "a", **arguments)
    other = certify(model, digits, 0.25, out=tmp_path / "b", **arguments)
    assert first.identity["seed"] == again.identity["seed"] != other.identity["seed"]
    assert first.records == again.records


@pytest.mark.parametrize(("change", "named"), [({"sigma": 0.5}, "sigma"), ({"seed": 2}, "seed"), ({"n": 200}, "n")])
def test_another_run_in_the_folder_is_named(model, digits, tmp_path, change, named):
    arguments = {"sigma": 0.25, "every": 100, "n": 100, "seed": 1, **FLAT}
    certify(model, digits, out=tmp_path, **arguments)
    with pytest.raises(ValueError, match=rf"\b{named}\b"):
        certify(model, digits, out=tmp_path, **{**arguments, **change})


def test_another_plan_in_the_folder_is_named(model, digits, tmp_path):
    arguments = {"sigma": 0.25, "every": 100, "n": 100, "seed": 1, **FLAT}
    certify(model, digits, out=tmp_path / "fixed", **arguments)
    with pytest.raises(ValueError, match='plan is "fixed" there and "sequential" here'):
        certify(model, digits, out=tmp_path / "fixed", radii=(0.1, 0.2), **arguments)
    certify(model, digits, out=tmp_path / "grid", radii=(0.1, 0.2), **arguments)
    with pytest.raises(ValueError, match=r"radii is \[0.1, 0.2\] there and \[0.1, 0.3\] here"):
        certify(model, digits, out=tmp_path / "grid", radii=(0.1, 0.3), **arguments)
    with pytest.raises(ValueError, match="futility is 0.1 there and 0.2 here"):
        plan = sequential_plan((0.1, 0.2), 100, futility=0.2)
        certify(model, digits, 0.25, out=tmp_path / "grid", every=100, seed=1, plan=plan, **FLAT)


def test_sequential_records_say_plan_samples_and_what_was_decided(model, digits, tmp_path):
    grid = (0.0, 0.1, 0.25, 0.9)
    run = certify(model, digits, 0.25, out=tmp_path, every=50, n=500, seed=3, radii=grid, **FLAT)
    assert run.identity["plan"] == "sequential" and run.identity["radii"] == list(grid)
    smoothed = SmoothedClassifier(model, mean=FLAT["mean"], std=FLAT["std"])
    for record in run.records:
        image, _ = digits[record.idx]
        certificate = smoothed.certify(image, 0.25, radii=grid, n=500, seed=3, index=record.idx)
        assert (record.predict, record.radius, record.n, record.n0) == (
            certificate.prediction,
            certificate.radius,
            certificate.n,
            0,
        )
        assert (record.plan, record.radii, record.out_of_reach) == ("sequential", grid, (0.9,))
        assert (record.undecided or ()) == certificate.undecided
        assert record.time > 0
    assert len({record.n for record in run.records}) > 1
    assert [r.idx for r in run.records] == sorted(r.idx for r in run.records)


def test_another_model_in_the_folder_is_named(model, digits, tmp_path):
    arguments = {"every": 100, "n": 100, "seed": 1, **FLAT}
    certify(model, digits, 0.25, out=tmp_path, **arguments)
    with torch.no_grad():
        model[2].bias += 1
    with pytest.raises(ValueError, match="weights"):
        certify(model, digits, 0.25, out=tmp_path, **arguments)


def test_the_weights_hash_tells_models_apart(model):
    before = weights_hash(model)
    assert before == weights_hash(model)
    model[2].bias.data[3] += 1e-6
    assert weights_hash(model) != before


def test_labels_beyond_the_models_classes_are_refused(digits, tmp_path):
    small = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 3))
    with pytest.raises(ValueError, match="labels of the model's 3 classes"):
        certify(small, digits, 0.25, out=tmp_path, every=100, n=100, **FLAT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sigma": 0.0}, "finite sigma > 0"),
        ({"n": 5}, "expected n >= 10"),
        ({"every": 0}, "expected every"),
        ({"limit": 0}, "expected limit"),
        ({"alpha": 1.5}, "alpha in"),
        ({"bound": "best"}, "bound"),
    ],
)
def test_bad_arguments_leave_no_folder(model, digits, tmp_path, change, message):
    arguments = {"sigma": 0.25, "n": 100, **FLAT, **change}
    with pytest.raises(ValueError, match=message):
        certify(model, digits, out=tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()


def test_a_compiled_network_has_the_identity_of_its_weights_and_says_so(model, digits, tmp_path):
    options = {"every": 60, "n": 200, "seed": 7, **FLAT}
    plain = certify(model, digits, 0.25, out=tmp_path / "plain", **options)
    made = torch.compile(model, dynamic=False, backend="eager")
    compiled = certify(made, digits, 0.25, out=tmp_path / "compiled", **options)
    assert without_times(compiled.records) == without_times(plain.records)
    assert compiled.identity == {**plain.identity, "compiled": True}
    with pytest.raises(ValueError, match="compiled"):
        certify(made, digits, 0.25, out=tmp_path / "plain", **options)


def test_bfloat16_where_it_is_slow_warns(tmp_path, model, digits, monkeypatch):
    monkeypatch.setattr(bf16, "has_fast_bf16", lambda device: False)
    monkeypatch.setattr(bf16, "_slowdown", lambda device: 40.0)
    with pytest.warns(UserWarning, match="40 times as long as in float32; certify the network in float32"):
        certify(model.bfloat16(), digits, 0.25, out=tmp_path, limit=1, n=20, **FLAT)
