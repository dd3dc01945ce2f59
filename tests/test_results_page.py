"""docs/results.md: its numbers are those of the records, in its prose too, and what it claims of them is checked."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from jinja2 import UndefinedError

TOOLS = Path(__file__).parents[1] / "tools"
pytestmark = pytest.mark.skipif(not TOOLS.exists(), reason="the tools are not part of this copy")

if TOOLS.exists():
    import make_results
    import results_records
    import results_trials
    from make_results import FIGURES, PAGE, TABLES, TEMPLATE, fraction, in_words, listed, render, span, up_to
    from results_trials import trial

    from robust_hub import ABSTAIN
    from robust_hub.evidence.accuracy import certified_accuracy, clean_accuracy
    from robust_hub.evidence.comparisons import best_per_radius


def prose():
    """The page without its tables."""
    return render(TEMPLATE.read_text(), {**FIGURES, **dict.fromkeys(TABLES, lambda: "")})


def lose(monkeypatch, table, label, scale, images):
    """Have the first images that a network is right about certified nowhere."""
    network = results_records.network(table, label, scale)
    runs = []
    for run in network.runs:
        right = [record.idx for record in run.records if record.correct][:images]
        lost = [replace(r, predict=ABSTAIN, radius=0.0, correct=0) if r.idx in right else r for r in run.records]
        runs.append(replace(run, records=tuple(lost)))
    recorded = results_records.Recorded(tuple(runs), network.checkpoint)
    monkeypatch.setitem(results_records._READ, (network.row.name, scale), recorded)


def test_the_page_is_what_its_template_and_the_records_make_of_it():
    assert make_results.page() == PAGE.read_text(), "python tools/make_results.py"


def test_a_record_that_changes_changes_the_prose(monkeypatch):
    before = prose()
    layer = results_records.network("table6", "layer norm", "small42")
    lose(monkeypatch, "table6", "layer norm", "small42", 3)
    changed = results_records.network("table6", "layer norm", "small42").at(0.25)
    assert layer.at(0.25) - 1 < changed < layer.at(0.25)
    after = prose()
    assert f"and {layer.at(0.25):.1f} %)" in before and f"and {changed:.1f} %)" in after
    lines = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert lines and all(re.sub(r"[\d.]+", "", one) == re.sub(r"[\d.]+", "", two) for one, two in lines)


def test_claims_that_no_longer_hold_are_named_all_of_them(monkeypatch):
    lose(monkeypatch, "table6", "layer norm", "small", 150)
    with pytest.raises(ValueError, match=r"^expected what results\.md\.jinja says, got other records for .*") as raised:
        prose()
    said = re.findall('"([^"]+)"', str(raised.value))
    assert "keep more of their robustness" in said and "a single sigma a part of it" not in said and len(said) > 1


def test_a_trial_that_changes_changes_the_prose(tmp_path):
    lines = [json.loads(line) for line in results_trials.RATES.read_text().splitlines()]
    (changed,) = (line for line in lines if line == trial(0.01))
    was = changed["radius 0.25"]
    changed["radius 0.25"] = was + 1.2
    trials = tmp_path / "rates.jsonl"
    trials.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert render("{{ votes(0.01) }} at {{ half_width() }}", FIGURES) == f"{was:.1f} at 4.4"
    assert render("{{ votes(0.01, trials=trials) }}", {**FIGURES, "trials": trials}) == f"{was + 1.2:.1f}"
    trials.write_text("".join(f"{json.dumps(line)}\n" for line in [*lines, changed]))
    with pytest.raises(ValueError, match=r"^expected one trial of .* in rates\.jsonl, got 2: name one of its lines$"):
        trial(0.01, trials=trials)


def test_figures_are_the_best_sigmas_unless_one_is_named():
    network = results_records.network("table6", "batch norm")
    assert network.clean == pytest.approx(100 * clean_accuracy(network.runs[0].records).value)
    for best in best_per_radius(network.runs):
        assert network.at(best.radius) == pytest.approx(100 * best.accuracy.value)
    for run in network.runs:
        assert network.at(0.5, run.sigma) == pytest.approx(100 * certified_accuracy(run.records, 0.5).value)
    gap = results_records.network("table6", "layer norm").points_over(network, 0.25)
    assert (
        gap.low < gap.value < gap.high and f"| {gap.value:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}] |" in PAGE.read_text()
    )


def test_what_is_not_there_is_a_sentence():
    with pytest.raises(ValueError, match="^expected a row of table6 among batch norm, .*, got 'no norm': name one"):
        results_records.network("table6", "no norm")
    with pytest.raises(ValueError, match="^expected records of 'clean' of table8 at the scale paper, got none: shelve"):
        results_records.network("table8", "clean", "paper")
    with pytest.raises(ValueError, match="^expected accuracies under noise of .*e5, got none: run"):
        results_trials.right_under_noise("resnet18s_ln_mixednoise.cifar10_e5")
    with pytest.raises(UndefinedError, match="'no_name' is undefined"):
        render("{{ no_name }}", {})


def test_words_are_those_of_the_numbers():
    assert (span([-5.4, 6.8]), span([9.0, 12.8, 10.6]), span([4.6, 5.2])) == ("-5 to 7", "9 to 13", "5")
    assert (listed([71.7, 66.7, 47.7], 0), listed([30.52, 11.0]), listed([1.0])) == (
        "72, 67 and 48",
        "30.5 and 11.0",
        "1.0",
    )
    assert (in_words(9.6), in_words(1.2), in_words(13.4), in_words(-1)) == ("ten", "one", "13", "-1")
    assert (fraction(89.8), fraction(92.0), fraction(12.2, 10.4), fraction(66.0)) == (
        *("nine tenths", "nine tenths"),
        *("a tenth", "two thirds"),
    )
    assert (up_to(65.6), up_to(66.7), up_to(8.0)) == ("two thirds", "seven tenths", "a tenth")
    for percents in ((97.0,), (14.0, 26.0)):
        with pytest.raises(ValueError, match="^expected percentages near one fraction, got .*: word them otherwise in"):
            fraction(*percents)
    with pytest.raises(ValueError, match=r"^expected a percentage up to 90, got 93\.0: word it otherwise in"):
        up_to(93.0)
    assert render("{{ 1 / 3 }}, {{ 2 }} {{ says('words', true) }}", {}) == "0.3, 2 words"
    with pytest.raises(ValueError, match='^expected what .* says, got other records for "some words"; "more": write'):
        render("{{ says('some\nwords', 1 > 2) }} {{ says('true', 2 > 1) }} {{ says('more', false) }}", {})
