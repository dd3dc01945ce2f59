"""Records made of whole columns are those made one by one, and what is refused is refused."""

from __future__ import annotations

import dataclasses
import math
import pickle
from typing import Any

import pytest
from logs import make

from robust_hub.evidence.record import Record, make_records

ROWS = [make(0), make(20), dataclasses.replace(make(40), radii=(0.0, make(40).radius))]
COLUMNS = {
    field.name: [getattr(row, field.name) for row in ROWS]
    for field in dataclasses.fields(Record)
    if field.name != "correct"
}
WRONG: list[dict[str, Any]] = [
    *({"idx": -1}, {"label": -1}, {"predict": -2}, {"radius": math.nan}, {"radius": -1.0}, {"radius": math.inf}),
    *({"time": math.nan}, {"time": -1.0}, {"predict": -1, "radius": 0.5}, {"radii": (7.0,)}, {"sigma": 0.0}),
    *({"sigma": math.inf}, {"p_lower": 1.5}, {"p_lower": math.nan}, {"alpha": 1.0}, {"alpha": math.nan}),
    *({"tau": 1.0}, {"tau": math.nan}),
]


def test_records_of_columns() -> None:
    made = make_records(COLUMNS)
    assert made == ROWS and [hash(one) for one in made] == list(map(hash, ROWS))
    assert pickle.loads(pickle.dumps(made)) == ROWS and dataclasses.replace(made[0], seed=9).seed == 9
    first = {name: values[0] for name, values in COLUMNS.items()}
    assert vars(made[0]) == {**first, "correct": ROWS[0].correct}
    with pytest.raises(dataclasses.FrozenInstanceError):
        made[0].idx = 3  # type: ignore[misc]


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_a_record_refuses_is_refused_of_columns(wrong: dict[str, Any]) -> None:
    changed = {name: [*values[:1], wrong.get(name, values[1]), *values[2:]] for name, values in COLUMNS.items()}
    values = {name: column[1] for name, column in changed.items()}
    with pytest.raises(ValueError, match="^expected ") as one:
        Record(correct=int(values["predict"] == values["label"]), **values)
    with pytest.raises(ValueError, match="^expected ") as all_of_them:
        make_records(changed)
    assert str(one.value) == str(all_of_them.value)
