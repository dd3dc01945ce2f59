"""Public docstrings have an example that runs, and say what comes back."""

import ast
import doctest
import importlib
import inspect
import re
from pathlib import Path

import pytest

import robust_hub

PAGES = ("lower_confidence_bound", "upper_confidence_bound", "certified_radius", "certify_counts", "predict_counts")
PAGES += ("fixed_plan", "sequential_plan", "closed_form_plan", "radius_plan", "shelve", "verify", "publish")
PAGES += ("smallest_n", "markdown_table")  # functions that the pages of docs, the commands and the examples rest on
METHODS = ("certify", "certify_batch", "predict", "classify")
SECTION = re.compile(r"^ *(Args|Attributes|Returns|Yields|Raises|Example|Source):", flags=re.MULTILINE)
SAYS = re.compile(r"^ *(Returns|Yields):$", flags=re.MULTILINE)
PUBLIC = {name: getattr(robust_hub, name) for name in robust_hub.__all__}
PUBLIC = {
    name: value
    for name, value in PUBLIC.items()
    if inspect.isroutine(value) or (inspect.isclass(value) and not issubclass(value, Exception))
}


def documented():
    """Every example of the package by the name, in its module, that it stands under."""
    found = {}
    home = Path(robust_hub.__file__).parent
    for path in sorted(home.rglob("*.py")):
        if ">>>" in path.read_text():
            name = ".".join(path.relative_to(home.parent).with_suffix("").parts)
            tests = doctest.DocTestFinder().find(importlib.import_module(name), name="")
            new = {test.name.removeprefix("."): test for test in tests if test.examples}
            assert not found.keys() & new.keys()
            found |= new
    return found


EXAMPLES = documented()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name):
    said = []
    assert doctest.DocTestRunner().run(EXAMPLES[name], out=said.append).failed == 0, "".join(said)


@pytest.mark.parametrize("name", [*PUBLIC, *PAGES])
def test_public_docstring_has_an_example_and_says_what_comes_back(name):
    assert name in EXAMPLES
    if not inspect.isclass(PUBLIC.get(name)):
        assert SAYS.search(EXAMPLES[name].docstring)


@pytest.mark.parametrize("method", METHODS)
def test_methods_say_what_comes_back_and_stand_in_the_examples_of_their_class(method):
    value = getattr(robust_hub.SmoothedClassifier, method)
    assert SAYS.search(inspect.getdoc(value))
    assert f"smoothed.{method}(" in EXAMPLES["SmoothedClassifier"].docstring


def repeated(source):
    """Docstrings with a section that stands in them twice, and the section."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, kinds):
            sections = SECTION.findall(ast.get_docstring(node) or "")
            found += [(getattr(node, "name", ""), name) for name in set(sections) if sections.count(name) > 1]
    return found


def test_each_section_of_a_docstring_stands_in_it_once():
    home = Path(robust_hub.__file__).parent
    assert [(path.name, *one) for path in home.rglob("*.py") for one in repeated(path.read_text())] == []
    assert repeated('def f():\n    """Do.\n\n    Returns:\n        A.\n\n    Returns:\n        B.\n    """') == [
        ("f", "Returns")
    ]
