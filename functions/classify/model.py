"""Loads a model and checks it before it may classify anything."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import onnxruntime
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas import GoldenRow, ModelManifest, UseCase
from schemas.dead_letter import explain
from schemas.file_hash import hash_mismatch
from schemas.shapes import MISSING, model_inputs

FATAL = 4
"""The most severe level of onnxruntime's log."""
GOLDEN_TOLERANCE = 1e-9
"""Largest difference from Spark's own probability at which a golden row counts as reproduced."""

_GOLDEN_ROWS = TypeAdapter(list[GoldenRow])


class ModelRefusedError(Exception):
    """The model must not serve. The text says which check it failed."""


class NoProbabilityError(ArithmeticError):
    """The model's output is not a probability. The text has the output."""


class Stop:
    """Terminates a load from another thread: onnxruntime fails soon, instead of occupying a core indefinitely.

    It checks these flags between the nodes of a graph, and between the steps of building a session.
    https://onnxruntime.ai/docs/api/python/api_summary.html#onnxruntime.RunOptions.terminate
    """

    def __init__(self) -> None:
        self.session = onnxruntime.SessionOptions()
        self.run = onnxruntime.RunOptions()
        self.run.log_severity_level = FATAL  # a terminated run need not be logged

    def set(self) -> None:
        """Terminate the load and every later run of its model."""
        self.run.terminate = True
        self.session.set_load_cancellation_flag(True)


class Model:
    """A loaded model. Only one thread at a time may use it, because single records share one buffer."""

    def __init__(
        self, manifest: ModelManifest, session: onnxruntime.InferenceSession, options: onnxruntime.RunOptions
    ) -> None:
        self.manifest = manifest
        # This bypasses the package's wrapper, here and below, which checks for WebGPU graphs twice in each run.
        self._run = session._sess.run
        self._options = options
        self._values = _getter(manifest.inputs)
        # A category is encoded as the index of its value, and a value not in the list as one past the last index.
        self._categories = tuple(
            (place, indexes(manifest.categories[name]), len(manifest.categories[name]))
            for place, (name, kind) in enumerate(zip(manifest.inputs, manifest.input_kinds, strict=True))
            if kind == "category"
        )

        # The session is bound once to the memory of a single record's row and output, which halves the time of a run.
        # Reusing the run options saves a quarter of the rest.
        self._input = np.zeros((1, len(manifest.inputs)))
        (probe,) = self._run(["probability"], {"features": self._input}, options)
        self._output = np.zeros(probe.shape)
        binding = session.io_binding()
        for bind, name, array in (
            (binding.bind_input, "features", self._input),
            (binding.bind_output, "probability", self._output),
        ):
            bind(name, "cpu", 0, np.float64, array.shape, array.ctypes.data)
        self._run_bound = partial(session._sess.run_with_iobinding, binding._iobinding, options)

    def probability(self, features: BaseModel) -> float:
        """Return the probability of the positive label.

        Raises:
            NoProbabilityError: the output is not a probability.
        """
        self._input[0] = self.row(features.__dict__)
        self._run_bound()
        probability: float = self._output.item()
        if 0.0 <= probability <= 1.0:
            return probability
        raise self._no_probability(probability)

    def probabilities(self, features: Sequence[BaseModel]) -> list[float]:
        """Return the probability of the positive label for each of ``features``, in one run of the session.

        Raises:
            NoProbabilityError: an output is not a probability.
        """
        rows = [self.row(item.__dict__) for item in features]
        # None becomes NaN here, which represents a missing number in the trees.
        (answer,) = self._run(["probability"], {"features": np.array(rows, dtype=np.float64)}, self._options)
        fits = (answer >= 0.0) & (answer <= 1.0)
        if not fits.all():
            raise self._no_probability(answer[~fits][0])
        probabilities: list[float] = answer.ravel().tolist()
        return probabilities

    def _no_probability(self, answer: float) -> NoProbabilityError:
        return NoProbabilityError(f"model {self.manifest.model_version} answered {answer}, which is no probability")

    def row(self, values: Mapping[str, Any]) -> list[Any]:
        """Return the model's inputs, in its order, from a record's features by name."""
        row = list(self._values(values))
        for place, indexes, unseen in self._categories:
            row[place] = indexes.get(row[place], unseen)
        return row


def _getter(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Return a function that reads the values of ``names`` from a mapping in one step of the interpreter."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)  # itemgetter with one name returns no tuple


def indexes(known: Sequence[str]) -> dict[str | None, int]:
    """Return the index of each known value and of None. Any other value has the index ``len(known)``."""
    found: dict[str | None, int] = {value: index for index, value in enumerate(known)}
    found[None] = found.get(MISSING, len(known))
    return found


def load_model(
    case: UseCase,
    model_version: str,
    manifest_sha256: str,
    read: Callable[[str], bytes],
    stop: Stop | None = None,
) -> Model:
    """Load and verify a model.

    The pointer vouches for the manifest by its hash, the manifest for each file, and the golden rows, which Spark
    itself scored, for the artefact as a whole.

    Args:
        case: the use case that the model must be for.
        model_version: the version that the folder must hold.
        manifest_sha256: the SHA-256 of ``manifest.json``, in hexadecimal.
        read: reads a file of the model's folder by its name.
        stop: lets another thread terminate the load.

    Raises:
        ModelRefusedError: a check failed.
        Exception: the error that ``read`` raised.
    """
    manifest = _read_manifest(case, model_version, manifest_sha256, read("manifest.json"))
    listed = {file.name: file.sha256 for file in manifest.files}
    files = {}
    for name in ("model.onnx", "golden.json"):
        if name not in listed:
            raise ModelRefusedError(f"manifest.json lists no {name}")
        files[name] = _verified(name, listed[name], read(name))
    stop = stop or Stop()
    session = open_session(files["model.onnx"], stop.session)
    _check_signature(session)
    try:
        model = Model(manifest, session, stop.run)
    except Exception as error:
        # onnxruntime's errors have no common base class; a graph that cannot be run must not serve.
        raise ModelRefusedError(f"model.onnx does not take {len(manifest.inputs)} inputs: {error}") from error
    _check_golden_rows(case, model, files["golden.json"])
    return model


def _read_manifest(case: UseCase, model_version: str, manifest_sha256: str, content: bytes) -> ModelManifest:
    _verified("manifest.json", manifest_sha256, content)
    try:
        manifest = ModelManifest.model_validate_json(content)
    except ValidationError as error:
        raise ModelRefusedError(f"manifest.json cannot be read: {explain(error)}") from None
    if manifest.use_case != case.name:
        raise ModelRefusedError(f"the model is for use case {manifest.use_case}, not {case.name}")
    if manifest.model_version != model_version:
        raise ModelRefusedError(f"the folder holds model {manifest.model_version}, not {model_version}")
    kinds = {item.name: item.kind for item in model_inputs(case)}
    if len(manifest.inputs) != len(manifest.input_kinds):
        raise ModelRefusedError("manifest.json: inputs and input_kinds differ in length")
    for name, kind in zip(manifest.inputs, manifest.input_kinds, strict=True):
        if kinds.get(name) != kind:
            raise ModelRefusedError(f"input {name} is a {kind}; in {case.features.__name__} it is {kinds.get(name)}")
        if kind == "category" and name not in manifest.categories:
            raise ModelRefusedError(f"manifest.json has no categories for input {name}")
    return manifest


def _verified(name: str, sha256: str, content: bytes) -> bytes:
    if mismatch := hash_mismatch(name, content, sha256):
        raise ModelRefusedError(mismatch)
    return content


def open_session(graph: bytes, options: onnxruntime.SessionOptions | None = None) -> onnxruntime.InferenceSession:
    """Open a session with the options that serving uses.

    Raises:
        ModelRefusedError: onnxruntime does not load the graph.
    """
    options = options or onnxruntime.SessionOptions()
    # One request is 10 µs of work: a thread pool would cost more than it saves, and occupy the other core.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # A run's allocations are small and freed at once; an arena for them would only hold memory and never return it.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # onnxruntime's errors have no common base class; whatever the error is, the graph must not serve.
        raise ModelRefusedError(f"onnxruntime does not load model.onnx: {error}") from error
    return session


def _check_signature(session: onnxruntime.InferenceSession) -> None:
    inputs = {item.name: item.type for item in session.get_inputs()}
    if inputs != {"features": "tensor(double)"}:
        raise ModelRefusedError(f"model.onnx has inputs {inputs}; expected one, features: tensor(double)")
    if "probability" not in {item.name for item in session.get_outputs()}:
        raise ModelRefusedError("model.onnx has no output called probability")


def _check_golden_rows(case: UseCase, model: Model, content: bytes) -> None:
    try:
        rows = _GOLDEN_ROWS.validate_json(content)
        features = [case.read_features(row.features) for row in rows]
    except ValidationError as error:
        raise ModelRefusedError(f"golden.json cannot be read: {explain(error)}") from None
    if not rows:
        raise ModelRefusedError("golden.json has no rows, so nothing shows that the model is what was trained")
    try:
        together = model.probabilities(features)
        alone = [model.probability(item) for item in features]
    except Exception as error:
        raise ModelRefusedError(f"the model fails on its golden rows: {error}") from error
    for number, (row, *given) in enumerate(zip(rows, together, alone, strict=True)):
        if not all(math.isclose(row.probability, p, rel_tol=0, abs_tol=GOLDEN_TOLERANCE) for p in given):
            raise ModelRefusedError(
                f"golden row {number} gives {given[0]!r}, Spark gave {row.probability!r}; "
                f"more than {GOLDEN_TOLERANCE} apart"
            )
