"""A measure is one function with one decorator, and then stands in the table, in score.json and on the page."""

from dataclasses import replace

import pytest

from local_eval.metric.measures import MEASURES, Labels, further_measures, measure, measured
from local_eval.metric.score import compute_score
from local_eval.report.page.facts import PageSource, measures_in
from local_eval.report.page.render import write_page
from local_eval.report.result import Result, save_score
from local_eval.report.table import table
from tests.metric.measures.made import pair
from tests.report.page import simulated

KEYS = [
    "lira_accuracy", "lira_tpr", "klom", "klom_95", "ks", "auc", "audited_epsilon", "pooled_attack", "test_control",
    "retain_control", "simple_attack", "tug_of_war",
]  # fmt: skip


@pytest.fixture
def mean_shift():
    """A measure of this test's own, registered while the test runs."""

    @measure("mean_shift", "mean shift", worse=1, slight=0.1, clear=0.5, meaning="shift of all means; 0 is perfect")
    def shift(ours, theirs):
        return abs(float(ours.forget.mean() - theirs.forget.mean()))

    yield shift
    del MEASURES["mean_shift"]


def graded(folder):
    """A grading of 16 made-up runs: what its page is drawn from and what the console shows."""
    task = simulated.task(20)
    labels, persons = task.forget.labels.numpy(), task.forget.person_id.numpy()
    runs, pool = simulated.records(16, labels, 1, shift=1.0), simulated.records(32, labels, 2)
    every = Labels(labels, labels[:4], labels[:4])  # of the retain and test examples that such records keep
    with simulated.projecting(False):
        score = compute_score(runs, pool, labels, persons)
    score = replace(score, measures=tuple(further_measures(runs, pool, every)))
    result = Result.read(save_score(score, folder, "mine", "made_up", simulated.ABOUT))
    source = PageSource(result, dict(enumerate(runs)), pool, pool[0], task, "command", measures=measures_in(result))
    return source, table(score, "mine", "made_up")


def test_a_registered_measure_stands_in_table_json_and_page(mean_shift, tmp_path):
    source, said = graded(tmp_path)
    (row,) = (one for one in source.result["beyond"] if one["key"] == "mean_shift")
    assert row["value"] == pytest.approx(1.2, abs=0.3) and row["words"] == "far off", "simulated runs are 1.2 off"
    assert source.result["beyond"][-1] == row, "in the order of registration"
    assert any(line.split()[:3] == ["mean", "shift", f"{row['value']:.3f}"] for line in said.splitlines())
    page = write_page(source, tmp_path, images=False).read_text()
    assert "mean shift" in page and f"{row['value']:.3f}" in page and "Shift of all means; 0 is perfect." in page


def test_a_measure_that_is_no_longer_registered_is_gone_and_the_kits_own_are_in_their_order(tmp_path):
    assert list(MEASURES) == KEYS
    source, said = graded(tmp_path)
    assert [row["key"] for row in source.result["beyond"]] == [key for key in KEYS if key != "simple_attack"]
    assert "mean shift" not in said and "mean_shift" not in source.result.to_json()


def test_a_key_that_is_taken_is_refused():
    with pytest.raises(ValueError, match="measure 'ks' already: Kolmogorov"):
        measure("ks", "another", worse=1, slight=0.1, clear=0.5, meaning="")(lambda ours, theirs: 0.0)
    assert list(MEASURES) == KEYS


def test_a_value_that_is_not_finite_leaves_the_measure_out(mean_shift):
    ours, theirs = pair(8)
    broken = replace(MEASURES["mean_shift"], function=lambda ours, theirs: float("nan"))
    assert measured(MEASURES["mean_shift"], ours, theirs, [(ours, theirs), (theirs, ours)])
    assert measured(broken, ours, theirs, [(ours, theirs), (theirs, ours)]) is None
