"""Where a pointer stands and what the folders of models hold, for ``Serving``, which follows it."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from functions.classify.model import Model, Stop, load_model
from functions.classify.serving import Serving
from schemas import Canary, ModelPointer, NamedModel, use_case
from tests.functions.doubles import models

CASE = use_case("flights")


@dataclass
class World:
    """Where the pointer stands and what the folders hold; time goes by on demand."""

    time: float = 1000.0
    pointer: ModelPointer | None = None
    history: dict[int, ModelPointer] = field(default_factory=dict)
    error: Exception | None = None
    passing_error: Exception | None = None
    passing_pointer: ModelPointer | None = None
    """What the next read gives, in place of how the pointer stands by now."""
    load_seconds: float = 60.0
    """Of real time, after which a load is given up."""
    reads: int = 0
    loads: list[int] = field(default_factory=list)
    folders: dict[str, dict[str, bytes]] = field(default_factory=dict)
    loads_open: threading.Event = field(default_factory=threading.Event)
    reads_open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.loads_open.set()
        self.reads_open.set()
        self.serving = Serving(self, self.load, load_seconds=self.load_seconds, clock=lambda: self.time)

    async def now(self) -> ModelPointer | None:
        self.reads += 1
        await self.reads_open.wait()
        passing, self.passing_error = self.passing_error, None
        if passing or self.error:
            raise passing or self.error  # type: ignore[misc]
        older, self.passing_pointer = self.passing_pointer, None
        return older or self.pointer

    async def at(self, generation: int) -> ModelPointer | None:
        return self.history.get(generation)

    def load(self, named: NamedModel, stop: Stop) -> Model:
        self.loads.append(int(named.model_version.rsplit("-", 1)[1]))
        assert self.loads_open.wait(10)
        files = self.folders[named.uri]
        return load_model(CASE, named.model_version, named.manifest_sha256, files.__getitem__, stop)

    def reader(self, named: NamedModel) -> Callable[[str], bytes]:
        """Reads the files of a model's folder."""
        return self.folders[named.uri].__getitem__

    def model(self, number: int, spoil: bool = False, **manifest: Any) -> NamedModel:
        """A folder with a model that nothing points to yet; it answers ``number`` percent to everything."""
        files = models.folder(CASE, run_id=f"run-{number}", bias=number / 100, **manifest)
        named = NamedModel.model_validate(models.pointer(files, 1).model_dump())
        self.folders[named.uri] = files | {"model.onnx": b"spoilt"} if spoil else files
        return named

    def beside(self, *, shadow: NamedModel | None = None, canary: NamedModel | None = None, share: float = 0.5) -> None:
        """Move the pointer to candidates beside the model that serves."""
        assert self.pointer is not None
        self.pointer = self.pointer.model_copy(
            update={
                "generation": self.pointer.generation + 1,
                "shadow": shadow,
                "canary": None if canary is None else Canary(**canary.model_dump(), share=share),
            }
        )

    def promote(self, generation: int, spoil: bool = False, **manifest: Any) -> None:
        files = models.folder(CASE, run_id=f"run-{generation}", bias=generation / 100, **manifest)
        self.point(models.pointer(files, generation), files, spoil)

    def point(self, pointer: ModelPointer, files: dict[str, bytes], spoil: bool = False) -> None:
        if spoil:
            files = files | {"model.onnx": b"spoilt"}
        self.folders[pointer.uri] = files
        self.history[pointer.generation] = self.pointer = pointer

    async def generation(self) -> int:
        served = self.serving.current_if_fresh() or await self.serving.get()
        return served.generation

    async def freeze_gc(self) -> None:
        """Let the refresh that is under way come to its end."""
        task = self.serving._refreshing
        if task is not None:
            await asyncio.wait({task})

    async def follow(self) -> None:
        """Let the soft bound pass, and all that follows from it happen."""
        self.time += 2.1
        await self.generation()
        await self.freeze_gc()
        task = self.serving._candidates._loading
        if task is not None:
            await asyncio.wait({task})
