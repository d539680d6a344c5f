"""The documents: what they link to is there, each can be found, and the glossary is true of the code."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.support import ROOT

DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "laptop").glob("*.md")]
    if path.name != "CHANGELOG.md"
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def links(document: Path) -> list[tuple[Path, str]]:
    """``(file, anchor)`` of each link to a file of the repository."""
    found = []
    for target in LINK.findall(CODE.sub("", document.read_text())):
        if "://" not in target:
            name, _, anchor = unquote(target).partition("#")
            found.append(((document.parent / name).resolve() if name else document, anchor))
    return found


def anchors(document: Path) -> set[str]:
    """Of its headings, as GitHub makes them: https://github.com/gjtorikian/html-pipeline, its table of contents."""
    titles = HEADING.findall(re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    """To a file of the repository, and to a heading that this file has."""
    broken = [
        f"{file.relative_to(ROOT)}#{anchor}"
        for file, anchor in links(document)
        if not file.exists() or (anchor and anchor not in anchors(file))
    ]
    assert broken == []


def test_every_document_can_be_found_from_the_readme() -> None:
    """By links, in any number of steps."""
    found, looked_at = {ROOT / "README.md"}, set[Path]()
    while found - looked_at:
        document = (found - looked_at).pop()
        looked_at.add(document)
        if document.suffix == ".md":
            found |= {file for file, _ in links(document) if file.is_file()}
    assert [str(path.relative_to(ROOT)) for path in [*DOCUMENTS, ROOT / "LICENSE"] if path not in found] == []


def test_the_glossary_says_each_term_once() -> None:
    """In bold, in one of its tables: a second meaning would be a second row."""
    terms = re.findall(r"\*\*([^*]+)\*\*", (ROOT / "docs" / "glossary.md").read_text())
    assert len(terms) > 100
    assert sorted({term for term in terms if terms.count(term) > 1}) == []


def test_a_word_on_its_way_out_is_still_in_the_code() -> None:
    """Whoever renames it takes its row out of the glossary, too."""
    _, _, section = (ROOT / "docs" / "glossary.md").read_text().partition("## Words that are on their way out")
    gone = [
        f"{file}: {word}"
        for file, word in re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", section, flags=re.MULTILINE)
        if not (ROOT / file).is_file() or word not in file + (ROOT / file).read_text()
    ]
    assert gone == []
