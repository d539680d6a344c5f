"""The sink: an object's name and content follow from its lines, and one that is there is never written again."""

import pytest
from apache_beam.transforms.window import GlobalWindow, IntervalWindow
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, PaneInfo, PaneInfoTiming
from google.api_core.exceptions import Forbidden

from dataflow.archive_sink import WriteObjects, content_of, object_name
from tests.dataflow.conftest import PROJECT, Cloud

WINDOW = IntervalWindow(60, 120)
KEY = ("records", "2013-01-31", 0)


def sink(cloud: Cloud) -> WriteObjects:
    """The step, set up."""
    step = WriteObjects(cloud.bucket.name, PROJECT)
    step.setup()
    return step


def test_the_content_depends_on_the_lines_alone() -> None:
    """Not on their order, on how they were put together, or on how often one was delivered."""
    assert content_of([[b"b", b"a"], [b"c"]]) == content_of([[b"c", b"a"], [b"a"], [b"b"]]) == b"a\nb\nc\n"


def test_the_name_tells_date_window_pane_shard_and_content() -> None:
    """Two contents have two names."""
    first = object_name("labels", "2013-01-31", "20130131T100000", 2, 7, b"a\n")
    assert first == "archive/labels/dt=2013-01-31/20130131T100000-2-07-87428fc522803d31.json"
    assert first != object_name("labels", "2013-01-31", "20130131T100000", 2, 7, b"b\n")


def test_a_bundle_that_is_tried_again_writes_the_same_object(cloud: Cloud) -> None:
    """The first answer may have been lost: 412 means written, whatever the order of the lines this time."""
    step = sink(cloud)
    (name,) = step.process((KEY, [[b"a"], [b"b"]]), WINDOW, PANE_INFO_UNKNOWN)
    generation = cloud.bucket.get_blob(name).generation
    assert list(step.process((KEY, [[b"b", b"a"]]), WINDOW, PANE_INFO_UNKNOWN)) == [name]
    assert cloud.bucket.get_blob(name).generation == generation
    assert cloud.objects() == {name: [b"a", b"b"]}


def test_an_upload_whose_answer_was_lost_is_tried_again(cloud: Cloud) -> None:
    """The object is there once, and nothing fails."""
    lost = cloud.storage.fault(rpc="storage.objects.insert", when="after")
    (name,) = sink(cloud).process((KEY, [[b"a"]]), WINDOW, PANE_INFO_UNKNOWN)
    assert next(one for one in cloud.storage.faults() if one["id"] == lost["id"])["fired"] == 1
    assert cloud.objects() == {name: [b"a"]}


def test_a_refusal_is_not_taken_for_written(cloud: Cloud) -> None:
    """Anything but 412 fails the bundle, so that it comes again."""
    cloud.storage.fault(rpc="storage.objects.insert", code="PERMISSION_DENIED")
    with pytest.raises(Forbidden):
        list(sink(cloud).process((KEY, [[b"a"]]), WINDOW, PANE_INFO_UNKNOWN))
    assert cloud.objects() == {}


def test_panes_and_windows_have_names_of_their_own(cloud: Cloud) -> None:
    """Also for the same lines."""
    step = sink(cloud)
    late = PaneInfo(False, False, PaneInfoTiming.LATE, 3, 2)
    names = [
        next(step.process((KEY, [[b"a"]]), window, pane))
        for window, pane in ((WINDOW, PANE_INFO_UNKNOWN), (WINDOW, late), (GlobalWindow(), PANE_INFO_UNKNOWN))
    ]
    assert [name.rsplit("/", 1)[1].rsplit("-", 1)[0] for name in names] == [
        "19700101T000100-0-00",
        "19700101T000100-3-00",
        "backfill-0-00",
    ]


def test_nothing_makes_no_object(cloud: Cloud) -> None:
    """A window may end after all it had was written early."""
    assert list(sink(cloud).process((KEY, []), WINDOW, PANE_INFO_UNKNOWN)) == []
    assert cloud.objects() == {}
