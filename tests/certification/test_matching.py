"""Classes are matched by name: any order, any part; positions only where names say nothing, or the caller does."""

from __future__ import annotations

import unicodedata
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from robust_hub.certification.evaluate import certify
from robust_hub.certification.matching import BY_NAME, BY_POSITION, match, match_classes
from robust_hub.certification.smoothing import SmoothedClassifier
from robust_hub.evidence.records import read_run
from robust_hub.guarantee.certificate import ABSTAIN
from robust_hub.images.data import ImageData, load_data
from robust_hub.models.classes import class_names, note_class_names

PETS = ("cat", "dog", "owl")
FLAT: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "progress": False, "every": 1, "n": 50, "seed": 1}
NAMES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=8),
    min_size=2,
    max_size=12,
    unique=True,
)


def data(*names: str, labels: list[int] | None = None, named: bool = True) -> ImageData:
    """One image a class, or those of some labels; its brightest channel is its class among the pets'."""
    labels = list(range(len(names))) if labels is None else labels
    pixels = torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8)
    for row, label in enumerate(labels):
        pixels[row, PETS.index(names[label].lower()) if names[label].lower() in PETS else 0] = 255
    return ImageData(pixels, torch.tensor(labels), names, name="pets", split="test", named=named)


def colours(names: tuple[str, ...] | None = PETS) -> nn.Sequential:
    """A network that is right: red is the first class, green the second, blue the third."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3, bias=False))
    network[2].weight.data = 10 * torch.eye(3)
    note_class_names(network, names)
    return network


def silently(*arguments: Any) -> Any:
    """Match without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return match_classes(*arguments)


@given(names=NAMES, choose=st.data())
def test_a_label_is_the_output_of_its_name_in_any_order_and_part(names: list[str], choose: st.DataObject) -> None:
    order = choose.draw(st.permutations(names))
    kept = order[: choose.draw(st.integers(1, len(order)))]
    labels = choose.draw(st.lists(st.integers(0, len(kept) - 1), min_size=1, max_size=5))
    pets = ImageData(torch.zeros(len(labels), 3, 1, 1), torch.tensor(labels), kept, name="pets", split="test")
    found = silently(pets, names, len(names))
    assert found.matched == BY_NAME and found.names == tuple(names)
    assert [names[found.output(label)] for label in labels] == [kept[label] for label in labels]


@given(names=NAMES, choose=st.data())
def test_a_name_that_the_network_does_not_know_is_never_taken_for_another(
    names: list[str], choose: st.DataObject
) -> None:
    own = [f"known {name}" for name in names]
    stranger = f"unknown {names[0]}"
    kept = [*choose.draw(st.permutations(own))[1:], stranger]
    with pytest.raises(ValueError, match="expected classes that the network knows"):
        match_classes(data(*kept), own, len(own))


@pytest.mark.parametrize(
    ("names", "outputs"),
    [
        (("dog", "owl"), (1, 2)),
        (("owl", "cat"), (2, 0)),
        (("owl", "dog", "cat"), (2, 1, 0)),
        (("Dog", "OWL"), (1, 2)),
    ],
)
def test_a_run_of_a_part_of_the_classes_is_right(
    names: tuple[str, ...], outputs: tuple[int, ...], tmp_path: Any
) -> None:
    run = certify(colours(), data(*names), 0.25, out=tmp_path, **FLAT)
    assert tuple(record.label for record in run.records) == outputs
    assert all(record.predict == record.base == record.label and record.correct for record in run.records)
    again = read_run(tmp_path)
    assert again.classes == PETS and again.identity["matched"] == BY_NAME
    assert [again.name(record.predict) for record in again.records] == [name.lower() for name in names]


def test_a_run_is_not_gone_on_with_under_another_matching(tmp_path: Any) -> None:
    certify(colours(), data("dog", "owl"), 0.25, out=tmp_path, **FLAT)
    with pytest.raises(ValueError, match='matched is "by name" there and "by position" here; outputs is'):
        certify(colours(), data("dog", "owl"), 0.25, out=tmp_path, classes="by position", **FLAT)
    with pytest.raises(ValueError, match=r"outputs is \[1, 2\] there and \[0, 2\] here"):
        certify(colours(("dog", "cat", "owl")), data("dog", "owl"), 0.25, out=tmp_path, **FLAT)


def test_renumbered_data_have_the_networks_classes() -> None:
    pets = data("owl", "dog", labels=[1, 0, 0])
    ours = match_classes(pets, PETS, 3).renumber(pets)
    assert ours.classes == PETS and ours.labels.tolist() == [1, 2, 2] and pets.labels.tolist() == [1, 0, 0]
    assert torch.equal(ours.batch([0, 1, 2])[0], pets.batch([0, 1, 2])[0]) and ours.data_hash != pets.data_hash
    nameless = match_classes(data("dog", "owl", named=False), None, 3, "by position")
    assert nameless.renumber(pets).classes == ("owl", "dog")


def test_compiled_networks_are_matched_by_the_same_names() -> None:
    made = torch.compile(colours(), backend="eager")
    smoothed = SmoothedClassifier(made, mean=FLAT["mean"], std=FLAT["std"])  # type: ignore[arg-type]
    assert match(smoothed, data("owl", "dog")).outputs == (2, 1)
    assert smoothed.classes == PETS


def test_a_prediction_is_said_in_words() -> None:
    smoothed = SmoothedClassifier(colours(), mean=FLAT["mean"], std=FLAT["std"])
    certificate = smoothed.certify(data("owl")[0][0], 0.25, n=50, seed=1)
    assert smoothed.name(certificate.prediction) == "owl" and smoothed.name(ABSTAIN) == "abstain"
    nameless = SmoothedClassifier(colours(None), mean=FLAT["mean"], std=FLAT["std"])
    assert nameless.classes is None and nameless.name(2) == "2"


def test_names_are_compared_as_people_and_file_systems_write_them() -> None:
    own = ("polar bear", "Käse", "7", "sweet_pepper")
    asked = (unicodedata.normalize("NFD", "käse"), "Sweet-Pepper", "007", "polar_bear")
    assert silently(data(*asked), own, 4).outputs == (1, 3, 2, 0)
    with pytest.raises(ValueError, match=r"got 'Crane' in pets \(did you mean crane or CRANE\?\)"):
        match_classes(data("Crane", "dog"), ("crane", "CRANE", "dog"), 3)
    with pytest.raises(ValueError, match="got 'Dog' in pets"):
        match_classes(data("dog", "Dog"), PETS, 3)


def test_two_outputs_of_one_name_are_told_apart_by_equal_lists_alone() -> None:
    own = ("crane", "maillot", "maillot", "crane")
    assert silently(data(*own), own, 4).outputs == (0, 1, 2, 3)
    with pytest.raises(ValueError, match="it has several of that name"):
        match_classes(data("maillot", "crane"), own, 4)


def test_classes_without_an_image_may_be_anything() -> None:
    found = silently(data("owl", "hamster", "dog", labels=[0, 2, 2]), PETS, 3)
    assert found.outputs == (2, None, 1)


@pytest.mark.parametrize("names", [("a", "b", "c"), ("cat", "dog", "owls"), ("owls", "dog")])
def test_other_names_are_refused_whatever_their_number(names: tuple[str, ...], tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"got '\w.*did you mean .*owl.*fine-tune .*by position"):
        certify(colours(), data(*names), 0.25, out=tmp_path / "run", **FLAT)
    assert not (tmp_path / "run").exists()
    run = certify(colours(), data(*names), 0.25, out=tmp_path / "run", classes="by position", **FLAT)
    assert [record.label for record in run.records] == list(range(len(names)))


def test_a_network_without_names_is_taken_by_position_with_a_warning_that_names_the_caller(tmp_path: Any) -> None:
    with pytest.warns(
        UserWarning, match="has no class names, so the classes of pets, 'cat', 'dog', 'owl', are"
    ) as said:
        run = certify(colours(None), data(*PETS), 0.25, out=tmp_path, **FLAT)
    assert [one.filename for one in said] == [__file__]
    assert run.classes == PETS and run.identity["matched"] == BY_POSITION


@pytest.mark.parametrize("names", [("dog", "owl"), ("0", "1"), ("a", "b", "c", "d")])
def test_a_network_without_names_refuses_another_number_of_classes(names: tuple[str, ...]) -> None:
    with pytest.raises(
        ValueError, match=rf"labels of the model's 3 classes, got {len(names)} classes.*it has no names"
    ):
        match_classes(data(*names), None, 3)
    with pytest.raises(ValueError, match="labels of the model's 1000 classes"):
        match_classes(data(*names), None, 1000)


def test_names_of_another_classifier_are_none() -> None:
    network = colours(("one", "two"))
    assert class_names(network, 3) is None and class_names(network, 2) == ("one", "two")
    network.num_classes = 3  # type: ignore[assignment]
    assert class_names(network) is None
    note_class_names(network, None)
    assert network.pretrained_cfg == {}
    network.pretrained_cfg = {"label_names": {"1": "dog", "0": "cat", "2": "owl"}}  # type: ignore[assignment]
    assert class_names(network) == PETS


def test_the_caller_can_name_the_outputs_of_a_network_that_does_not() -> None:
    assert silently(data("dog", "owl"), None, 3, PETS).outputs == (1, 2)
    with pytest.raises(ValueError, match="a name for each of the network's 3 classes, got 2"):
        match_classes(data("dog", "owl"), None, 3, ("dog", "owl"))
    for wrong in ("by-position", "cat", (0, 1, 2)):
        with pytest.raises(ValueError, match="expected classes='by position', or the names"):
            match_classes(data(*PETS), None, 3, wrong)  # type: ignore[arg-type]


def test_numbers_for_words_say_nothing() -> None:
    for names, own in ((("0", "1", "2"), PETS), (PETS, ("0", "1", "2")), (PETS, ("LABEL_0", "LABEL_1", "LABEL_2"))):
        with pytest.warns(UserWarning, match="are taken by position, label k for output k"):
            assert match_classes(data(*names), own, 3).matched == BY_POSITION
        assert silently(data(*names), own, 3, "by position").outputs == (0, 1, 2)
    with pytest.raises(ValueError, match="got 2 classes, '0', '1', in pets, and its own are 'cat', 'dog', 'owl'"):
        match_classes(data("0", "1"), PETS, 3)


def test_numbers_are_names_where_both_have_them() -> None:
    own = tuple(sorted(str(k) for k in range(12)))  # as folders are ordered: "10" before "2"
    assert own[2] == "10"
    assert silently(data("10", "2"), own, 12).outputs == (2, 4)
    assert silently(data("0", "1", "2"), own, 12).outputs == (0, 1, 4)
    assert silently(data(*map(str, range(12))), own, 12).output(10) == 2


def test_numbers_by_position_are_warned_of_where_text_and_number_have_another_order() -> None:
    folders = sorted(str(k) for k in range(12))
    with pytest.warns(
        UserWarning, match=r"in the order '0', '1', '10', '11', \.\.\., that of text and of torchvision's"
    ):
        assert match_classes(data(*folders), None, 12).outputs == tuple(range(12))
    with pytest.warns(UserWarning, match="that of text"):
        match_classes(data(*folders), None, 12, "by position")
    assert silently(data(*map(str, range(12))), None, 12).outputs == tuple(range(12))


def test_labels_without_names_are_outputs_and_nothing_else() -> None:
    unnamed = data("0", "1", "2", named=False)
    assert silently(unnamed, None, 3).outputs == (0, 1, 2)
    assert silently(data("0", "1", named=False), ("0", "1", "2"), 3).outputs == (0, 1)
    with pytest.warns(UserWarning, match="calls its classes 'cat', 'dog', 'owl'"):
        match_classes(unnamed, PETS, 3)
    with pytest.raises(ValueError, match="got labels up to 1 without names, in pets"):
        match_classes(data("0", "1", named=False), None, 3)
    with pytest.raises(ValueError, match="got labels without names in pets"):
        match_classes(unnamed, ("0", "10", "2"), 3)
    assert silently(data("0", "1", named=False), None, 3, "by position").outputs == (0, 1)


def test_a_label_beyond_the_outputs_is_refused_by_position_too() -> None:
    with pytest.raises(ValueError, match=r"labels of the model's 3 classes, got 3 \(d\) in pets"):
        match_classes(data("a", "b", "c", "d"), None, 3, "by position")
    assert match_classes(data("a", "b", "c", "d", labels=[0, 2]), None, 3, "by position").outputs == (0, 1, 2, None)


def test_whether_a_source_has_names_goes_with_its_parts() -> None:
    items = [(torch.zeros(3, 4, 4), k % 2) for k in range(6)]
    unnamed = load_data(items)  # type: ignore[arg-type]
    assert not unnamed.named and not unnamed.subset([0, 1]).named and not unnamed.to("cpu").named
    digits = load_data("digits", "test")
    assert digits.named and digits.subset(range(8)).named


def test_names_that_a_caller_gives_have_an_order() -> None:
    import numpy as np

    for names in (list(PETS), PETS, np.array(PETS)):
        assert match_classes(data(*PETS), None, 3, names).outputs == (0, 1, 2)
    for unordered in (set(PETS), {"cat": 1, "dog": 0, "owl": 2}, (name for name in PETS), b"cat", [1, 2, 3]):
        with pytest.raises(
            ValueError, match="names of the network's classes, got .*: give a list of names in the order"
        ):
            match_classes(data(*PETS), PETS, 3, unordered)  # type: ignore[arg-type]
