"""The projection on real models: a table of what groups of runs project beside what all give."""

import json

import numpy as np

from local_eval.metric.metric import forgetting_quality
from local_eval.metric.uncertainty.projection import Projection
from studies import projections as projection_real


def test_each_group_is_projected_alone_and_the_truth_is_the_score_of_all(monkeypatch):
    monkeypatch.setattr(projection_real, "SIZES", (24, 48))
    monkeypatch.setattr(projection_real, "MODELS", 96)
    random, persons = np.random.default_rng(0), np.arange(12) // 2
    unlearned, retrained = random.normal(0.4, 1, (96, 12)), random.normal(0, 1, (96, 12))
    projected = []

    def projection(*sides, **how):
        projected.append((sides, how))
        return Projection(0.1 * len(projected), 0.01, 0.9, 96)

    monkeypatch.setattr(projection_real, "projection_of", projection)
    rows = projection_real.rows_of("mine", unlearned, retrained, persons)
    assert [row[1:3] for row in rows] == [(24, 0), (24, 1), (24, 2), (24, 3), (48, 0), (48, 1)]
    assert {row[7] for row in rows} == {f"{forgetting_quality(unlearned, retrained):.4g}"}
    for which, (_, size, group, plain, *ends) in enumerate(rows):
        part = slice(size * group, size * (group + 1))
        (ours, theirs), how = projected[which]
        assert np.array_equal(ours, unlearned[part]) and np.array_equal(theirs, retrained[part])
        assert how["models"] == 96 and how["persons"] is persons
        assert plain == f"{forgetting_quality(unlearned[part], retrained[part]):.4g}"
        assert tuple(ends[:3]) == (f"{0.1 * (which + 1):.4g}", "0.01", "0.9")


def test_a_method_is_named_with_its_changed_constants_once_it_was_graded(tmp_path):
    folder = tmp_path / "mine-0c506c3b703e-seed0"
    folder.mkdir()
    assert projection_real.name_of(folder) == "mine"
    (folder / "score.json").write_text(json.dumps({"submission": "mine[LR=0.003]"}))
    assert projection_real.name_of(folder) == "mine[LR=0.003]"
