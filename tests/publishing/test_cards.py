"""Model cards: every number is a record's, the metadata are the Hub's, the snippets run."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from jinja2 import Environment, StrictUndefined, Template, UndefinedError
from markdown_it import MarkdownIt
from markdown_it.token import Token

from robust_hub.certification.evaluate import certify
from robust_hub.errors import CheckpointError
from robust_hub.evidence.accuracy import certified_accuracy, clean_accuracy, proportion
from robust_hub.evidence.records import records_hash
from robust_hub.images.data import load_data
from robust_hub.layout import CARD, CERTIFICATION, CONFIG, PICTURE, RECORDS, RUN, TRAINING, UNDER_NOISE
from robust_hub.models.checkpoint import save_checkpoint
from robust_hub.models.labels import name_classes
from robust_hub.models.shelves import PACKAGED, checkpoint_folder, list_checkpoints
from robust_hub.provenance import Provenance
from robust_hub.publishing.cards import card, write_card
from robust_hub.publishing.data_sets import DATA_SETS
from robust_hub.publishing.evidence import certification, describe, read_evidence
from robust_hub.publishing.hub import verify
from robust_hub.publishing.shelf import shelve

NAME = "resnet18s_ln_mixednoise"


def front_matter(text: str) -> Any:
    parsed = ModelCard(text)
    parsed.data.to_yaml()
    return parsed.data


def snippets(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint with two sigmas of sequential records on digits."""
    home = tmp_path_factory.mktemp("card")
    torch.manual_seed(0)
    model = timm.create_model("resnet18s_ln", num_classes=10, channels=(32, 32, 32, 32), layers=(1, 1, 1, 1))
    save_checkpoint(
        model,
        home / "run",
        provenance=Provenance.from_json({"job": "finetune", "data": "digits", "epochs": 2, "nothing": None}),
    )
    test = load_data("digits", split="test")
    for sigma in (0.5, 0.25):
        options = {"every": 60, "n": 300, "radii": (0.0, 0.1, 0.25), "alpha": 0.01, "seed": 4, "progress": False}
        certify(model.eval(), test, sigma, out=home / f"{sigma:g}", **options)
    runs = [home / "0.25", home / "0.5"]
    return shelve(home / "run", "resnet18s_ln.digits", certified=runs, license="apache-2.0", shelf=home / "shelf")


def test_numbers_are_those_of_the_records(folder: Path) -> None:
    text = card(read_evidence("resnet18s_ln.digits", folder))
    for run in certification(folder):
        share = certified_accuracy(run.records, 0.1)
        assert f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]" in text
        assert f"- sigma {run.sigma:g}: {len(run.records)} images of scikit-learn's digits, test split" in text
    assert "sequential plan, n = 300, alpha = 0.01, noise seed 4, network in float32" in text
    assert "alpha = 0.01 in the table below" in text
    assert text == card(read_evidence("resnet18s_ln.digits", folder))


def test_the_guarantee_is_for_images_closer_than_the_radius_and_says_of_what(folder: Path, tmp_path: Path) -> None:
    text = card(read_evidence("resnet18s_ln.digits", folder))
    assert "every image that is closer to the certified one than the certified radius" in text
    assert "resized, cropped and of 8 bits, and the network is this one in its type as deployed" in text
    assert "it is optimistic, since sigma was chosen on the images that it is measured on" in text
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    for noise, said in (("float32", "for networks that do not exploit float rounding"), ("lattice255", "8-bit pixels")):
        for other in (False, True):  # runs of two data sets share no table
            for i, path in enumerate(sorted(copy.glob(f"{CERTIFICATION}/*/{RUN}"))):
                run = json.loads(path.read_text())
                run["identity"] |= {"noise": noise, "data": "letters" if other and i else "digits"}
                path.write_text(json.dumps({**run, "reproduction": False}))
            text = card(read_evidence("resnet18s_ln.digits", copy))
            assert text.count("Noise: ") == text.count(said) == 1 and "drew its seed after network and images" in text
            assert ("drawn in float32, and the theorem is about real numbers" in text) == (noise == "float32")
            check_rendering(text)


def test_classes_are_named_as_the_runs_number_them(folder: Path, tmp_path: Path) -> None:
    assert "numbered" not in card(read_evidence("resnet18s_ln.digits", folder))  # "0" to "9" say nothing
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    names, paths = [f"digit {k}" for k in range(10)], sorted(copy.glob(f"{CERTIFICATION}/*/{RUN}"))
    for path, said in zip(paths, (names, [*names, *map(str, range(15))]), strict=True):
        for one in paths[: 1 + paths.index(path)]:
            run = json.loads(one.read_text())
            run["identity"] |= {"classes": said, "matched": "by name"}
            one.write_text(json.dumps(run))
        text = card(read_evidence("resnet18s_ln.digits", copy))
        check_rendering(text)
        if path == paths[0]:  # the other run says "0" to "9": two stories are none
            assert "numbered" not in text and text.count("classes matched by name") == 1
    assert "Its classes are numbered in this order: digit 0, digit 1, " in text and "digit 9, 0, 1, " in text
    assert " 9 and 5 more." in text and text.count("network in float32, classes matched by name") == 2


def test_names_in_a_folder_break_no_card(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    evil = "a|b\x1b[2J\n\n# c"
    for path in copy.glob(f"{CERTIFICATION}/*/{RUN}"):
        run = json.loads(path.read_text())
        run["identity"] |= {"data": evil, "split": evil, "noise": evil, "classes": [evil] * 10, "matched": evil}
        path.write_text(json.dumps(run))
    text = card(read_evidence("resnet18s_ln.digits", copy))
    assert all(line.isprintable() for line in text.split("\n")) and "\n# c" not in text
    worth = describe(read_evidence("resnet18s_ln.digits", copy))
    assert (worth.data or "").isprintable() and worth.trained.isprintable()
    config = json.loads((copy / CONFIG).read_text())
    config["robust_hub"]["recipe"]["history"] = [{"loss": "x"}]
    (copy / CONFIG).write_text(json.dumps(config))
    with pytest.raises(ValueError, match="expected loss and accuracy of each epoch, got .*restore config.json"):
        card(read_evidence("resnet18s_ln.digits", copy))
    config["robust_hub"]["recipe"] |= {"data": evil}
    (copy / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="expected a line of text"):
        read_evidence("resnet18s_ln.digits", copy)


def test_metadata_are_taken_by_the_hubs_own_reader(folder: Path) -> None:
    data = front_matter(card(read_evidence("resnet18s_ln.digits", folder)))
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "robust-hub", "image-classification")
    assert "norm-ln" in data.tags
    results = {(r.metric_args or {}).get("sigma"): {} for r in data.eval_results}
    for result in data.eval_results:
        args = result.metric_args
        results[args.get("sigma")][args.get("radius")] = (result.metric_value, args["images"])
    for run in certification(folder):
        for radius in (0.1, 0.25):
            share = certified_accuracy(run.records, radius)
            assert results[run.sigma][radius] == (round(100 * share.value, 2), share.n)
    clean = clean_accuracy(certification(folder)[0].records)
    assert clean is not None and results[None][None] == (round(100 * clean.value, 2), clean.n)
    name, _ = model_index_to_eval_results(data.to_dict()["model-index"])
    assert name == "resnet18s_ln.digits"


def test_a_number_changed_in_a_record_changes_the_card(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    before = card(read_evidence("resnet18s_ln.digits", copy))
    file = next(copy.glob("certification/*0.25/records.tsv"))
    lines = file.read_text().splitlines()
    index, label, *rest = lines[1].split("\t")
    other = str((int(label) + 1) % 10)  # the certified class, and so the accuracy, is then another one's
    file.write_text("\n".join([lines[0], "\t".join([index, other, *rest]), *lines[2:]]) + "\n")
    with pytest.raises(ValueError, match="expected the records that the run ended with"):
        read_evidence("resnet18s_ln.digits", copy)
    run = json.loads((file.parent / "run.json").read_text())
    (file.parent / "run.json").write_text(json.dumps({**run, "records_sha256": records_hash(file.read_text())}))
    assert card(read_evidence("resnet18s_ln.digits", copy)) != before


def test_writing_draws_the_curves_and_leaves_nothing_else(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    before = {path.name for path in copy.iterdir()}
    assert write_card("resnet18s_ln.digits", copy) == copy / CARD
    assert {path.name for path in copy.iterdir()} == before | {CARD, PICTURE}
    assert (copy / PICTURE).read_bytes().startswith(b"\x89PNG")


def test_without_records_it_says_so_and_claims_no_results(tmp_path: Path) -> None:
    save_checkpoint(timm.create_model("resnet18s_bn"), tmp_path)
    text = card(read_evidence("resnet18s_bn", tmp_path))
    assert "No certification records of its own" in text and "No recipe was kept." in text
    assert "Batch norm seldom keeps its robustness" in text
    assert front_matter(text).eval_results is None and PICTURE not in text


def test_accuracy_under_noise_is_what_was_measured(tmp_path: Path) -> None:
    save_checkpoint(
        timm.create_model("resnet18s_ln"),
        tmp_path,
        provenance=Provenance.from_json({"job": "pretrain", "sigmas": [0.0, 0.25]}),
    )
    assert "## Accuracy under noise" not in card(read_evidence("resnet18s_ln", tmp_path))
    row = {"data": "tiny-imagenet-32", "split": "validation", "images": 400, "dtype": "float32", "weights": "ab"}
    row["right"] = {"0.25": 100, "0": 300}
    file = tmp_path / TRAINING / UNDER_NOISE
    file.parent.mkdir()
    file.write_text(json.dumps({**row, "done": 3}))  # the measurement is under way
    assert "## Accuracy under noise" not in card(read_evidence("resnet18s_ln", tmp_path))
    file.write_text(json.dumps(row))
    text = card(read_evidence("resnet18s_ln", tmp_path))
    shares = [proportion(300, 400).percent, proportion(100, 400).percent]
    assert f"| clean | sigma 0.25 |\n|---|---|\n| {shares[0]} | {shares[1]} |" in text
    assert "all 1000 classes allowed, on 400 images of Tiny-ImageNet-200 at 32x32, validation split" in text
    for damaged in ("{", "[]", json.dumps({**row, "right": {"0": 500}}), json.dumps({**row, "right": None})):
        file.write_text(damaged)
        with pytest.raises(ValueError, match=r"expected accuracies under noise in .*under_noise.json, got .*again"):
            card(read_evidence("resnet18s_ln", tmp_path))


def test_what_the_network_saw_is_said_in_words(tmp_path: Path) -> None:
    base = {"job": "pretrain", "data": "imagenet284-64-views9", "sigmas": [0.0, 0.25], "epochs": 4}
    row = {"epoch": 1, "loss": 1.0, "accuracy": 0.5, "seconds": 90}
    recipe = {"job": "finetune", "data": "runs/cifar10", "images": 50_000, "history": [row, row], "base": base}
    save_checkpoint(timm.create_model("resnet18s_ln"), tmp_path, provenance=Provenance.from_json(recipe))
    text = card(read_evidence("resnet18s_ln.x", tmp_path))
    assert "cifar10 is CIFAR-10; imagenet284-64-views9 is 173,394 photographs of 284 ImageNet classes" in text
    assert "100,000 images seen in 3.0 minutes in all" in text
    assert "nine 32x32 views: parts of ImageNet, whose terms of access are non-commercial research" in text


def test_a_clean_baseline_is_called_one(tmp_path: Path) -> None:
    save_checkpoint(
        timm.create_model("resnet18s_ln"),
        tmp_path,
        provenance=Provenance.from_json({"job": "pretrain", "sigmas": [0.0]}),
    )
    assert "is a baseline" in card(read_evidence("resnet18s_ln", tmp_path))


def test_a_folder_that_holds_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a checkpoint folder"):
        card(read_evidence("nothing", tmp_path))


def test_snippets_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Those of the packaged checkpoint, word for word; two steps stand for the epoch of its fine-tuning."""
    folder = checkpoint_folder(NAME)
    assert folder is not None
    blocks = snippets(card(read_evidence(NAME, folder)))
    assert len(blocks) == 3 and "finetune_clean" in blocks[1] and "certify(" in blocks[2]
    digits = load_data("digits", split="train")
    few = digits.subset(range(100)) if hasattr(digits, "subset") else digits
    monkeypatch.setattr("robust_hub.training.finetune.load_data", lambda *args, **options: few, raising=False)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["certificate"].n <= 1000 and names["result"].model is names["model"]


@pytest.mark.parametrize("stem", ["cifar_s2", "imagenet"])
def test_it_says_whether_plain_timm_loads_it(tmp_path: Path, stem: str) -> None:
    folder = save_checkpoint(timm.create_model("resnet18s_ln", stem=stem), tmp_path)
    text, plain = (
        card(read_evidence("mine", folder), repo_id="me/mine"),
        'Without robust_hub: `timm.create_model("hf-hub:me/mine", pretrained=True)`',
    )
    assert (plain in text, front_matter(text).library_name) == {
        "imagenet": (True, "timm"),
        "cifar_s2": (False, "robust-hub"),
    }[stem]
    assert ("timm cannot make it: it has no stem `cifar_s2`." in text) == (stem == "cifar_s2")


@pytest.mark.parametrize(
    ("norm", "recipe", "said"),
    [
        ("ln", {"job": "pretrain", "sigmas": [0.0, 0.5]}, "the robustness that noise in pretraining taught survives"),
        ("bn", {"job": "pretrain", "sigmas": [0.0, 0.5]}, "fine-tuning on clean images takes much of the robustness"),
        ("gn", {"job": "pretrain", "sigmas": [0.0]}, "It is a baseline for comparisons: no noise taught it"),
        ("gn", {"job": "pretrain", "sigmas": [0.25]}, "it saw noise of one level and no clean image"),
        ("gn", {"job": "finetune"}, "What robustness it has comes from pretraining."),
        ("gn", {"job": "finetune", "sigmas": [0.25]}, "comes from fine-tuning on noisy images"),
        (
            "gn",
            {"job": "finetune", "sigmas": [0.25], "base": {"job": "pretrain", "sigmas": [0.25]}},
            "it has comes from pretraining and fine-tuning on noisy images",
        ),
        ("in", {}, "the robustness that noise in pretraining taught survives"),
    ],
)
def test_it_promises_what_norm_and_training_allow(norm: str, recipe: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = save_checkpoint(timm.create_model(f"resnet18s_{norm}"), tmp_path, provenance=Provenance.from_json(recipe))
    text = card(read_evidence("mine", folder))
    assert said in text and "(alpha is yours to choose)" in text
    assert text.count("survives") == (said.count("survives"))


def rendered(text: str) -> list[Token]:
    """What a Markdown renderer makes of a card, as the Hub shows it: without its metadata."""
    return MarkdownIt("commonmark").enable("table").parse(text.split("---\n", 2)[2])


def check_rendering(text: str) -> None:
    """Headings, tables and fences are what they were meant to be, and nothing of their marks is left in the prose."""
    tokens = rendered(text)
    kinds = [token.type for token in tokens]
    titles = [tokens[at + 1].content for at, kind in enumerate(kinds) if kind == "heading_open"]
    measured = ["Accuracy under noise"] if "draw of noise an image" in text else []
    wanted = ["Certified accuracy", *measured, "Use", "Training", "Limits", "Licence and data", "Citation"]
    assert titles[1:] == wanted and [token.tag for token in tokens if token.type == "heading_open"] == [
        "h1",
        *["h2"] * len(wanted),
    ]
    assert [token.info for token in tokens if token.type == "fence"] == [
        *["python"] * len(snippets(text)),
        "sh",
        "bibtex",
    ]
    assert kinds.count("table_open") == text.count("\n|---")
    columns = 0
    for token in tokens:
        columns = 0 if token.type == "tr_open" else columns + (token.type in ("th_open", "td_open"))
        if token.type == "tr_close":
            assert columns >= 2
        if token.type == "inline":
            for part in token.children or []:
                if part.type == "text":
                    assert not re.search(r"```|\*\*|\|---|\]\(|^#", part.content), part.content


def test_a_renderer_makes_of_it_what_was_meant(folder: Path) -> None:
    check_rendering(card(read_evidence("resnet18s_ln.digits", folder)))
    packaged = checkpoint_folder(NAME)
    assert packaged is not None
    check_rendering(card(read_evidence(NAME, packaged)))


def shelved() -> list[str]:
    """The checkpoints of the clone's shelf; the packaged one has no card of its own."""
    folders = {name: checkpoint_folder(name) for name in list_checkpoints()}
    return [name for name, folder in folders.items() if folder is not None and folder.parent != PACKAGED]


@pytest.mark.parametrize("name", shelved())
def test_cards_on_the_shelf_are_what_their_records_say(name: str) -> None:
    evidence = read_evidence(name)
    written = (evidence.folder / CARD).read_text()
    assert written == card(evidence), f"robust-hub card {evidence.folder}"
    assert (evidence.folder / PICTURE).exists() == bool(evidence.runs)
    check_rendering(written)
    code = "\n".join(snippets(written))
    compile(code, name, "exec")


def test_each_file_is_read_once_for_a_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[Path] = Counter()

    def counting(read: Callable[..., Any]) -> Callable[..., Any]:
        def counted(path: Path, *args: Any, **options: Any) -> Any:
            reads[path] += 1
            return read(path, *args, **options)

        return counted

    monkeypatch.setattr(Path, "open", counting(Path.open))  # which read_text and read_bytes call, too
    card(read_evidence("resnet18s_ln.digits", folder))
    runs = [folder / CERTIFICATION / f"digits_sigma_{sigma}" for sigma in ("0.25", "0.5")]
    own = {folder / CONFIG, *(run / file for run in runs for file in (RECORDS, RUN))}
    assert {path: count for path, count in reads.items() if folder in path.parents} == dict.fromkeys(own, 1)


def test_the_template_is_given_every_value_that_it_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jinja writes nothing where a value is missing: here it is an error."""

    def strict(text: str) -> Template:
        return Environment(undefined=StrictUndefined).from_string(text)

    monkeypatch.setattr("jinja2.Template", strict)
    for text in (card(read_evidence(NAME)), card(read_evidence("resnet18s_ln.digits", folder))):
        assert "{{" not in text and "{%" not in text
    monkeypatch.setattr("robust_hub.publishing.cards._data", lambda _: {})
    with pytest.raises(UndefinedError, match="'data_note' is undefined"):
        card(read_evidence(NAME))


def test_data_sets_have_a_name_and_terms() -> None:
    assert all(one.title and one.terms for one in DATA_SETS.values())


@pytest.mark.parametrize("name", [RUN, RECORDS])
def test_records_that_lead_out_of_the_folder_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    path = next(copy.glob(f"{CERTIFICATION}/*/{name}"))
    path.rename(tmp_path / name)
    path.symlink_to(tmp_path / name)
    with pytest.raises(ValueError, match="which leads to .*: copy the file there"):
        read_evidence("resnet18s_ln.digits", copy)


def test_names_of_classes_in_config_and_records_agree(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    for path in copy.glob(f"{CERTIFICATION}/*/{RUN}"):
        run = json.loads(path.read_text())
        run["identity"] |= {"classes": [f"digit {k}" for k in range(10)], "matched": "by name"}
        path.write_text(json.dumps(run))
    name_classes(copy, [f"digit {k}" for k in range(10)])
    assert "digit 0, digit 1, " in card(read_evidence("resnet18s_ln.digits", copy))
    name_classes(copy, [f"digit {9 - k}" for k in range(10)])
    words = "got class 0 as digit 0 in the records of digits, as digit 9 in it: name its classes as they were"
    with pytest.raises(ValueError, match=words):
        read_evidence("resnet18s_ln.digits", copy)
    with pytest.raises(ValueError, match=words):
        verify(copy)
