"""The OpenAPI documents: generated, as they are in ``docs/``, and true."""

import json
import re
from typing import Any

import pytest

from functions.classify import handler as classify
from functions.openapi import FOLDER, documents
from functions.submit import handler as submit
from schemas import USE_CASES, Classification

DOCUMENTS = {name: json.loads(text) for name, text in documents("flights").items()}


def references(document: Any) -> set[str]:
    """Every ``$ref`` in a document."""
    if isinstance(document, dict):
        here = {document["$ref"]} if "$ref" in document else set()
        return here.union(*(references(value) for value in document.values()))
    return set().union(*map(references, document)) if isinstance(document, list) else set()


def test_the_files_in_docs_are_what_the_generator_makes():
    """Else: ``python -m functions.openapi``."""
    assert {path.name: path.read_text() for path in FOLDER.iterdir()} == documents("flights")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_reference_leads_somewhere(name):
    """And every schema is referred to by something."""
    document = DOCUMENTS[name]
    there = {f"#/components/schemas/{schema}" for schema in document["components"]["schemas"]}
    assert references(document) == there


@pytest.mark.parametrize("case", USE_CASES)
def test_every_use_case_has_documents(case):
    """The record is the use case's own."""
    for text in documents(case).values():
        features = USE_CASES[case].features
        assert set(json.loads(text)["components"]["schemas"][features.__name__]["properties"]) == set(
            features.model_fields
        )


def asked(operation: Any) -> str:
    """The parameters that a request cannot do without, as they stand in its URL."""
    needed = [one["name"] for one in operation.get("parameters", []) if one["in"] == "query" and one["required"]]
    return f"?{'&'.join(f'{name}=' for name in needed)}" if needed else ""


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_path_is_one_that_cloud_run_keeps(name):
    """https://cloud.google.com/run/docs/known-issues#ah; a path with an id says which ids it is not for."""
    for path, verbs in DOCUMENTS[name]["paths"].items():
        assert path != "/eventlog"
        assert not path.startswith("/_ah/")
        assert not path.endswith("z")
        for operation in verbs.values():
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "path":
                    kept = re.compile(parameter["schema"]["not"]["pattern"])
                    assert {one for one in ("a", "z", "az", "za", ".", "..", "a.") if kept.search(one)} == {
                        "z", "az", ".", "..",
                    }  # fmt: skip


def test_the_paths_are_those_that_are_served():
    """With their methods, and the schema of what is answered."""
    assert {
        path: next(iter(verbs)).upper() for path, verbs in DOCUMENTS["classify.json"]["paths"].items()
    } == classify.ROUTES
    served = {
        f"{verb.upper()} {re.sub('record_id', 'id', path)}{asked(operation)}"
        for path, verbs in DOCUMENTS["submit.json"]["paths"].items()
        for verb, operation in verbs.items()
    }
    assert served == set(submit.ROUTES_HELP.split(", "))
    answered = DOCUMENTS["classify.json"]["components"]["schemas"]["Classification"]["properties"]
    assert set(answered) == set(Classification.model_fields)
