import json
import os
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image

import robust_hub
from robust_hub.cli.certify import certify as certify_command
from robust_hub.cli.main import main
from robust_hub.cli.options import NAMED_FOLDER, NUMBERS
from robust_hub.models.checkpoint import read_weights
from robust_hub.models.shelves import checkpoint_folder


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.mark.parametrize(
    "command",
    [
        "models",
        "pretrain",
        "finetune",
        "certify",
        "report",
        "shelve",
        "card",
        "publish",
        "verify",
        "reproduce",
        "bench",
        "demo",
    ],
)
def test_help_has_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: robust-hub {command}" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("words", "choice"),
    [((), "auto"), (("--compile",), "always"), (("--compile", "never"), "never"), (("--compile", "auto"), "auto")],
)
@pytest.mark.parametrize("after", [(), ("--quiet",), ("--dtype", "bfloat16")])
def test_compile_is_a_flag_and_a_choice(words, choice, after):
    needed = ["--model", "m", "--data", "digits", "--out", "x"]
    assert certify_command.make_context("certify", [*needed, *words, *after]).params["compile"] == choice


def test_the_whole_way_on_the_command_line(tmp_path):
    words = ("--data", "digits", "--quiet")
    assert run("pretrain", *words, "--epochs", 1, "--out", tmp_path / "mixed", "--batch-size", 256).exit_code == 0
    assert run("pretrain", *words, "--epochs", 1, "--out", tmp_path / "again", "--batch-size", 256).exit_code == 0
    twice = [read_weights(tmp_path / name) for name in ("mixed", "again")]
    assert all(torch.equal(value, twice[1][key]) for key, value in twice[0].items())  # first weights have the seed too
    tuning = ("finetune", "--model", tmp_path / "mixed", *words, "--head-only", "--epochs", 1)
    tuned, once_more = (run(*tuning, "--out", tmp_path / "tuned") for _ in range(2))
    assert tuned.exit_code == 0 and "1 epoch, loss" in tuned.stdout, tuned.output
    assert once_more.stdout == tuned.stdout and "was finished before" not in tuned.stderr
    assert "tuned was finished before: this is what it came to, nothing was trained anew" in once_more.stderr
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert config["robust_hub"]["norm"] == "ln"
    assert config["num_classes"] == 10
    certified = run(
        *("certify", "--model", tmp_path / "tuned", *words, "--sigma", "0.25,0.5"),
        *("--n", 100, "--every", 250, "--out", tmp_path / "runs", "--seed", 1, "--compile", "auto"),
    )
    assert certified.exit_code == 0, certified.output
    folders = [tmp_path / "runs" / f"sigma_{sigma}" for sigma in ("0.25", "0.5")]
    table = run("report", *folders, "--plot", tmp_path / "curves.png")
    assert table.exit_code == 0, table.output
    assert "sigma = 0.25" in table.output and "best per radius" in table.output
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert run("report", tmp_path / "runs").output == run("report", *folders).output
    latex = run("report", *folders, "--format", "latex")
    assert r"\begin{tabular}" in latex.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("certify", "--model", "resnet18s_l", "--data", "digits", "--out", "x"), "did you mean"),
        (("pretrain", "--data", "no/such/folder/here", "--out", "x"), "no/such/folder/here"),
        (("pretrain", "--data", "digits", "--out", "x", "--sigmas", "0,a"), "such as 0.25,0.5, got '0,a'"),
        (("finetune", "--data", "digits", "--out", "x", "--learning-rate", ""), "such as 0.25,0.5, got ''"),
        (("certify", "--model", "m", "--data", "digits", "--out", "x", "--radii", "1;2"), "got '1;2'"),
        (("bench", "certify", "--model", "m", "--data", "digits", "--radii", "r"), "robust-hub: expected numbers"),
        (("reproduce", "table6", "--data", "cifar10"), "expected --data NAME=FOLDER, such as cifar10=data/cifar10"),
        (("reproduce", "table6", "--data", "=x"), "got '=x'"),
        (
            ("finetune", "--model", "resnet18s_ln_mixednoise.nosuch", "--data", "digits", "--out", "x"),
            "no trained weights",
        ),
        (("report", "no-such-run"), "no-such-run"),
        (
            ("finetune", "--data", "digits", "--layout", "classes", "--out", "x"),
            "a folder for layout='classes', got digits",
        ),
        (("reproduce", "table6", "--data", "cifra10=x"), "got 'cifra10': did you mean cifar10"),
    ],
)
def test_errors_are_one_sentence_and_exit_code_2(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run(*words)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_larger_images_are_pretrained_on_in_parts(tmp_path):
    for i in range(12):
        picture = Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8))
        (tmp_path / "pets" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "pets" / "ab"[i % 2] / f"{i}.png")
    words = ("pretrain", "--data", tmp_path / "pets", "--epochs", 1, "--batch-size", 6, "--quiet")
    cases = {
        "fresh": ((), {"view_size": 32}, 2),
        "views": (("--size", 24, "--views", 3), {"view_size": 24, "view_count": 3}, 6),
    }
    for name, (more, said, steps) in cases.items():
        result = run(*words, *more, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
        settings = json.loads((tmp_path / name / "training" / "settings.json").read_text())
        assert {key: settings[key] for key in ("view_size", "view_count") if key in settings} == said
        assert json.loads((tmp_path / name / "training" / "log.jsonl").read_text())["step"] == steps
    Image.new("RGB", (50, 44)).save(tmp_path / "pets" / "a" / "wide.png")
    mixed = run(*words, "--size", 32, "--out", tmp_path / "mixed")
    assert mixed.exit_code == 2 and "wide.png: pass size=... to resize them" in mixed.output
    assert "--resize" in mixed.output
    assert run(*words, "--size", 32, "--resize", 36, "--out", tmp_path / "mixed").exit_code == 0


def test_classes_are_matched_by_name_unless_positions_are_asked_for(tmp_path):
    model = timm.create_model("resnet18s_ln", num_classes=3, channels=(32,) * 4, layers=(1,) * 4)
    robust_hub.save_checkpoint(model, tmp_path / "model")
    for name in ("dog", "owl"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32)).save(tmp_path / "test" / name / "0.png")
    words = ("certify", "--model", tmp_path / "model", "--data", tmp_path / "test", "--every", 1, "--n", 50, "--quiet")
    refused = run(*words, "--out", tmp_path / "out")
    assert refused.exit_code == 2 and "pass classes='by position' (--classes by-position)" in refused.output
    certified = run(*words, "--out", tmp_path / "out", "--classes", "by-position")
    assert certified.exit_code == 0, certified.output
    records = robust_hub.read_run(tmp_path / "out" / "sigma_0.25").records
    assert [record.label for record in records] == [0, 1]


def test_bench_prints_a_table_and_writes_json(tmp_path):
    words = ("--model", "resnet18s_ln_mixednoise", "--data", "digits", "--images", 3, "--samples", 64, "--n", 64)
    small = ("--repeats", 2, "--batch-size", 32, "--radii", "0.1,0.2", "--out", tmp_path / "bench.json")
    result = run("bench", "certify", *words, *small)
    assert result.exit_code == 0, result.output
    assert "| sequential plan |" in result.output and "matrix products" in result.output
    assert json.loads((tmp_path / "bench.json").read_text())["settings"]["images"] == 3
    assert "Example: robust-hub bench certify" in " ".join(run("bench", "certify", "--help").output.split())


def test_bench_train_prints_a_table_and_writes_json(tmp_path):
    words = ("--model", "resnet18s_ln_mixednoise", "--data", "digits", "--batch-size", 4, "--steps", 1, "--repeats", 1)
    result = run("bench", "train", *words, "--out", tmp_path / "bench.json")
    assert result.exit_code == 0, result.output
    assert "| plain loop, float32 |" in result.output and "| ours, float32 |" in result.output
    assert json.loads((tmp_path / "bench.json").read_text())["settings"]["data"] == "digits"


def test_models_lists_every_pretrained_name(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    result = run("models", "--all")
    assert result.exit_code == 0
    for name in ("resnet152_ln_mixednoise", "resnet18s_ln_mixednoise", "resnet26_in", "resnet50_gn"):
        assert name in result.output
    assert "pretrained on tiny-imagenet-32" in result.output and "no weights yet" in result.output


def test_a_checkpoint_goes_on_a_shelf(tmp_path):
    source = checkpoint_folder("resnet18s_ln_mixednoise")
    result = run("shelve", source, "resnet18s_ln_mixednoise.copy", "--shelf", tmp_path, "--dtype", "bfloat16")
    assert result.exit_code == 0 and result.stdout.strip() == str(tmp_path / "resnet18s_ln_mixednoise.copy")
    card = tmp_path / "resnet18s_ln_mixednoise.copy" / "README.md"
    assert card.read_text().count("# resnet18s_ln_mixednoise.copy") == 1
    assert run("shelve", source, "resnet18s_gn.copy", "--shelf", tmp_path).exit_code == 2


def test_a_shelf_without_matplotlib_says_which_command_writes_the_card(monkeypatch, tmp_path):
    def lacking(*_):
        raise ImportError("expected matplotlib for figures")

    monkeypatch.setattr("robust_hub.publishing.cards.read_evidence", lacking)
    result = run("shelve", checkpoint_folder("resnet18s_ln_mixednoise"), "resnet18s_ln.a", "--shelf", tmp_path / "a b")
    assert result.exit_code == 0 and (tmp_path / "a b" / "resnet18s_ln.a" / "config.json").exists()
    words = "no card is written yet: expected matplotlib for figures; then robust-hub card '"
    assert words in result.stderr and not (tmp_path / "a b" / "resnet18s_ln.a" / "README.md").exists()


def test_numbers_and_pairs_are_what_they_say():
    assert NUMBERS.convert("0.25,1e-3", None, None) == (0.25, 0.001)
    assert NUMBERS.convert((0.5,), None, None) == (0.5,)  # what is converted already stays
    assert NAMED_FOLDER.convert("a=b=c", None, None) == ("a", "b=c")
    assert NAMED_FOLDER.convert(("a", "b"), None, None) == ("a", "b")


def module(*words, **environment):
    line = [sys.executable, "-m", "robust_hub", *words]
    done = subprocess.run(line, env={**os.environ, **environment}, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_the_package_runs_as_a_module_under_the_commands_name():
    assert module("--version") == (0, f"robust-hub, version {robust_hub.__version__}\n", "")
    code, _, said = module("certfy")
    assert code == 2 and said.startswith("Usage: robust-hub [OPTIONS] COMMAND")


def test_the_shell_completes():
    code, script, _ = module(_ROBUST_HUB_COMPLETE="bash_source")
    assert code == 0 and "_ROBUST_HUB_COMPLETE=bash_complete" in script and "complete -o nosort" in script
    words = {"COMP_WORDS": "robust-hub pretrain --sigmas 0,a --mixed", "COMP_CWORD": "4"}  # after a mistake, too
    code, said, _ = module(_ROBUST_HUB_COMPLETE="bash_complete", **words)
    assert code == 0 and said.splitlines() == ["plain,--mixed-precision"]


def test_the_public_names_are_these():
    assert set(robust_hub.__all__) == {
        "ABSTAIN",
        "Certificate",
        "CheckpointError",
        "ImageData",
        "NoiseMixture",
        "SmoothedClassifier",
        "certified_accuracy",
        "certify",
        "finetune_clean",
        "load_data",
        "load_model",
        "prepare",
        "pretrain_mixed_noise",
        "read_run",
        "save_checkpoint",
    }
    assert all(hasattr(robust_hub, name) for name in robust_hub.__all__)


@pytest.mark.parametrize("job", ["pretrain.pretrain_mixed_noise", "finetune.finetune_clean"])
def test_compile_and_fast_norm_reach_the_training(job, tmp_path, monkeypatch):
    calls = []

    def watch(model, data, **options):
        calls.append({name: options[name] for name in ("compile", "fast_norm")})
        raise ValueError("seen")

    monkeypatch.setattr(f"robust_hub.training.{job}", watch)
    words = (job.split(".")[0], "--data", "digits", "--model", "resnet18s_ln", "--out", tmp_path / "out")
    for flags in ((), ("--compile",), ("--fast-norm",)):
        run(*words, *flags)
    assert [(call["compile"], call["fast_norm"]) for call in calls] == [(False, False), (True, False), (False, True)]
