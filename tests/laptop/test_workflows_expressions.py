"""Expressions of the Workflows language and its standard library, as their documentation has them."""

import asyncio
import contextlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laptop.workflows import library, regex
from laptop.workflows.errors import RaisedError, SourceError
from laptop.workflows.expressions import Binary, Call, Index, ListOf, Literal, MapOf, Name, Tree, Unary, parse

HELD: dict[str, Any] = {
    "a": 7, "s": "text", "m": {"k": {"n": [1, 2]}, "x-y": 1}, "l": [10, 20], "t": True, "n": None, "f": 2.5,
    "b": b"raw",
}  # fmt: skip


class Names:
    """A scope with a few variables and the pure functions of the library."""

    def look_up(self, name: str) -> Any:
        """A variable."""
        return HELD[name]

    async def call(self, name: str, positional: list[Any], named: Any) -> Any:
        """A function."""
        return library.call(name, positional, dict(named))


def value(text: str) -> Any:
    """The value of an expression."""
    return asyncio.run(parse(text).value(Names()))


def tag(text: str) -> str:
    """The tag of the error that an expression raises."""
    with pytest.raises(RaisedError) as caught:
        value(text)
    (found,) = caught.value.value["tags"]
    assert caught.value.value["message"].startswith(f"{found}: ")
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # arithmetic
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("7 / 2", 3.5),
        ("6 / 3", 2.0),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("7 % 4", 3),
        ("7.0 // 2", 3.0),
        ("7.5 % 2", 1.5),
        ("-a + 1", -6),
        ("1 - -1", 2),
        ("2 - 3 - 4", -5),
        ("24 / 4 / 2", 3.0),
        ("1.5e2", 150.0),
        (".5 + 1.", 1.5),
        ("9223372036854775807", 2**63 - 1),
        # texts: + joins them with numbers and booleans too
        ('"a" + "b"', "ab"),
        ('"a" + 1', "a1"),
        ('1.5 + "a"', "1.5a"),
        ('"a" + true', "atrue"),
        (r'"a\n\"b\"\\"', 'a\n"b"\\'),
        (r'"\u00e9\ud83c\udf19"', "é🌙"),
        ('"it\'s"', "it's"),
        # logic
        ('a == 7 and not (s == "x")', True),
        ("not t or true", True),
        ("NOT t OR TRUE AND True", True),
        ("true or false and false", True),
        ("false and n.nothing", False),
        ("true or n.nothing", True),
        ("1 < 2 and 2 <= 2 and 3 > 2 and 3 >= 3", True),
        ('"a" < "b"', True),
        # equality
        ("1 == 1.0", True),
        ("true == 1", False),
        ("[1] == [true]", False),
        ('{"a": [1.0]} == {"a": [1]}', True),
        ('{"a": 1} != {"b": 1}', True),
        ("n == null", True),
        ("n == 0", False),
        # membership
        ('"k" in m', True),
        ("1 in m", False),
        ("[1] in [[1]]", True),
        ("not (30 in l)", True),
        ("1 + 9 in l", True),
        # elements
        ("m.k.n[1]", 2),
        ('m["k"].n[0]', 1),
        ('m["x-y"]', 1),
        ("l[a - 6]", 20),
        ("[[1, 2], [3]][0][1]", 2),
        ("[]", []),
        ("{}", {}),
        ('{"x": a, s: [1]}', {"x": 7, "text": [1]}),
        ('[1, a, "x"]', [1, 7, "x"]),
    ],
)  # fmt: skip
def test_an_expression_has_its_documented_value(text: str, expected: Any) -> None:
    """Operators, their order, and types."""
    assert value(text) == expected
    assert type(value(text)) is type(expected)


def test_not_binds_more_tightly_than_a_comparison() -> None:
    """The order of operations is the service's, not Python's: not, then minus, then the rest."""
    assert parse("not t == false") == Binary("==", Unary("not", Name("t")), Literal(False))
    assert parse("not m.k") == Unary("not", Index(Name("m"), Literal("k")))
    assert parse("-a * 2") == Binary("*", Unary("-", Name("a")), Literal(2))
    assert parse("a and b == c + d * -e.f[0]") == Binary(
        "and",
        Name("a"),
        Binary(
            "==",
            Name("b"),
            Binary(
                "+",
                Name("c"),
                Binary("*", Name("d"), Unary("-", Index(Index(Name("e"), Literal("f")), Literal(0)))),
            ),
        ),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("len(l) + len(s) + len(m)", 8),
        ('len("🌙")', 1),
        ("keys(m)", ["k", "x-y"]),
        ("default(n, 5)", 5),
        ("default(false, 5)", False),
        ("if(t, 1, 2)", 1),
        ("if(n, 1, 2)", 2),
        ('int("12") + int(3.9) + int("-2")', 13),
        ('double("2.7")', 2.7),
        ("double(2)", 2.0),
        ("string(12) + string(true) + string(1.5)", "12true1.5"),
        ("get_type(1.5)", "double"),
        ('map.get(m, ["k", "n"])', [1, 2]),
        ('map.get(m, ["k", "no", "x"])', None),
        ('map.get(m, ["k", "n", "x"])', None),
        ('map.get(m, "k")', {"n": [1, 2]}),
        ('map.get(n, "k")', None),
        ('map.delete({"a": 1, "b": 2}, "a")', {"b": 2}),
        ('map.delete({"a": 1}, "z")', {"a": 1}),
        ('map.merge({"a": {"x": 1}, "b": 1}, {"a": {"y": 2}})', {"a": {"y": 2}, "b": 1}),
        ('map.merge_nested({"a": {"x": 1}, "b": 1}, {"a": {"y": 2}})', {"a": {"x": 1, "y": 2}, "b": 1}),
        ("list.concat(l, [1])", [10, 20, [1]]),
        ("list.prepend(l, 0)", [0, 10, 20]),
        ("math.abs(-3)", 3),
        ("math.abs(-3.5)", 3.5),
        ("math.floor(-1.5)", -2),
        ("math.max(1, 2.5)", 2.5),
        ("math.min(1, 2.5)", 1),
        ('text.split("a,b", ",")', ["a", "b"]),
        ('text.substring("abcdef", 1, 3)', "bc"),
        ('text.to_upper("aé") + text.to_lower("AÉ")', "AÉaé"),
        ('text.find_all("00000", "00")', [0, 2]),
        ('text.find_all("Hello World", "l")', [2, 3, 9]),
        ('text.find_all_regex("HelloWorld", "Hello|World")',
         [{"index": 0, "match": "Hello"}, {"index": 5, "match": "World"}]),
        ('text.match_regex("2026-03", "^[0-9]+-")', True),
        # https://cloud.google.com/workflows/docs/reference/stdlib/text/match_regex: a part is enough
        ('text.match_regex("HelloWorld", "Hello|Goodbye")', True),
        ('text.match_regex("HelloWorld", "Goodbye")', False),
        ('text.match_regex("HelloWorld", "")', True),
        (r'text.match_regex("é1", "^\\p{L}[[:digit:]]$")', True),
        # …/text/find_all_regex: the leftmost of what overlaps, then the longest; indexes of code points
        ('text.find_all_regex("éabab", "ab|aba")', [{"index": 1, "match": "aba"}]),
        ('text.find_all_regex("baac", "a*")',
         [{"index": 0, "match": ""}, {"index": 1, "match": "aa"}, {"index": 4, "match": ""}]),
        ('text.find_all_regex("", "x")', []),
        ('text.replace_all("aXbX", "X", "-")', "a-b-"),
        # …/text/replace_all_regex: no references to groups; nothing matches before each code point and at the end
        ('text.replace_all_regex("one two", "one|two", "three")', "three three"),
        (r'text.replace_all_regex("a1b22", "([0-9]+)", "<\\1>")', r"a<\1>b<\1>"),
        ('text.replace_all_regex("aéb", "", "-")', "-a-é-b-"),
        ('text.replace_all("ab", "", "-")', "-a-b-"),
        ('text.url_encode("a/b c&é")', "a%2Fb%20c%26%C3%A9"),
        ('text.url_encode_plus("a b")', "a+b"),
        # …/text/url_decode
        ('text.url_decode("a%2Fb%20c")', "a/b c"),
        ('text.url_decode("a%2Fb%2Fc%3Fitem%3Dd%2Be")', "a/b/c?item=d+e"),
        ('text.url_decode("a+b%C3%a9")', "a bé"),
        ('text.url_decode("")', ""),
        ('text.decode(text.encode("é"))', "é"),
        ('text.encode("é", "ISO-8859-1")', b"\xe9"),
        # …/text/decode: what the charset does not have becomes U+FFFD
        ('text.decode(text.encode("é1", "ISO-8859-1"))', "\ufffd1"),
        ('text.decode(text.encode("é"), "us-ascii")', "\ufffd\ufffd"),
        ('json.decode("{\\"a\\": [1, 2.5, null, true]}")', {"a": [1, 2.5, None, True]}),
        ('json.decode(text.encode("[1]"))', [1]),
        # …/json/decode: bytes are decoded as text.decode does it; integers have 64 bits, text is Unicode
        ('json.decode(text.encode("[\\"é\\"]", "ISO-8859-1"))', ["\ufffd"]),
        ('json.decode("[9223372036854775807, 9223372036854775808]")', [2**63 - 1, 2.0**63]),
        (r'json.decode("[\"\\ud83c\\udf19 \\ud83c\"]")', ["🌙 \ufffd"]),
        ("json.encode_to_string(m)", '{"k":{"n":[1,2]},"x-y":1}'),
        ('json.encode({"a": "é"})', '{"a":"é"}'.encode()),
        ("json.encode_to_string([1], true)", "[\n    1\n]"),
        ('json.encode_to_string([1], {"indent": " ", "prefix": ">"})', "[\n> 1\n>]"),
        ('base64.decode(base64.encode(text.encode("x")))', b"x"),
        # …/base64/decode: line ends are ignored
        (r'base64.decode("YW\r\nI=\n")', b"ab"),
        ('base64.encode(text.encode("ab"), false)', "YWI"),
        ('base64.decode("YWI", false)', b"ab"),
        ('hash.compute_checksum(text.encode("abc"), "SHA256")',  # FIPS 180-2, appendix B.1
         bytes.fromhex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")),
        # …/hash/compute_checksum: the example, and FIPS 180-4
        ('base64.encode(hash.compute_checksum(text.encode("Hello World"), "SHA256"))',
         "pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4="),
        ('hash.compute_checksum(text.encode("abc"), "SHA224")',
         bytes.fromhex("23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7")),
        ('len(base64.encode(hash.compute_checksum(b, "MD5"))) + len(base64.encode(hash.compute_checksum(b, "SHA1")))'
         ' + len(base64.encode(hash.compute_checksum(b, "SHA384")))'
         ' + len(base64.encode(hash.compute_checksum(b, "SHA512")))', 24 + 28 + 64 + 88),
        ('hash.compute_hmac(text.encode("Jefe"), text.encode("what do ya want for nothing?"), "SHA256")',  # RFC 4231
         bytes.fromhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")),
        ("time.format(0)", "1970-01-01T00:00:00.000000Z"),
        ('time.format(0, "America/New_York")', "1969-12-31T19:00:00.000000-05:00"),
        # …/time/format: UTC if no zone is named or an empty one
        ('time.format(0, "")', "1970-01-01T00:00:00.000000Z"),
        ('time.parse("1970-01-02T00:00:00Z")', 86400.0),
        ('time.parse("1970-01-01T01:00:00.5+01:00")', 0.5),
    ],
)  # fmt: skip
def test_a_function_has_its_documented_result(text: str, expected: Any) -> None:
    """Each function of the standard library that does not look outside."""
    assert value(text) == expected
    assert type(value(text)) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n + \"a\"", "TypeError"),
        ("1 + true", "TypeError"),
        ("l + l", "TypeError"),
        ("\"a\" < 1", "TypeError"),
        ("-s", "TypeError"),
        ("not 1", "TypeError"),
        ("1 and true", "TypeError"),
        ("true and 1", "TypeError"),
        ("1 in s", "TypeError"),
        # https://cloud.google.com/workflows/docs/reference/stdlib/map/get: a string or a list of strings
        ('map.get(m, ["k", "n", 1])', "TypeError"),
        ("map.get(m, 1)", "TypeError"),
        ("{1: 2}", "TypeError"),
        ("a.b", "TypeError"),
        ("m[1]", "TypeError"),
        ("l[true]", "TypeError"),
        ("l[\"0\"]", "TypeError"),
        ("1 / 0", "ZeroDivisionError"),
        ("1 // 0.0", "ZeroDivisionError"),
        ("1 % 0", "ZeroDivisionError"),
        ("m.nothing", "KeyError"),
        ("l[9]", "IndexError"),
        ("l[-1]", "IndexError"),
        ("9223372036854775807 + 1", "ValueError"),
        ("int(\"x\")", "ValueError"),
        ("int(\" 1\")", "ValueError"),
        ("int(\"1_0\")", "ValueError"),
        ("int(1e300)", "ValueError"),
        ("int(true)", "TypeError"),
        ("double(\"nan\")", "ValueError"),
        ("len(5)", "TypeError"),
        ("len()", "TypeError"),
        ("len(s, s)", "TypeError"),
        ("keys(l)", "TypeError"),
        ("string(m)", "TypeError"),
        ("if(1, 2, 3)", "TypeError"),
        ("math.max(\"a\", \"b\")", "TypeError"),
        ("math.abs(true)", "TypeError"),
        ("math.floor(1e308 * 10)", "ValueError"),
        ("list.concat(s, 1)", "TypeError"),
        ("list.prepend(s, 1)", "TypeError"),
        ("map.merge(m, l)", "TypeError"),
        ("text.substring(s, 2, 9)", "IndexError"),
        ("text.substring(s, 0, 1.5)", "TypeError"),
        ("text.split(s, 1)", "TypeError"),
        ("text.match_regex(s, \"(\")", "ValueError"),
        (r'text.match_regex(s, "(t)\\1")', "ValueError"),
        ("text.match_regex(s, \"(?=t)\")", "ValueError"),
        ("text.find_all_regex(s, \"[\")", "ValueError"),
        ("text.replace_all_regex(s, \"*\", s)", "ValueError"),
        ("text.match_regex(s, n)", "TypeError"),
        ("text.find_all_regex(n, s)", "TypeError"),
        ("text.replace_all_regex(s, s, n)", "TypeError"),
        ("text.url_decode(\"%ff\")", "ValueError"),
        ("text.url_decode(\"100%\")", "ValueError"),
        ("text.url_decode(\"%4\")", "ValueError"),
        ("text.url_decode(\"%é1\")", "ValueError"),
        ("text.url_decode(b)", "TypeError"),
        ("text.decode(b, \"no such charset\")", "ValueError"),
        ("text.encode(\"é\", \"US-ASCII\")", "ValueError"),
        ("text.encode(b)", "TypeError"),
        ("map.delete(m, 1)", "TypeError"),
        ("map.delete(m, n)", "TypeError"),
        ("json.decode(\"1e999\")", "ValueError"),
        ("json.decode(\"\")", "ValueError"),
        ("base64.encode(s)", "TypeError"),
        ("base64.encode(b, 1)", "TypeError"),
        ("base64.decode(b)", "TypeError"),
        ("base64.decode(\"YWI=\", n)", "TypeError"),
        ("hash.compute_checksum(s, \"SHA256\")", "TypeError"),
        ("hash.compute_checksum(b, n)", "TypeError"),
        ("hash.compute_checksum(b, \"\")", "ValueError"),
        ("hash.compute_checksum(b, \"sha256\")", "ValueError"),
        ("hash.compute_hmac(s, b, \"SHA256\")", "TypeError"),
        ("hash.compute_hmac(b, s, \"SHA256\")", "TypeError"),
        ("hash.compute_hmac(b, b, \"CRC7\")", "ValueError"),
        ("time.format(0, n)", "TypeError"),
        ("text.encode(s, \"no such charset\")", "ValueError"),
        ("text.decode(s)", "TypeError"),
        ("json.decode(\"{\")", "ValueError"),
        ("json.decode(\"NaN\")", "ValueError"),
        ("json.decode(1)", "TypeError"),
        ("json.encode(b)", "ValueError"),
        ("json.encode_to_string(1e308 * 10)", "ValueError"),
        ("base64.decode(\"é\")", "ValueError"),
        ("base64.decode(\"YWI\")", "ValueError"),
        ("hash.compute_checksum(b, \"CRC7\")", "ValueError"),
        ("time.parse(\"1970-01-02\")", "ValueError"),
        ("time.parse(\"1970-01-02T00:00:00\")", "ValueError"),
        ("time.parse(\"1970-13-02T00:00:00Z\")", "ValueError"),
        ("time.format(0, \"Mars\")", "ValueError"),
        ("time.format(1e300)", "ValueError"),
        ("time.format(s)", "TypeError"),
    ],
)  # fmt: skip
def test_an_error_of_an_expression_has_its_documented_tag(text: str, expected: str) -> None:
    """So that an except step can tell them apart."""
    assert tag(text) == expected


def test_arguments_have_their_documented_names() -> None:
    """A call step names them: https://cloud.google.com/workflows/docs/reference/stdlib/text/encode."""
    assert library.call("text.encode", [], {"text": "é", "charset": "UTF-8"}) == "é".encode()
    assert library.call("text.decode", [], {"data": b"x", "charset": "UTF-8"}) == "x"
    assert library.call("text.replace_all_regex", [], {"source": "a", "regexp": "a", "repl": "b"}) == "b"


@pytest.mark.parametrize(
    ("source", "regexp"),
    [
        ("a" * 24 + "!", "^(a+)+$"),
        ("a" * 200_000 + "!", "^(a+)+$"),
        ("x" * 200_000, "(x+x+)+y"),
        ("x" * 200_000, "(.*)(.*)(.*)(.*)(.*)y"),
        ("a" * 200_000, "(a|aa|aaa)*b"),
    ],
)
def test_a_regular_expression_takes_time_as_the_text_is_long(source: str, regexp: str) -> None:
    """RE2 does not try one way after the other."""
    started = time.monotonic()
    assert library.call("text.match_regex", [source, regexp], {}) is False
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("text.match_regex", ["a" * 200_000, "(a?){1000}a{1000}"], "states is not searched for in a text of 200000"),
        ("text.find_all_regex", ["a" * 200_000, ".*?b|a"], "was searched for during 1 seconds"),
        ("text.replace_all_regex", ["a" * 1000, "", "b" * 1000], "bytes of at most 256 KB"),
        ("text.replace_all", ["a" * 200_000, "", "b" * 200_000], "bytes of at most 256 KB"),
    ],
)
def test_a_function_ends_in_bounded_time_and_memory(
    name: str, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an error that a step can catch, whatever it is given."""
    monkeypatch.setattr(regex, "MAX_SECONDS", 1.0)
    started = time.monotonic()
    with pytest.raises(RaisedError, match=words) as caught:
        library.call(name, list(arguments), {})
    assert caught.value.value["tags"] == ["ResourceLimitError"]
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unexpected the end"),
        ("1 +", "unexpected the end at position 3"),
        ("1 2", "unexpected '2'"),
        ("(1", "unexpected the end"),
        ("[1,]", r"unexpected '\]'"),
        ("len(l,)", r"unexpected '\)'"),
        ('len(s ")")', r"unexpected '\)'"),
        ("{1}", "unexpected '}'"),
        ("a.", "unexpected the end"),
        ("a.1", "unexpected"),
        ("1(2)", r"unexpected '\('"),
        ("+1", r"unexpected '\+'"),
        ("30 not in l", "unexpected 'not'"),
        ("a And b", "unexpected 'And'"),
        ("a = b", "unexpected '='"),
        ("a && b", "unexpected '&'"),
        ("'it'", "two double quotes"),
        ('"open', "two double quotes"),
        (r'"\q"', r"unknown escape \\q"),
        (r'"\ud83c"', "half a surrogate pair"),
        ("9223372036854775808", "too large for a 64-bit integer"),
        ("1" * 401, "401 characters of at most 400"),
    ],
)  # fmt: skip
def test_what_is_no_expression_is_refused_with_its_position(text: str, words: str) -> None:
    """What the service would refuse, too: single quotes, Python's ``not in``, a trailing comma."""
    with pytest.raises(SourceError, match=words):
        parse(text)


@pytest.mark.parametrize(
    "text", ["(" * 199 + "1" + ")" * 199, "[" * 400, "-" * 399 + "1", "not " * 99 + "t", "1" * 400]
)
def test_a_deep_or_long_expression_is_no_crash(text: str) -> None:
    """Four hundred characters can nest deeply."""
    with contextlib.suppress(SourceError, RaisedError):
        value(text)


# --- with anything

ALPHABET = st.sampled_from([*"0123456789.+-*/%<>=!()[]{},:\"'\\ \n$_éa", "not", " and ", " in ", "m.k", "len(", "1e9"])
NAMES = st.sampled_from(sorted(HELD))
TREES: st.SearchStrategy[Tree] = st.recursive(
    st.one_of(
        st.builds(Literal, st.one_of(st.none(), st.booleans(), st.integers(0, 2**63 - 1), st.text(max_size=5))),
        st.builds(Name, NAMES),
    ),
    lambda inner: st.one_of(
        st.builds(Unary, st.sampled_from(["-", "not"]), inner),
        st.builds(Binary, st.sampled_from(["or", "and", "in", "==", "!=", "<", "<=", ">", ">=", *"+-*%", "/", "//"]),
                  inner, inner),
        st.builds(Index, inner, inner),
        st.builds(Index, inner, st.builds(Literal, NAMES)),
        st.builds(ListOf, st.lists(inner, max_size=2).map(tuple)),
        st.builds(MapOf, st.lists(st.tuples(inner, inner), max_size=2).map(tuple)),
        st.builds(lambda name, given: Call(name, tuple(given), ()), st.sampled_from(sorted(library.FUNCTIONS)),
                  st.lists(inner, max_size=3)),
    ),
    max_leaves=6,
)  # fmt: skip
ORDER = [{"or"}, {"and"}, {"in", "==", "!=", "<", "<=", ">", ">="}, {"+", "-"}, {"*", "/", "//", "%"}]
"""The documented order of the binary operators, from the loosest on: written again here, to judge the parser by."""


def written(tree: Tree) -> str:
    """A tree as an expression, with no more parentheses than the documented order of operations asks for."""

    def part(one: Tree, inside: bool) -> str:
        return f"({written(one)})" if inside else written(one)

    match tree:
        case Literal(constant):
            if isinstance(constant, str):
                escaped = constant.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
                return f'"{escaped}"'
            return json.dumps(constant)
        case Name(name):
            return name
        case Unary(operator, operand):
            return ("not " if operator == "not" else "-") + part(operand, isinstance(operand, Binary))
        case Binary(operator, left, right):
            (level,) = [number for number, group in enumerate(ORDER) if operator in group]
            looser = set().union(*ORDER[:level])
            first = part(left, isinstance(left, Binary) and left.operator in looser)
            second = part(right, isinstance(right, Binary) and right.operator in looser | ORDER[level])
            return f"{first} {operator} {second}"
        case Index(base, index):
            return f"{part(base, isinstance(base, Unary | Binary | Literal))}[{written(index)}]"
        case ListOf(items):
            return "[" + ", ".join(written(one) for one in items) + "]"
        case MapOf(items):
            return "{" + ", ".join(f"{written(key)}: {written(one)}" for key, one in items) + "}"
        case Call(name, positional, _):
            return f"{name}({', '.join(written(one) for one in positional)})"
    raise AssertionError(tree)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TREES)
def test_a_tree_that_is_written_out_is_read_back_the_same(tree: Tree) -> None:
    """Precedence, grouping to the left, strings and escapes: the parser inverts the documented notation."""
    text = written(tree)
    if len(text) <= 400:
        assert parse(text) == tree


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.one_of(st.text(max_size=60), st.lists(ALPHABET, max_size=30).map("".join)))
def test_any_text_is_an_expression_or_is_refused(text: str) -> None:
    """No other exception than SourceError comes out of the parser."""
    with contextlib.suppress(SourceError):
        parse(text)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(TREES)
def test_any_expression_has_a_value_or_an_error_of_the_language(tree: Tree) -> None:
    """Whatever is applied to whatever, an except step can catch it."""
    with contextlib.suppress(RaisedError):
        asyncio.run(tree.value(Names()))
