"""Tables of comparisons, by hand."""

import numpy as np
import pandas as pd
import pytest

from analysis.measures.statistics import summarise
from analysis.show.figures import DRAW, RANKED, figures, said_of_best
from analysis.show.results import (
    accuracy_table,
    comparisons,
    differences_table,
    distance_table,
    markdown,
    overlap_table,
    summaries,
    tables,
    x_table,
)


def rows(method, metric, values, **place):
    columns = {"source": "mnist_seed", "dataset": "mnist", "method": method, "metric": metric, "x": np.nan, "epoch": 0}
    return pd.DataFrame({**columns, "model": range(len(values)), **place, "value": values})


def test_a_table_by_what_is_varied():
    results = pd.concat(
        [rows("S", "test_acc", [0.5, 0.7], x=0.0), rows("S", "test_acc", [0.1, 0.3], x=1.0), rows("B", "r2", [0.25], x=1.0),
         rows("originals", "test_acc", [0.8, 0.9])]
    )  # fmt: skip
    table = x_table(results).set_index(["of", "x"])
    assert table.loc[("test_acc", "0"), "S"] == "60.0 ± 10.0 (2)"
    assert table.loc[("test_acc", "1"), "S"] == "20.0 ± 10.0 (2)"
    assert table.loc[("test_acc", "1"), "originals"] == "85.0 ± 5.0 (2)"  # at every x
    assert table.loc[("r2", "1"), "B"] == "0.25 ± 0.00 (1)"
    assert table.loc[("test_acc", "1"), "B"] == "–"


def test_overlap():
    density = {"originals": [1.0, 1.0, 0.0], "same": [2.0, 2.0, 0.0], "half": [0.0, 1.0, 1.0], "none": [0.0, 0.0, 3.0]}
    results = pd.concat([rows(method, "conv1", values, x=[0.1, 0.2, 0.3]) for method, values in density.items()])
    (line,) = overlap_table(results).to_dict("records")
    assert {name: line[name] for name in density} == {
        "originals": "100.0",
        "same": "100.0",
        "half": "50.0",
        "none": "0.0",
    }


def test_distances():
    results = pd.concat(
        [rows("R", "l2", [0.1, 0.3], epoch=2), rows("R", "cosine", [1.0, 0.8], epoch=2), rows("R", "l2", [9.0])]
    )
    (line,) = distance_table(results, [2]).to_dict("records")
    assert (line["epoch"], line["l2"], line["cosine"]) == ("2", "0.200 ± 0.100 (2)", "0.900 ± 0.100 (2)")


def test_what_cannot_be_compared_is_left_out():
    results = pd.concat(
        [rows("A", "test_acc", [0.1, 0.2]), rows("B", "test_acc", [np.nan, np.nan]), rows("C", "test_acc", [0.9])]
    )
    found = comparisons(results, [0])
    assert found[["first", "second"]].to_numpy().tolist() == [["C", "A"]]
    assert found["effect"].item() == 1
    assert comparisons(results, [7]).empty
    assert differences_table(comparisons(results, [7])).empty
    (line,) = differences_table(found).to_dict("records")
    assert line["methods"] == "C (n = 1) – A (n = 2)"
    assert line["median difference"].startswith("+75.0 [")


def test_summaries():
    values = [0.5, 0.6, 0.9, np.nan]
    results = pd.concat(
        [
            rows("S", "test_acc", values),
            rows("S", "test_acc", [0.1], epoch=1),
            rows("S", "l2", [9.0]),
            rows("B", "test_acc", [0.2]),
        ]
    )
    found = summaries(results, [0]).set_index("method")
    assert found["n"].to_dict() == {"S": 3, "B": 1}
    line, expected = found.loc["S"], summarise(np.array(values))
    assert (line["mean"], line["median"], line["quantile_0.5"], line["quantile_1"]) == (expected.mean, 0.6, 0.6, 0.9)
    assert (line["mean_low"], line["median_high"]) == (expected.mean_low, expected.median_high)
    by_x = summaries(rows("S", "test_acc", [0.5, 0.6], x=[1.0, 2.0]), [7])
    assert by_x[["x", "mean"]].to_numpy().tolist() == [[1, 0.5], [2, 0.6]]


def test_markdown():
    assert markdown(pd.DataFrame({"a": ["1"], "b": ["x"]})) == "| a | b |\n| --- | --- |\n| 1 | x |"


@pytest.mark.parametrize("comparison", [*DRAW, *RANKED])
def test_every_comparison_has_a_figure_that_says_something(comparison):
    metrics = {"smoothness": ("along", "across"), "robustness": ("test_acc", "r2"), "weight_distribution": ("conv1", "fc1"),
               "reconstruction": ("test_acc", "l2", "cosine")}.get(comparison, ("test_acc",))  # fmt: skip
    places = [{"epoch": e} for e in (0, 1)] if comparison in ("init", "transfer", "unseen_arch", "reconstruction") else [
        {"x": x} for x in (1.0, 2.0)
    ]  # fmt: skip
    values = [0.4] if comparison == "weight_distribution" else [0.4, 0.6]
    parts = [rows(m, metric, values, **place) for m in ("originals", "S") for metric in metrics for place in places]
    (figure,) = figures(pd.concat(parts), comparison, [0, 1]).values()
    title = figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    assert "mnist_seed → mnist" in title
    assert len(title) > 30
    for axes in figure.axes:
        assert axes.get_xlabel()
    assert tables(pd.concat(parts), comparison, [0, 1])


def said(samples, others=()):
    """What a title says of samples, in %, at epoch 0; `others` are tested beside them, at epoch 1."""
    both = [(0, samples), (1, others)] if others else [(0, samples)]
    parts = [rows(m, "test_acc", v / 100, epoch=epoch) for epoch, of_epoch in both for m, v in of_epoch.items()]
    tested = comparisons(pd.concat(parts), [0, 1])
    return said_of_best(samples, tested[tested["epoch"] == 0])


def test_a_title_names_a_best_method_only_where_a_test_shows_it():
    random = np.random.default_rng(0)
    low, near, high = random.normal(60, 5, 30), random.normal(61, 5, 30), random.normal(80, 5, 30)
    assert said({"A": low, "B": near, "C": high}) == f"C is best with {high.mean():.1f} %"
    assert said({"C": high, "B": near, "A": low}) == f"C is best with {high.mean():.1f} %"
    told = said({"A": low, "B": near, "C": near + 0.5})
    assert "is best" not in told
    assert told.endswith("no difference to all others is shown")
    assert said({"A": np.append(low, np.nan)}) == f"A has {low.mean():.1f} %"
    assert "finite" in said({"A": np.array([np.nan])})


def test_a_title_and_the_table_are_of_one_family_of_tests():
    """Among more tests the same difference is not shown any more, wherever it is told."""
    low, high = np.arange(6.0), np.arange(6.0) + 3.5
    assert "B is best" in said({"A": low, "B": high})
    others = dict.fromkeys("CDEF", low)
    assert "no difference to all others is shown" in said({"A": low, "B": high}, others)


@pytest.mark.parametrize("comparison", ["ensemble", "unseen_zoo"])
def test_a_title_without_a_test_does_not_rank(comparison):
    parts = [rows(m, "test_acc", [v, v], x=x) for m, v in (("A", 0.4), ("B", 0.6)) for x in (1.0, 2.0)]
    (figure,) = figures(pd.concat(parts), comparison, []).values()
    title = figure.get_suptitle() or figure.axes[0].get_title(loc="left")
    assert "A" in title.split(":", 1)[1]
    assert "B" in title.split(":", 1)[1]
    assert "most" not in title


def test_b_t_before_training_is_published():
    rows = [("B_T", 0, model, 0.1) for model in range(3)]
    results = pd.DataFrame(rows, columns=["method", "epoch", "model", "value"])
    results = results.assign(x=np.nan, metric="test_acc", source="mnist_seed", dataset="mnist")
    assert accuracy_table(results, "init", [0])["mnist_seed, published"].tolist() == ["≈ 10"]
