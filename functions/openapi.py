"""``python -m functions.openapi`` writes the functions' OpenAPI documents into ``docs/openapi/``."""

import json
from pathlib import Path

from functions.classify import openapi as classify
from functions.submit import openapi as submit
from schemas import use_case

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "openapi"


def documents(case_name: str) -> dict[str, str]:
    """Return the text of each OpenAPI file by its name."""
    case = use_case(case_name)
    made = {"classify.json": classify.document(case), "submit.json": submit.document(case)}
    return {name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in made.items()}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in documents("flights").items():
        (FOLDER / name).write_text(text)
