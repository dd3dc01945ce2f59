import pytest

from robust_hub.names import did_you_mean


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("gnn", {}, "did you mean gn?"),
        ("xyz", {}, ""),
        ("xyz", {"otherwise": ["bn", "ln"]}, "did you mean bn or ln?"),
        ("gnn", {"otherwise": ["bn", "ln"]}, "did you mean gn?"),
        ("n", {"most": 2}, "did you mean ln or in?"),
    ],
)
def test_near_names_are_offered_then_others(name, options, said):
    assert did_you_mean(name, ("bn", "gn", "in", "ln"), **options) == said
