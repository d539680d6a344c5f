"""Promises of the model's input, as the serving side builds it."""

import math

import numpy as np

from schemas.shapes import MISSING
from spark.features import matrix


def test_a_category_is_its_place_in_the_list():
    """Unseen: one past the list. Missing: the place of the missing word, or unseen if training never missed it."""
    columns = {"a": ["x", "z", "new", None, ""], "b": ["x", None, None, "x", "y"]}
    lists = {"a": [MISSING, "x", "z"], "b": ["x", "y"]}
    found = matrix(columns, ["a", "b"], ["category", "category"], lists)
    assert found.tolist() == [[1, 0], [2, 2], [3, 2], [0, 0], [3, 1]]


def test_a_missing_number_is_nan_and_the_order_is_the_inputs():
    """Booleans and whole numbers are numbers; a column nobody sends counts as missing in every row."""
    found = matrix({"x": [1, True, None], "y": [0.5, float("nan"), -2.0]}, ["y", "x", "z"], ["number"] * 3, {})
    assert found.dtype == np.float64
    assert found[0].tolist()[:2] == [0.5, 1.0]
    assert found[1, 1] == 1.0
    assert math.isnan(found[1, 0])
    assert math.isnan(found[2, 1])
    assert np.isnan(found[:, 2]).all()
