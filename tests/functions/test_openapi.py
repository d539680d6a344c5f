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


def test_the_paths_are_those_that_are_served():
    """With their methods, and the schema of what is answered."""
    assert {
        path: next(iter(verbs)).upper() for path, verbs in DOCUMENTS["classify.json"]["paths"].items()
    } == classify.ROUTES
    served = {
        f"{next(iter(verbs)).upper()} {re.sub('record_id', 'id', path)}"
        for path, verbs in DOCUMENTS["submit.json"]["paths"].items()
    }
    assert served == set(submit.WHAT_THERE_IS.split(", "))
    answered = DOCUMENTS["classify.json"]["components"]["schemas"]["Classification"]["properties"]
    assert set(answered) == set(Classification.model_fields)
