"""Files as people have them: whatever one holds, every document in it is filed, and the rest is told once, by file."""

import base64
import codecs
import gzip
import io
import json
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from dataflow import launch
from dataflow.files import BEGINNING_BYTES, MAX_LINE_BYTES, ReadLines
from dataflow.reading import Source
from tests.dataflow.conftest import Cloud, record

LINES = record("a") + b"\n" + record("b") + b"\n"


def read(path: Path, content: bytes) -> list[Source]:
    """What the reader makes of a file."""
    path.write_bytes(content)
    return list(ReadLines(None).process(str(path)))


def documents(sources: list[Source]) -> list[bytes]:
    """What is handed on to be filed."""
    return [one.data for one in sources if not one.refused]


def refused(sources: list[Source]) -> list[tuple[str, str]]:
    """Line and reason of what is not."""
    return [(one.message_id.rpartition(":")[2], one.refused) for one in sources if one.refused]


@pytest.mark.parametrize(
    "content",
    [
        LINES,
        LINES.rstrip(),
        LINES.replace(b"\n", b"\r\n"),
        b"\n \n" + LINES + b"\r\n\n",
        codecs.BOM_UTF8 + LINES,
        # Two files that both had one, put together.
        codecs.BOM_UTF8 + record("a") + b"\n" + codecs.BOM_UTF8 + record("b"),
        codecs.BOM_UTF8 + b"\r\n" + LINES,
        gzip.compress(LINES),
        gzip.compress(codecs.BOM_UTF8 + LINES),
        gzip.compress(record("a") + b"\n") + gzip.compress(record("b")),
        gzip.compress(LINES) + b"\0" * 512,
    ],
    ids=["plain", "unended", "crlf", "blank lines", "bom", "two boms", "bom alone", "gzip", "gzip of a bom",
         "two gzips", "padded gzip"],
)  # fmt: skip
def test_no_document_is_lost_to_how_its_line_is_written(tmp_path: Path, content: bytes) -> None:
    """Line ends, blank lines, a byte order mark, packing: both documents come out as they were written."""
    found = read(tmp_path / "file", content)
    assert documents(found) == [record("a"), record("b")]
    assert refused(found) == []


@pytest.mark.parametrize("content", [b"", b"\n\r\n", codecs.BOM_UTF8, gzip.compress(b"")])
def test_a_file_with_nothing_in_it_is_nothing(tmp_path: Path, content: bytes) -> None:
    """Neither filed nor refused."""
    assert read(tmp_path / "file", content) == []


def zipped() -> bytes:
    """The lines in a zip file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("records.json", LINES)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (codecs.BOM_UTF16_LE + LINES.decode().encode("utf-16-le"), "is written in UTF-16"),
        (codecs.BOM_UTF16_BE + LINES.decode().encode("utf-16-be"), "is written in UTF-16"),
        (LINES.decode().encode("utf-16-le"), "is written in UTF-16-LE: write it in UTF-8, as JSON is (iconv"),
        (LINES.decode().encode("utf-32"), "is written in UTF-32"),
        (zipped(), "is a zip file: unpack it"),
        (gzip.compress(gzip.compress(LINES)), "is packed by gzip twice"),
        (b"BZh91AY&SY" + b"\n" * 50, "is packed by bzip2"),
    ],
    ids=["utf-16 le", "utf-16 be", "utf-16 unmarked", "utf-32", "zip", "gzip twice", "bzip2"],
)
def test_a_file_without_lines_of_json_is_refused_once(tmp_path: Path, content: bytes, reason: str) -> None:
    """Not line by line of what is none, and the reason names what it is."""
    found = read(tmp_path / "file.json", content)
    ((line, told),) = refused(found)
    assert line == "1"
    assert told.startswith(f"{tmp_path}/file.json {reason}")
    assert documents(found) == []


def test_of_a_gzip_that_breaks_off_every_whole_line_is_filed(tmp_path: Path) -> None:
    """Of an upload that was cut, and of one whose bytes have changed at the end; the break is told once."""
    lines = [record(f"r{number}") for number in range(3000)]
    whole = gzip.compress(b"\n".join(lines) + b"\n", 1)
    for broken in (whole[: len(whole) // 2], whole[:-8] + b"\0" * 8, whole + b"what is this"):
        found = read(tmp_path / "file.json.gz", broken)
        filed = documents(found)
        assert filed == lines[: len(filed)]
        ((line, told),) = refused(found)
        assert line == str(len(filed) + 1)
        assert f"is broken after line {len(filed)} (" in told
    assert len(filed) == len(lines)
    half = whole[: len(whole) // 2]
    there = zlib.decompressobj(wbits=31).decompress(half).count(b"\n")
    assert len(documents(read(tmp_path / "cut.gz", half))) == there > 1000


def test_a_line_that_no_message_could_hold_is_refused_and_takes_no_memory(tmp_path: Path) -> None:
    """50 MB, between two documents: both are filed, the letter holds the beginning of what was between them."""
    long = b'{"record_id":"' + b"x" * 50_000_000 + b'"}'
    path = tmp_path / "file.json"
    path.write_bytes(record("a") + b"\n" + long + b"\n" + record("b"))
    tracemalloc.start()
    found = list(ReadLines(None).process(str(path)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert documents(found) == [record("a"), record("b")]
    ((line, told),) = refused(found)
    assert line == "2"
    assert told.startswith(f"the line has {len(long) + 1:,} bytes, and a document has at most 10,000,000")
    assert next(one.data for one in found if one.refused) == long[:BEGINNING_BYTES]
    assert peak < 3 * MAX_LINE_BYTES


def test_the_longest_line_that_a_message_could_hold_is_read(tmp_path: Path) -> None:
    """At the limit and one above it, with and without an end."""
    longest = b'"' + b"x" * (MAX_LINE_BYTES - 3) + b'"'
    for content in (longest + b"\n", longest + b"y"):
        assert refused(read(tmp_path / "file", content + LINES if content.endswith(b"\n") else content)) == []
    assert len(refused(read(tmp_path / "file", longest + b"yy"))) == 1
    found = read(tmp_path / "file", longest + b"y\n" + LINES)
    assert (len(refused(found)), documents(found)) == (1, [record("a"), record("b")])


def test_an_array_is_one_dead_letter_and_the_rest_is_filed(cloud: Cloud, tmp_path: Path) -> None:
    """A file that is one JSON array on one line, of more bytes than a letter can hold, and a small one: each is told
    with its file and with what makes lines of it; the other files are filed."""
    members = [json.loads(record(f"r{number}")) for number in range(55_000)]
    (tmp_path / "large.json").write_text(json.dumps(members) + "\n")
    assert (tmp_path / "large.json").stat().st_size > 11_000_000
    (tmp_path / "small.json").write_text(json.dumps(members[:3]))
    (tmp_path / "lines.json").write_bytes(LINES)
    arguments = [*cloud.arguments, f"--backfill_records={tmp_path}/*.json"]
    assert launch.main(["--runner=laptop.micro_batch.MicroBatchRunner", *arguments]) == 0
    assert sorted(cloud.lines("records")) == [record("a"), record("b")]
    letters = {Path(one["message_id"]).name: one for one in cloud.refused()}
    assert sorted(letters) == ["large.json:1", "small.json:1"]
    assert all("is a JSON array, and a file has a document a line: jq -c" in one["reason"] for one in letters.values())
    assert "the file all of it" in letters["large.json:1"]["reason"]
    small = base64.b64decode(letters["small.json:1"]["payload_base64"])
    assert json.loads(small) == members[:3]


def test_a_name_that_is_no_text_is_told_as_text(tmp_path: Path) -> None:
    """A file system takes any bytes for a name; a letter does not."""
    path = tmp_path / "caf\udce9.json"
    (one,) = read(path, b"[1]")
    assert one.message_id == f"{tmp_path}/caf\\udce9.json:1"
