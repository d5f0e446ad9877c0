"""What the examples of docs/extending.md do once they are in the kit; test_docs.py runs this in a copy of it."""

from dataclasses import replace

from local_eval.__main__ import main
from local_eval.metric.measures import MEASURES, measured, perfect_pairs
from local_eval.report.result import Result
from local_eval.report.table import table
from tests.conftest import in_this_process
from tests.metric.measures.made import outputs, pair
from tests.metric.test_score import score
from tests.submissions import test_submissions as laws

made = laws.made


def test_the_method_does_what_its_rows_say(made, monkeypatch):
    for rows in ("LEARNING_RATES", "READS"):
        monkeypatch.setattr(laws, rows, {"shrink_perturb": getattr(laws, rows)["shrink_perturb"]})
    laws.test_learning_rates_follow_the_published_sequence(made)
    laws.test_only_the_loaders_that_the_method_claims_are_read(made)


def test_the_method_and_the_task_pass_the_check(monkeypatch, capsys):
    monkeypatch.setattr("local_eval.isolation.share_gpu.run_jobs", in_this_process)
    assert main(["check", "shrink_perturb", "--task", "stripes", "--device", "cpu"]) == 0
    assert "check: line" not in capsys.readouterr().out, "it can travel to Kaggle"


def test_the_measure_stands_in_the_table_and_in_json_with_what_perfect_unlearning_gets():
    found = measured(MEASURES["set_epsilon"], *pair(16, shift=1.0), perfect_pairs(outputs(3, 32), 16, 2))
    graded = replace(score(models=16), measures=(found,))
    assert "epsilon of the whole set" in table(graded, "mine", "digits")
    (reported,) = Result.of(graded, "mine", "digits", {})["beyond"]
    assert (reported["key"], reported["perfect"]) == ("set_epsilon", found.perfect)
    assert found.perfect < found.value
