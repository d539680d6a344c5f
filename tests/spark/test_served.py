"""Promises of the comparison between what is served and what Spark said."""

import numpy as np

from spark.served import largest_difference


def test_the_largest_difference_counts():
    """One row that is off is enough, in either direction; equal columns are 0 apart."""
    sparks = np.array([0.1, 0.5, 0.9])
    assert largest_difference(sparks.copy(), sparks) == 0.0
    assert np.isclose(largest_difference(np.array([0.1, 0.5, 0.7]), sparks), 0.2)


def test_no_answer_is_the_largest_difference():
    """NaN from the artefact can never pass as parity."""
    assert largest_difference(np.array([0.1, np.nan]), np.array([0.1, 0.5])) == 1.0
