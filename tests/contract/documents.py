"""Documents around the contract, and what becomes of them on the way: drawn by hypothesis."""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from schemas import UseCase
from schemas.contract import plain_type

Draw = Callable[..., Any]
MAX_SIZES = {"min_length": 0, "max_length": 12}

NUMBERS = [
    *("0", "-0", "-0.0", "3", "3.0", "3e0", "0.3E+1", "30e-1", "1.10", "0e999999999", "1E400", "-1e400", "1e-400"),
    *("5e-324", "4.9e-324", "2.2250738585072011e-308", "1.7976931348623157e308", "1.7976931348623159e308"),
    *("9007199254740991", "9007199254740992", "9007199254740993", "-9007199254740991", "-9007199254740993.0"),
    *("9007199254740991.4", "9223372036854775807", "9223372036854775808", "18446744073709551616", "-1e9", "-9.97e36"),
    *("0.1000000000000000055511151231257827021181583404541015625", "3.0000000000000000001", "2.9999999999999999999"),
    *("1" + "0" * 308, "1" + "0" * 309, "7" * 1001, "-" + "7" * 4500, "0." + "3" * 1001, "1e0000000000000000000001"),
    *("01", "-01", "+1", "1.", ".5", "-", "1e", "1e+", "0x10", "1_000", "1,5", "NaN", "-NaN", "nan", "inf", "Inf"),
    *("Infinity", "-Infinity", "+Infinity", "1d", "1f", "١"),
]
TEXTS = [
    *('""', '"a"', '" a "', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\ude00\\ud83d"', '"\\u0000"', '"\\/"', '"\\x"', '"\\"'),
    *('"\t"', '"\n"', '"\x7f"', '"\u2028"', '"\ufeff"', '"\\u2028\\u202e"', '"\\u001b[31m"', '"NaN"', '"Infinity"'),
    *('"__missing__"', '"null"', '"3"', '"true"', "'a'", "a", '"e\u0301"', '"\\u00e9"', '"é"', '"' + "x" * 200 + '"'),
    '"[{,:]}"',
]
OTHERS = [
    *("null", "true", "false", "True", "None", "[]", "{}", "[1,2]", '{"a":1}', "[null]", "[NaN]", '{"a":[-Infinity]}'),
    *("[" * 150 + "]" * 150, "[" * 250 + "]" * 250, "[1,]", "{,}", '{"a":1,}', '{"a":1,"a":2}', "", "undefined"),
]
TIMES = [
    *("2013-01-31T10:15:00Z", "1899-12-30T00:00:00Z", "1850-01-01T00:00:00Z", "1601-01-01T00:00:00Z"),
    *("1582-10-10T00:00:00Z", "0002-01-01T00:00:00Z", "0001-12-31T23:59:59Z", "9998-12-31T23:59:59.999999999Z"),
    *("9999-01-01T00:00:00Z", "9999-01-01T00:30:00+01:00", "0002-01-01T00:00:00+00:01", "2013-01-01T24:00:00Z"),
    *("2016-12-31T23:59:60Z", "2013-01-01T00:00:00+19:00", "2013-01-01T00:00:00-23:59", "2013-01-01T00:00:00+24:00"),
    *("2013-01-01T00:00:00.Z", "2013-01-01T00:00:00.1234567891234Z", "2013-02-29T00:00:00Z", "2012-02-29T00:00:00Z"),
    *("2013-01-01t00:00:00z", "2013-01-01 00:00:00Z", "2013-01-01T00:00:00", "2013-01-01T00:00Z", "2013-01-01"),
    *("2013-01-01T00:00:00+0100", "2013-01-01T00:00:00+01", "20130101T000000Z", "2013-W01-1T00:00:00Z", "1357035300"),
    *("+2013-01-01T00:00:00Z", "12013-01-01T00:00:00Z", "2013-01-01T00:00:00Z ", "2013-01-01T00:00:00-00:00"),
    *("0000-01-01T00:00:00Z", "2013-00-01T00:00:00Z", "2013-01-01T00:00:00UTC", "2013-01-01T00:00:00,5Z", ""),
]
IDS = ["r1", "_", "_a", "__a", "a.b:c-d", ".", "..", "a b", "", "a/b", "é", "x" * 128, "x" * 129, "a\n", "z"]
GOOD_IDS = ["r1", "_", "_a", "a.b:c-d", ".", "..", "x" * 128, "z"]
TODAY = datetime(2026, 11, 30, tzinfo=UTC)
ODD = st.one_of(
    st.just(frozenset[str]()),
    st.frozensets(
        st.sampled_from(
            ["feature", "bound", "unknown feature", "id", "time", "twice", "member twice", "unknown", "bytes"]
        ),
        min_size=1,
        max_size=2,
    ),
)
"""What is odd in a document: nothing in half of them, and more than two things in none, else all would be refused."""
SPACES = ["", " ", "\n", "\r\n", "\t", "  "]
TOKENS = [
    *(b",", b":", b"{", b"}", b"[", b"]", b'"', b"\\", b"NaN", b"Infinity", b"\xef\xbb\xbf", b"\xff", b"\x00", b"\n"),
    *(
        b"\r",
        b"0",
        b"-",
        b"e",
        b".",
        b"1e999",
        b"\xc3",
        b"\xed\xa0\x80",
        b"null",
        b"true",
        b" ",
        b"\\u",
        b"/*x*/",
        b"'",
    ),
]


def spelled(draw: Draw, number: float) -> str:
    """A number, in one of the ways that it can be written."""
    if isinstance(number, int) or number.is_integer():
        whole = int(number)
        ways = [str(whole), repr(float(whole)), f"{whole}.000", f"{whole}e0", f"{whole}0E-1"]
    else:
        ways = [repr(number), f"{number:.17e}", f"{number!r}".replace("e", "E"), f"{number:.40g}"]
    return draw(st.sampled_from(ways))


def quoted(draw: Draw, text: str) -> str:
    """A text, with what is not ASCII as it is or escaped."""
    return json.dumps(text, ensure_ascii=draw(st.booleans()))


@st.composite
def odd_value(draw: Draw) -> str:
    """Any JSON, and what is nearly some."""
    return draw(st.sampled_from(draw(st.sampled_from([NUMBERS, TEXTS, OTHERS]))))


def bounds(metadata: list[Any]) -> dict[str, Any]:
    """What a field asks for, by the name of its argument."""
    found: dict[str, Any] = {}
    for one in metadata:
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length"):
            if getattr(one, name, None) is not None:
                found[name] = getattr(one, name)
    return found


def right_value(draw: Draw, plain: type, asked: dict[str, Any], beyond: bool) -> str:
    """A value that fits, often at a bound; or may lie one step ``beyond``."""
    if plain is bool:
        return draw(st.sampled_from(["true", "false"]))
    if plain is str:
        sizes = MAX_SIZES | {name: asked[name] for name in MAX_SIZES if name in asked}
        text = st.text(min_size=max(0, sizes["min_length"] - beyond), max_size=sizes["max_length"] + beyond)
        return quoted(
            draw, draw(st.sampled_from(["AA", "JFK", "LYS1", "é", "__missing__"[: sizes["max_length"]]]) | text)
        )
    low, high = (next((asked[name] for name in names if name in asked), None) for names in (("ge", "gt"), ("le", "lt")))
    if plain is int:
        least, most = (-(2**53) + 1 if low is None else low), (2**53 - 1 if high is None else high)
        inside = st.integers(least, most) | st.integers(least, min(most, least + 20)) | st.sampled_from([least, most])
        return spelled(draw, draw(inside) + (draw(st.sampled_from([0, 1, -1])) if beyond else 0))
    inside = st.floats(
        low, high, exclude_min="gt" in asked, exclude_max="lt" in asked, allow_nan=False, allow_infinity=False
    )
    edges = [float(one) for one in (low, high) if beyond and one is not None]
    return spelled(draw, draw(st.one_of(inside, *([st.sampled_from(edges)] if edges else []))))


def moment(draw: Draw, odd: bool) -> str:
    """A time that fits, or is ``odd`` in some way and may fit."""
    if odd:
        return json.dumps(draw(st.sampled_from(TIMES)))
    when = draw(
        st.sampled_from([datetime(2, 1, 2, tzinfo=UTC), datetime(1899, 12, 30, tzinfo=UTC), TODAY])
    ) + timedelta(microseconds=draw(st.integers(0, 10**13) | st.sampled_from([0, 1, 999_999, 1_000_000])))
    zone = timezone(timedelta(minutes=draw(st.sampled_from([0, 0, 0, 60, -330, 1139, -1439, 1439]))))
    text = when.astimezone(zone).isoformat()
    if "." in text and draw(st.booleans()):
        head, _, tail = text.partition(".")
        text = f"{head}.{tail[:6]}{draw(st.sampled_from(['9', '000', '499999']))}{tail[6:]}"
    return json.dumps(text.replace("+00:00", draw(st.sampled_from(["Z", "+00:00", "-00:00"]))))


def put_together(draw: Draw, members: list[tuple[str, str]], twice: bool) -> str:
    """An object of these members, in any order, with space between them; or one of them ``twice``."""
    if members and twice:
        again = draw(st.sampled_from(members))
        members = [*members, (again[0], draw(odd_value() | st.just(again[1])))]
    if draw(st.booleans()):
        members = draw(st.permutations(members))
    space = draw(st.sampled_from(SPACES))
    return "{" + f"{space},{space}".join(f"{json.dumps(name)}{space}:{space}{value}" for name, value in members) + "}"


def unknown(draw: Draw) -> tuple[str, str]:
    """A member that no schema knows, or that has nearly the name of one that it does."""
    name = draw(st.sampled_from(["x", "NaN", "Depot", "unit-price", "a.b", "", "é", "record_id ", "Features"]))
    return name, draw(odd_value())


def one_thing_odd(case: UseCase) -> Iterator[bytes]:
    """A record that is right, with each odd thing in each place."""
    features = {name: json.dumps(value) for name, value in case.example_features.items()}
    members = {"record_id": json.dumps("r1"), "event_time": json.dumps("2013-01-01T10:15:00Z")}
    odd = [*NUMBERS, *TEXTS, *OTHERS]
    changes = [(place, name, value) for place in ("features", "") for name in ("x", "NaN") for value in odd]
    changes += [("features", name, value) for name in case.features.model_fields for value in odd]
    changes += [("", "record_id", json.dumps(value)) for value in IDS]
    changes += [("", "event_time", json.dumps(value)) for value in TIMES]
    changes += [("", name, value) for name in ("record_id", "event_time", "features") for value in odd]
    for place, name, value in changes:
        inside = _object(features | ({name: value} if place else {}))
        yield _object({**members, "features": inside, **({} if place else {name: value})}).encode(
            errors="surrogatepass"
        )


def _object(members: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{json.dumps(name)}: {value}" for name, value in members.items()) + "}"


@st.composite
def records(draw: Draw, case: UseCase) -> bytes:
    """A record's document, or what somebody takes for one."""
    odd = draw(ODD)
    wrong = draw(st.sampled_from(list(case.features.model_fields))) if "feature" in odd else None
    features = []
    for name, field in case.features.model_fields.items():
        if name == wrong:
            if draw(st.booleans()):
                features.append((name, draw(odd_value())))
            continue
        if not field.is_required() and draw(st.integers(0, 3)) == 0:
            nullable = field.default is None
            features += [(name, "null")] if nullable and draw(st.booleans()) else []
            continue
        value = right_value(draw, plain_type(field.annotation), bounds(field.metadata), "bound" in odd)
        features.append((name, value))
    features += [unknown(draw)] if "unknown feature" in odd else []
    members = [
        ("record_id", quoted(draw, draw(st.sampled_from(IDS if "id" in odd else GOOD_IDS)))),
        ("event_time", moment(draw, "time" in odd)),
        ("features", put_together(draw, features, "twice" in odd)),
        *([unknown(draw)] if "unknown" in odd else []),
    ]
    document = put_together(draw, members, "member twice" in odd).encode(errors="surrogatepass")
    return mutated(draw, document) if "bytes" in odd else document


@st.composite
def labels(draw: Draw, case: UseCase) -> bytes:
    """A label's document, or what somebody takes for one."""
    odd = draw(ODD)
    near = ["lost", "", case.labels[0].upper(), f"{case.labels[1]} ", *case.labels]
    members = [
        ("record_id", quoted(draw, draw(st.sampled_from(IDS if "id" in odd else GOOD_IDS)))),
        (
            "label",
            draw(odd_value())
            if "feature" in odd
            else quoted(draw, draw(st.sampled_from(near if "bound" in odd else case.labels))),
        ),
        ("event_time", moment(draw, "time" in odd)),
        *([unknown(draw)] if "unknown" in odd else []),
    ]
    document = put_together(draw, members, "member twice" in odd).encode(errors="surrogatepass")
    return mutated(draw, document) if "bytes" in odd else document


def mutated(draw: Draw, document: bytes) -> bytes:
    """``document`` with bytes dropped, sent twice, changed or put in."""
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(document)))
        to = min(len(document), at + draw(st.integers(0, 12)))
        way = draw(st.integers(0, 4))
        if way == 0:
            document = document[:at] + document[to:]
        elif way == 1:
            document = document[:to] + document[at:]
        elif way == 2:
            document = document[:at] + draw(st.sampled_from(TOKENS)) + document[at:]
        elif way == 3:
            document = document[:at] + bytes([draw(st.integers(0, 255))]) + document[at + 1 :]
        else:
            document = draw(st.sampled_from([b"\xef\xbb\xbf" + document, document[:at], b" \r\n" + document + b"\n"]))
    return document
