"""The sink: an object's name and content follow from its lines, and one that is there is never written again."""

import pytest
from apache_beam.transforms.window import GlobalWindow, IntervalWindow
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, PaneInfo, PaneInfoTiming
from google.api_core.exceptions import Forbidden

from dataflow.archive_sink import WriteObjects, content_of, object_name
from schemas.archive_objects import day_of, why_not
from tests.dataflow.conftest import PROJECT, Cloud

WINDOW = IntervalWindow(60, 120)
KEY = ("records", "2013-01-31", 0)
ACCOUNT = "lunation-archive@local-dev.iam.gserviceaccount.com"


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


@pytest.mark.parametrize("topic", ["records", "labels", "dead-letters"])
@pytest.mark.parametrize("window", ["20130131T100000", "backfill"])
def test_what_is_written_is_what_the_readers_take_for_the_archive(topic: str, window: str) -> None:
    """Under another name it would lie there, and neither train a model nor be missed by ``verify``."""
    name = object_name(topic, "2013-01-31", window, 2, 7, b"a\n")
    assert why_not(name, 2) is None
    assert day_of(name).isoformat() == "2013-01-31"


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


def refuse(cloud: Cloud, words: str, times: int = 1) -> None:
    """Let the next uploads be answered 403, before anything is looked at."""
    cloud.storage.fault(rpc="storage.objects.insert", code="PERMISSION_DENIED", message=words, times=times)


def test_a_refusal_is_not_taken_for_written(cloud: Cloud) -> None:
    """Who may not create is refused under every name, which fails the bundle, so that it comes again; the words are
    those of the service."""
    refuse(cloud, f"{ACCOUNT} does not have storage.objects.create access to the Google Cloud Storage object.", 2)
    with pytest.raises(Forbidden, match=r"storage\.objects\.create access"):
        list(sink(cloud).process((KEY, [[b"a"]]), WINDOW, PANE_INFO_UNKNOWN))
    assert cloud.objects() == {}
    assert all(one["fired"] == one["times"] for one in cloud.storage.faults())


def test_a_refusal_to_replace_means_written(cloud: Cloud) -> None:
    """403 for want of the right to delete is 412 in other words: nothing is written twice."""
    (name,) = sink(cloud).process((KEY, [[b"a"]]), WINDOW, PANE_INFO_UNKNOWN)
    refuse(cloud, f"{ACCOUNT} does not have storage.objects.delete access to the Google Cloud Storage object.")
    assert list(sink(cloud).process((KEY, [[b"a"]]), WINDOW, PANE_INFO_UNKNOWN)) == [name]
    assert cloud.objects() == {name: [b"a"]}


def test_a_refusal_in_other_words_loses_nothing(cloud: Cloud) -> None:
    """What it means cannot be read out of it, as when a retention policy holds the object that is there: the lines are
    written beside, and a stream does not stand still for it."""
    (name,) = sink(cloud).process((KEY, [[b"a"]]), WINDOW, PANE_INFO_UNKNOWN)
    refuse(cloud, "Object is subject to the bucket's retention policy and cannot be overwritten.")
    (beside,) = sink(cloud).process((KEY, [[b"a"]]), WINDOW, PANE_INFO_UNKNOWN)
    assert cloud.objects() == {name: [b"a"], beside: [b"a"]}
    assert beside.startswith(name.removesuffix(".json"))
    assert beside.endswith(".json")


def test_a_bundle_that_is_tried_again_with_other_lines_loses_none(cloud: Cloud) -> None:
    """A runner may group anew what was not committed: what the first attempt wrote stays, and the second writes all
    that it has under a name of its own."""
    step = sink(cloud)
    attempts = [[[b"a", b"b"]], [[b"b"], [b"c"]], [[b"a"]]]
    for lines in attempts:
        (name,) = step.process((KEY, lines), WINDOW, PANE_INFO_UNKNOWN)
        assert cloud.objects()[name] == sorted(line for part in lines for line in part)
    assert set(cloud.lines("records")) == {b"a", b"b", b"c"}
    assert len(cloud.objects()) == len(attempts)


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
