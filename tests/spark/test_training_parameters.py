"""What of the trees follows from the amount of data."""

import pytest

from spark.training import parameters_for


@pytest.mark.parametrize(
    ("rows", "trees", "leaf"),
    [
        (1, 40, 1),
        (24_000, 40, 154),
        (50_000, 44, 223),
        (302_000, 109, 549),
        (10_000_000, 120, 3_162),
    ],
    ids=["a single row", "four weeks of flights", "eight weeks", "a year", "more than was ever measured"],
)
def test_more_rows_get_more_trees_and_larger_leaves(rows: int, trees: int, leaf: int) -> None:
    """Trees by a fifth of the rows' square root, between the fewest and the most; leaves of at least the root."""
    assert parameters_for(rows) == {"maxIter": trees, "minInstancesPerNode": leaf}
