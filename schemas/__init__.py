"""Every record that crosses a process, declared once. Imports pydantic and the standard library only."""

from schemas.classification import Classification
from schemas.comparison import Comparison
from schemas.contract import UseCaseError
from schemas.dead_letter import DeadLetter
from schemas.envelope import Envelope, EnvelopeError, decode_envelope, decode_push_body
from schemas.features import Features
from schemas.label import Label
from schemas.model_manifest import DataCheck, GoldenRow, ModelFile, ModelManifest, Verdict
from schemas.model_pointer import Canary, ModelPointer, ModelPromotion, NamedModel
from schemas.record import Record, RecordId
from schemas.training_run import RunState, TrainingRun
from schemas.use_cases import USE_CASES, UseCase, use_case

__all__ = [
    "USE_CASES",
    "Canary",
    "Classification",
    "Comparison",
    "DataCheck",
    "DeadLetter",
    "Envelope",
    "EnvelopeError",
    "Features",
    "GoldenRow",
    "Label",
    "ModelFile",
    "ModelManifest",
    "ModelPointer",
    "ModelPromotion",
    "NamedModel",
    "Record",
    "RecordId",
    "RunState",
    "TrainingRun",
    "UseCase",
    "UseCaseError",
    "Verdict",
    "decode_envelope",
    "decode_push_body",
    "use_case",
]
