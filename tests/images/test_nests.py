"""Nests: whatever data sets lie in one another, an item keeps its image and the name of its class."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_sources import Items, encoded, picture
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

from robust_hub.images.data import load_data

NAMES = ("ant", "bee", "cat", "dog", "eel")


class Leaf(Items):
    """Items with class names, and perhaps the labels beside."""

    def __init__(self, labels: list[Any], classes: Any, targets: Any = None, first: int = 0) -> None:
        super().__init__([(torch.full((1, 1, 2), first + i, dtype=torch.uint8), y) for i, y in enumerate(labels)])
        self.classes = classes
        if targets is not None:
            self.targets = targets


class Wrapped(Dataset[Any]):
    """A data set of another kind around one; it does to labels what it is told."""

    def __init__(self, dataset: Any, change: Any = lambda label: label) -> None:
        self.dataset, self.change = dataset, change

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, i: int) -> Any:
        image, label = self.dataset[i]
        return image, self.change(label)


@st.composite
def leaves(draw: st.DrawFn) -> tuple[Any, list[tuple[int, str]]]:
    """A data set and its plain specification: the image and the class name of each index."""
    classes = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    labels = draw(st.lists(st.integers(0, len(classes) - 1), min_size=1, max_size=5))
    first = draw(st.integers(0, 250))
    named = draw(st.booleans())
    given_labels: list[Any] = [classes[k] for k in labels] if named else list(labels)
    targets = draw(st.sampled_from([None, labels, torch.tensor(labels)]))
    return Leaf(given_labels, classes, targets, first), [(first + i, classes[k]) for i, k in enumerate(labels)]


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A part of a data set, several together, or a wrapper around one."""

    @st.composite
    def part(draw: st.DrawFn) -> Any:
        whole, spec = draw(inner)
        chosen = draw(st.lists(st.integers(0, len(spec) - 1), min_size=1, max_size=6))
        return Subset(whole, draw(st.sampled_from([chosen, torch.tensor(chosen)]))), [spec[i] for i in chosen]

    @st.composite
    def together(draw: st.DrawFn) -> Any:
        parts = draw(st.lists(inner, min_size=1, max_size=3))
        return ConcatDataset([one for one, _ in parts]), [entry for _, spec in parts for entry in spec]

    return st.one_of(part(), together(), inner.map(lambda one: (Wrapped(one[0]), one[1])))


@settings(max_examples=60, deadline=None)
@given(st.recursive(leaves(), nested, max_leaves=6))
def test_every_item_keeps_its_image_and_class_name(nest: tuple[Any, list[tuple[int, str]]]) -> None:
    dataset, spec = nest
    if len({name for _, name in spec}) < 2:
        with pytest.raises(ValueError, match="expected at least two classes"):
            load_data(dataset)
        return
    data = load_data(dataset)
    pixels, labels = data.batch(range(len(data)))
    found = list(zip(pixels[:, 0, 0, 0].tolist(), [data.classes[k] for k in labels], strict=True))
    assert found == spec
    assert len(set(data.classes)) == len(data.classes) and {name for _, name in spec} <= set(data.classes)


TEN = [str(k) + "th" for k in range(10)]


@pytest.mark.parametrize("targets", [None, [i % 10 for i in range(40)]])
def test_a_nested_part_of_ten_classes_keeps_ten(targets: Any) -> None:
    whole = Leaf([i % 10 for i in range(40)], TEN, targets)
    parts = [Subset(Subset(whole, range(30)), [0, 13, 22]), random_split(Subset(whole, range(30)), [20, 10])[1]]
    for part in (*parts, ConcatDataset(parts), Subset(ConcatDataset([parts[0], whole]), [0, 1, 5])):
        assert load_data(part).classes == tuple(TEN)
    assert load_data(parts[0]).labels.tolist() == [0, 3, 2]


def test_parts_of_other_names_are_matched_by_name() -> None:
    def merged(*lists: list[str]) -> tuple[tuple[str, ...], list[int]]:
        data = load_data(ConcatDataset([Leaf([0, 1], names) for names in lists]))
        return data.classes, data.labels.tolist()

    assert merged(["a", "b"], ["a", "b"]) == (("a", "b"), [0, 1, 0, 1])
    assert merged(["b", "a"], ["a", "b"]) == (("b", "a"), [0, 1, 1, 0])
    assert merged(["c", "a"], ["a", "b"]) == (("a", "b", "c"), [2, 0, 0, 1])
    assert merged(["b", "a"], ["d", "b", "a"]) == (("d", "b", "a"), [1, 2, 0, 1])


def test_parts_whose_names_leave_a_doubt_are_refused() -> None:
    named = Leaf([0, 1], ["a", "b"])
    unnamed = TensorDataset(torch.zeros(2, 1, 1, 2, dtype=torch.uint8), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="class names of all its data sets or of none, .* index 2 of ConcatDataset"):
        load_data(ConcatDataset([named, unnamed]))
    assert load_data(ConcatDataset([unnamed, unnamed])).classes == ("0", "1")
    with pytest.raises(ValueError, match="different class names in each data set of ConcatDataset, got one twice"):
        load_data(ConcatDataset([named, Leaf([0, 1], ["a", "a"])]))
    with pytest.raises(ValueError, match="expected labels from 0 to 1, got 2 at index 3 of ConcatDataset"):
        load_data(ConcatDataset([named, Leaf([0, 2], ["b", "c"])]))


@pytest.mark.parametrize("targets", [None, [0, 1, 2, 0]])
def test_names_are_not_put_on_labels_that_were_changed(targets: Any) -> None:
    inner = Leaf([0, 1, 2, 0], ["a", "b", "c"], targets)
    assert load_data(Wrapped(inner)).classes == ("a", "b", "c")
    assert load_data(Wrapped(inner, lambda label: label % 2)).classes == ("0", "1")
    assert load_data(Subset(Wrapped(inner, lambda label: 2 - label), [0, 1])).labels.tolist() == [2, 1]
    named = load_data(Wrapped(inner, lambda label: "abc"[label]))
    assert named.classes == ("a", "b", "c") and named.labels.tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize("targets", [None, [0, 1, 0]])
def test_a_target_transform_decides_labels_and_whether_names_hold(targets: Any) -> None:
    def changed(change: Any) -> Leaf:
        leaf = Leaf([change(k) for k in [0, 1, 0]], ["a", "b"], targets)
        leaf.target_transform = change  # type: ignore[attr-defined]
        return leaf

    data = load_data(changed(lambda label: 1 - label))
    assert data.classes == ("0", "1") and data.labels.tolist() == [1, 0, 1]
    data = load_data(changed(torch.tensor))
    assert data.classes == ("a", "b") and data.labels.tolist() == [0, 1, 0]


def test_tables_of_datasets_in_nests_keep_their_names() -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["x", "y"])})
    table = datasets.Dataset.from_dict({"image": [encoded(i) for i in range(3)], "label": [0, 1, 0]}, features=features)
    for whole in (table, table.with_format("torch")):
        data = load_data(Subset(whole, [2, 1]))
        assert data.classes == ("x", "y") and data.labels.tolist() == [0, 1]
    other = Items([(picture(7), 0), (picture(8), 1)])
    other.classes = ["y", "x"]  # type: ignore[attr-defined]
    both = load_data(ConcatDataset([table, other]))
    assert both.classes == ("x", "y") and both.labels.tolist() == [0, 1, 0, 1, 0]


def test_numbers_of_classes_name_them_too() -> None:
    leaf = Leaf([0, 1], None)
    leaf.class_to_idx = {"dog": 1, "cat": 0}  # type: ignore[attr-defined]
    assert load_data(Subset(leaf, [1, 0])).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        ({"bee": 1, "ant": 0}, ("ant", "bee")),
        ({1: "bee", 0: "ant"}, ("ant", "bee")),
        ([("ant", "emmet"), ("bee",)], ("ant, emmet", "bee")),
        ({"ant", "bee"}, None),
        ({"ant": 1, "bee": 2}, None),
        (iter(["ant", "bee"]), None),
    ],
)
def test_names_of_classes_are_in_the_order_of_their_numbers(classes: Any, named: Any) -> None:
    data = load_data(Leaf([0, 1, 1], classes))
    assert data.classes == (named or ("0", "1")) and data.named == (named is not None)


@pytest.mark.parametrize("numbers", [{"ant": 1, "bee": 0}, {"ant": 1, "bee": 2}, {"bee": 0}])
def test_classes_and_class_to_idx_agree(numbers: dict[str, int]) -> None:
    leaf: Any = Leaf([0, 1, 1], ["ant", "bee"])
    leaf.class_to_idx = numbers
    for whole in (leaf, Subset(leaf, [0, 1]), ConcatDataset([leaf, leaf])):
        with pytest.raises(
            ValueError, match="classes and class_to_idx of Leaf in one order, got '(ant|bee)', number [01]"
        ):
            load_data(whole)
    for other in ({"a": 1, "b": 0}, {"ant": 0, "emmet": 0, "bee": 1}, {"ant": 0, "bee": 1, "cat": 2}):
        leaf.class_to_idx = other
        assert load_data(leaf).classes == ("ant", "bee")


@pytest.mark.parametrize("twin", ["Ant", "ant ", "ANT"])
def test_joined_data_sets_spell_a_class_in_one_way(twin: str) -> None:
    with pytest.raises(ValueError, match="one spelling of a class, got .* in the data sets of ConcatDataset: rename"):
        load_data(ConcatDataset([Leaf([0, 1], ["ant", "bee"]), Leaf([0, 1], [twin, "bee"])]))


def test_numbers_do_not_become_names_in_a_subset() -> None:
    data = load_data(Leaf([0, 1, 2], None))
    assert not data.named and not load_data(Subset(data, [1, 2])).named
