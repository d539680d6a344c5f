"""The filter language of subscriptions, as its documentation has it."""

import pytest

from laptop.errors import ServiceError
from laptop.pubsub.filters import parse_filter

MESSAGE = {"domain": "com", "lang": "en-US", "iana.org/language_tag": "de", "empty": "", "line": 'a"b\n'}


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("attributes:domain", True),
        ("attributes:missing", False),
        ('attributes:"iana.org/language_tag"', True),
        ('attributes.domain = "com"', True),
        ('attributes.domain="org"', False),
        ('attributes.missing = ""', False),
        ('attributes.empty = ""', True),
        ('attributes.domain != "org"', True),
        ('attributes.domain != "com"', False),
        ('attributes.missing != "com"', True),
        ('attributes."iana.org/language_tag" = "de"', True),
        ('hasPrefix(attributes.lang, "en")', True),
        ('hasPrefix(attributes.lang, "de")', False),
        ('hasPrefix(attributes.missing, "")', False),
        ('NOT hasPrefix(attributes.lang, "de")', True),
        ("NOT attributes:missing", True),
        ("-attributes:domain", False),
        ('NOT NOT attributes.domain = "com"', True),
        ('attributes:lang AND attributes.domain = "com"', True),
        ('attributes:lang AND attributes.domain = "org"', False),
        ('attributes:missing OR attributes.domain = "com"', True),
        ("attributes:a OR attributes:b OR attributes:domain", True),
        ('attributes:lang AND (attributes.domain = "net" OR attributes.domain = "com")', True),
        ("NOT (attributes:lang AND attributes:domain)", False),
        (r'attributes.line = "a\"b\n"', True),
        (r'attributes.domain = "\u0063\x6f\155"', True),
        ('  attributes.domain = "com"  ', True),
    ],
)
def test_what_passes(text: str, passes: bool) -> None:
    """Each form of the documentation."""
    assert parse_filter(text)(MESSAGE) is passes


@pytest.mark.parametrize(
    "text",
    [
        "domain",
        "attributes",
        "attributes.domain",
        "attributes.domain =",
        "attributes.domain = com",
        'attributes.domain == "com"',
        'attributes.domain > "com"',
        "attributes:domain and attributes:lang",
        "attributes:a AND attributes:b OR attributes:c",
        "(attributes:a",
        "attributes:a)",
        "attributes:a AND",
        "NOT",
        'hasPrefix(attributes.a "b")',
        'hasPrefix(data, "b")',
        'attributes.a = "b',
        'attributes.a = "b" extra',
        "",
        "§",
        'attributes.a = "' + "b" * 256 + '"',
    ],
)
def test_what_is_refused(text: str) -> None:
    """A filter that cannot be read never becomes one that lets everything through."""
    with pytest.raises(ServiceError, match="filter"):
        parse_filter(text)


def test_refusal_tells_the_place() -> None:
    """The error names the character."""
    with pytest.raises(ServiceError, match=r"expected = or != at character 19"):
        parse_filter('attributes.domain ~ "com"'.replace("~", ":"))
