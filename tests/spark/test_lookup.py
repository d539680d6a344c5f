"""The artefact's tables of rates: a row finds its cell as it does in Spark."""

from dataclasses import replace
from math import floor, inf, isfinite, nan, nextafter

import numpy as np
import onnxruntime
import pytest

from spark.export import Forest, Node, to_onnx
from spark.rates import Key, Part, Table


def telling(cells: int) -> Forest:
    """A tree that sees a rate (its second column) which is the cell's number, and has a leaf for each."""
    nodes: list[Node] = []

    def grow(first: int, last: int) -> int:
        at = len(nodes)
        nodes.append(Node(-1, first / cells, -1, -1, None, ()))
        if first < last:
            middle = (first + last) // 2
            left, right = grow(first, middle), grow(middle + 1, last)
            nodes[at] = Node(1, 0.0, left, right, float(middle), ())
        return at

    grow(0, cells - 1)
    return Forest([nodes], [1.0], 2)


def place(part: Part, value: float) -> int:
    """What ``rates.Key.place`` says in SQL."""
    if not isfinite(value):
        return part.size
    step = floor(value / part.width) - part.low
    return int(step) if 0 <= step <= part.size - 1 else part.size


@pytest.mark.parametrize(
    ("width", "low", "size"),
    [(1.0, 0.0, 104), (60.0, 5.0, 19), (2.5, -3.0, 7), (0.1, -2.0, 9), (7 / 3, -1.0, 5), (1e7, 0.0, 1)],
)
def test_a_row_finds_the_cell_that_sparks_arithmetic_finds(width, low, size):
    """At every boundary and one double beside it, far outside, at zeros, infinities and NaN; and behind another
    table, in a key of two parts."""
    part, other = Part(0, width, low, size), Part(1, 1.0, 0.0, 2)
    key = Key("wanted", (part, other))
    first = Table(Key("first", (other,)), np.full(3, -1.0))
    table = Table(key, np.arange(key.cells, dtype=float))
    forest = telling(key.cells)
    # The forest sees no input but the second, then both rates; it looks at the last.
    nodes = [Node(2, n.prediction, n.left, n.right, n.threshold, ()) if n.feature == 1 else n for n in forest.trees[0]]
    artefact = to_onnx(Forest([nodes], [1.0], 3), 2, [1], [first, table])

    edges = [(step + low) * width for step in range(-2, size + 3)]
    values = [near for edge in edges for near in (edge, nextafter(edge, inf), nextafter(edge, -inf))]
    values += [0.0, -0.0, nan, inf, -inf, 1e300, -1e300]
    rows = np.array([(value, second) for value in values for second in (0.0, 1.0, 7.0, nan)])
    session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {"features": rows})
    cells = [place(part, value) * 3 + place(other, second) for value, second in rows.tolist()]
    assert len(set(cells)) == key.cells
    expected = [1 / (1 + np.exp(-2 * cell / key.cells)) for cell in cells]
    assert given.ravel().tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3])
def test_a_table_takes_room_for_the_groups_that_were_seen(kept):
    """Neighbours with the same values share a place in the artefact, and each row still gets its own cell's value."""
    parts = (Part(0, 1.0, 0.0, 15), Part(1, 1.0, 0.0, 3), Part(2, 1.0, 0.0, 40))
    key = Key("wanted", parts)
    dice = np.random.default_rng(5)
    values = np.where(dice.random(key.cells) < kept, dice.integers(1, 8, key.cells), 0.0)
    nodes = [replace(node, feature=3) if node.feature >= 0 else node for node in telling(8).trees[0]]
    forest = Forest([nodes], [1.0], 4)
    artefact = to_onnx(forest, 3, [0, 1, 2], [Table(key, values)])

    rows = np.stack(np.meshgrid(*(np.arange(-1, part.size + 2) for part in parts)), axis=-1).reshape(-1, 3) * 1.0
    session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {"features": rows})
    cells = [
        sum(place(part, value) * stride for part, value, stride in zip(parts, row, key.strides, strict=True))
        for row in rows.tolist()
    ]
    assert given.ravel().tolist() == pytest.approx([1 / (1 + np.exp(-2 * values[cell] / 8)) for cell in cells])
    dense = to_onnx(forest, 3, [0, 1, 2], [Table(key, dice.random(key.cells))])
    assert len(artefact) < (0.1, 0.4, 0.9)[(0.0, 0.02, 0.3).index(kept)] * len(dense)
