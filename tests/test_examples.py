"""Every example runs, on data of the caller's, and every table and figure of the paper has its command."""

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path

import make_tour
import pytest
from click.testing import CliRunner
from PIL import Image

from robust_hub import Certificate, load_data, read_run
from robust_hub.cli.main import main
from robust_hub.guarantee.words import meaning
from robust_hub.paper.tables import TABLES

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.skipif(not EXAMPLES.exists(), reason="the examples are not part of this copy")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A folder of a few digits, 64 to train on and 8 to test."""
    home = tmp_path_factory.mktemp("digits")
    for split, count in (("train", 64), ("test", 8)):
        pixels, labels = load_data("digits", split).batch(range(count))
        for k, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
            folder = home / split / f"digit {label}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{k}.png")
    return home


def run(name, *words, code=0):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(module)
    result = CliRunner().invoke(module.main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_certify(digits):
    output = run("certify", "--data", digits, "--images", 2, "--n", 50)
    assert "one image: " in output and "samples" in output
    assert re.search(r"certified accuracy at radius 0.25: \S+ \[.*\] % of 2 images", output)


def test_certify_image_says_it_in_words(digits, tmp_path):
    output = run("certify_image", "--data", digits, "--n", 50, "--json", tmp_path / "digit.json")
    certificate = Certificate.from_json((tmp_path / "digit.json").read_text())
    assert meaning(certificate) in output and f"the certificate: {tmp_path / 'digit.json'}" in output
    photo = tmp_path / "photo.jpg"
    Image.linear_gradient("L").resize((90, 60)).save(photo)
    assert re.search(r"(digit \d, radius|no answer)", run("certify_image", photo, "--data", digits, "--n", 20))


def test_own_folder_makes_one_or_takes_yours(digits, tmp_path):
    output = run("own_folder", "--made", 60, "--epochs", 1, "--images", 2, "--n", 20, "--out", tmp_path / "out")
    assert "images held out of training: " in output and "| sigma = 0.25 | 2 |" in output
    assert len(read_run(tmp_path / "out/certified").records) == 2
    output = run("own_folder", digits / "train", "--epochs", 1, "--images", 1, "--n", 20)
    assert re.search("[01] of 1 are certified for a class that is wrong", output)


def test_imagenet_size_says_that_weights_are_random():
    output = run("imagenet_size", "--n", 12, "--batch-size", 8, "--sigma", 0.25)
    assert "RANDOM" in output and "448x448 is certified at (3, 224, 224)" in output
    assert re.search(r"Certificate\(.*sigma=0.25, n=12, alpha=0.001\)", output)


def outputs(notebook):
    """What the cells of a notebook gave: of each, kinds of output and the MIME types that they have."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [[(one["output_type"], sorted(one.get("data", {}))) for one in cell["outputs"]] for cell in cells]


def test_the_tour_has_its_outputs_and_nothing_of_a_machine():
    text = (EXAMPLES / "tour.ipynb").read_text()
    tour = json.loads(text)
    assert len(text) < 300_000 and all(outputs(tour))
    given = [one for cell in tour["cells"] for one in cell.get("outputs", ())]
    assert all(one["output_type"] != "error" and one.get("name") != "stderr" for one in given)
    said = json.dumps([{k: v for k, v in one.get("data", one).items() if not k.startswith("image/")} for one in given])
    assert not re.search(r"/(home|root|tmp|Users|usr|opt|work)/|Warning|Traceback", said)
    assert [cell["execution_count"] for cell in tour["cells"] if cell["cell_type"] == "code"] == [*range(1, 12)]
    assert all(cell["metadata"] == {} for cell in tour["cells"])
    for what in ("<b>ImageData(", "<b>TrainResult(", "certified at radius 0.25", "With 99.9 % confidence", "<b>Run("):
        assert what in said


def test_the_tour_runs_and_gives_what_is_kept(tmp_path):
    path = EXAMPLES / "tour.ipynb"
    ran = make_tour.run(path, tmp_path)
    assert outputs(ran) == outputs(json.loads(path.read_text()))
    assert json.loads(make_tour.tidy(ran))["metadata"] == json.loads(path.read_text())["metadata"]


def test_finetune_and_its_checkpoint_in_certify(digits, tmp_path):
    options = ("--data", digits, "--epochs", 1)
    output = run("finetune", *options, "--head-only", "--images", 4, "--out", tmp_path / "tuned")
    assert "4 test images under sigma 0.5: " in output and f"checkpoint: {tmp_path / 'tuned'}" in output
    assert "of 1 images" in run("certify", "--model", tmp_path / "tuned", "--data", digits, "--images", 1, "--n", 50)


def test_compare_norms(digits):
    output = run("compare_norms", "--data", digits, "--epochs", 1, "--images", 2, "--n", 50)
    assert [line.split("|")[1:3] for line in output.splitlines() if line.startswith(("| bn", "| ln"))] == [
        [" bn ", " 2 "],
        [" ln ", " 2 "],
    ]


def test_attack_goes_on_and_fails_on_a_violation(digits, tmp_path):
    run("finetune", "--data", digits, "--epochs", 1, "--images", 1, "--out", tmp_path / "tuned")
    options = ("--model", tmp_path / "tuned", "--data", digits, "--images", 2, "--n", 50, "--budgets", "3,0.1")
    options += ("--steps", 1, "--out", tmp_path / "rows.jsonl")
    output = run("attack", *options)
    assert re.findall(r"^radius (\S+): certified .* under attack .* % of 2 images$", output, re.M) == ["0", "0.1", "3"]
    assert "violations: 0 attacks" in output
    settings, *rows = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert json.loads(settings)["steps"] == 1 and len(rows) == 6
    false = {**json.loads(rows[0]), "certified": 1, "radius": 0.1, "budget": 0.1, "distance2": 650, "prediction": 2}
    (tmp_path / "rows.jsonl").write_text("\n".join([settings, json.dumps(false), *rows[1:]]) + "\n")
    assert "violations: 1 attacks" in run("attack", *options, code=1)
    false["distance2"] = 651  # (255 * 0.1)^2 is 650.25
    (tmp_path / "rows.jsonl").write_text("\n".join([settings, json.dumps(false), *rows[1:3]]) + "\n")
    assert "violations: 0 attacks" in run("attack", *options)
    assert (tmp_path / "rows.jsonl").read_text().splitlines()[4:] == rows[3:]  # made again, the same
    assert "holds attacks with other settings" in run("attack", *options, "--seed", 1, code=2)


def test_publish_says_what_would_be_sent(digits):
    output = run("publish", "--data", digits, "--images", 2, "--n", 50)
    assert "would be sent to me/resnet18s_ln_mixednoise.digits:" in output
    sent = set(re.findall(r"bytes  [0-9a-f]{12}  (\S+)$", output, flags=re.MULTILINE))
    assert {"README.md", "config.json", "model.safetensors"} <= sent


def test_readme_lists_every_script_and_a_command_for_every_table():
    text = (EXAMPLES / "README.md").read_text()
    scripts = {path.name for kind in ("py", "ipynb") for path in EXAMPLES.glob(f"**/*.{kind}")}
    assert set(re.findall(r"\]\((\w+\.(?:py|ipynb))\)", text)) == scripts
    count = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")[len(scripts) - 1]
    assert f"{count} scripts and a notebook" in text
    listed = [shlex.split(command) for command in re.findall(r"`robust-hub (reproduce \w+ --data [^`]*)`", text)]
    assert [words[1] for words in listed] == list(TABLES)
    for _, name, *options in listed:
        wanted = {row.dataset for row in TABLES[name].rows} | {"tiny-imagenet-32"}
        assert {option.split("=")[0] for option in options if option != "--data"} == wanted


def test_a_command_of_the_list_prints_ours_beside_the_papers_numbers():
    result = CliRunner().invoke(main, ["reproduce", "table6", "--show"])
    assert result.exit_code == 0, result.output
    assert "| batch norm |" in result.output and "(18.1) 12.3" in result.output
