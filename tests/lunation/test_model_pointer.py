"""Moves of the pointer by a person, on running Datastore and Cloud Storage servers, through the command."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from click.testing import Result
from google.cloud import datastore
from typer.testing import CliRunner

from laptop.supervisor import Supervisor
from lunation import model_pointer, query
from lunation.asked import Asked
from lunation.cli import app
from lunation.clients import Clients
from lunation.deploy.datastore import CompositeIndex
from lunation.model_folder import FolderRefusedError, check
from lunation.model_pointer import MoveRefusedError
from lunation.settings import load
from schemas import USE_CASES, ModelPointer, ModelPromotion, use_case
from tests.functions.doubles import models

CASE = use_case("flights")
BUCKET = "local-dev-models"


def blindly(*_: Any) -> None:
    """Takes every model for one that can be served."""


class Operator:
    """A person with the command, and a use case of its own."""

    numbers = itertools.count()

    def __init__(self, clients: Clients, variables: dict[str, str]) -> None:
        self.clients = clients
        self.case = f"case{next(self.numbers)}"
        self._variables = variables

    def model(self, name: str, **manifest: Any) -> str:
        """Put a model into the bucket; its version."""
        run = f"{self.case}-{name}"
        files = models.folder(CASE, run_id=run, **{"use_case": self.case, **manifest})
        version = f"2013-03-01/{run}"
        for file, content in files.items():
            self.blob(version, file).upload_from_string(content)
        return version

    def blob(self, version: str, file: str) -> Any:
        """An object of a model's folder."""
        return self.clients.storage.bucket(BUCKET).blob(f"models/{version}/{file}")

    def pointer(self) -> ModelPointer:
        """The pointer as it stands."""
        found = query.pointer(self.clients.datastore, self.case)
        assert found is not None
        return found

    def promote(self, *names: str) -> list[str]:
        """New models, promoted one after the other; none is tried, which would take a second each."""
        versions = [self.model(name) for name in names]
        for version in versions:
            model_pointer.promote(self.clients, self.case, version, "test", trial=blindly)
        return versions

    def run(self, *arguments: str, code: int = 0) -> Result:
        """The command."""
        result = CliRunner().invoke(app, arguments, env=self._variables, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Clients, dict[str, str]]]:
    """Two servers with the bucket and the index that a deployment makes."""
    state = tmp_path_factory.mktemp("model-pointer") / "state"
    with pytest.MonkeyPatch.context() as patch, Supervisor(state, ["datastore", "storage"]) as running:
        for variable in ("DATASTORE_EMULATOR_HOST", "STORAGE_EMULATOR_HOST"):
            patch.setenv(variable, "")  # the clients set them; they are put back afterwards
        running.wait_ready()
        endpoints = state / "endpoints.json"
        clients = Clients(load().target("laptop").model_copy(update={"endpoints": endpoints}))
        clients.storage.create_bucket(BUCKET)
        CompositeIndex("ModelPromotion", "use_case", "-generation").create(clients)
        CompositeIndex("TrainingRun", "use_case", "-claimed_at").create(clients)
        yield clients, {"LUNATION_TARGETS__LAPTOP__ENDPOINTS": str(endpoints), "COLUMNS": "200", "TERM": "dumb"}


@pytest.fixture
def operator(servers: tuple[Clients, dict[str, str]]) -> Iterator[Operator]:
    """With a use case that no other test knows."""
    made = Operator(*servers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(USE_CASES, made.case, replace(CASE, name=made.case))
        yield made


def test_each_move_is_a_generation_with_a_history_row_that_holds_the_pointer(operator: Operator) -> None:
    """Promote, shadow, canary, rollback: the row of each generation says what, why and who, and where it stood."""
    one, two = operator.promote("one", "two")
    three = operator.model("three")
    model_pointer.shadow(operator.clients, operator.case, three, "a look")
    model_pointer.canary(operator.clients, operator.case, one, "careful", share=0.25)
    standing = operator.pointer()
    assert (standing.model_version, standing.generation) == (two, 4)
    assert standing.shadow is not None
    assert standing.shadow.model_version == three
    assert standing.canary is not None
    assert (standing.canary.model_version, standing.canary.share) == (one, 0.25)
    model_pointer.rollback(operator.clients, operator.case, "false alarms")
    history = query.promotions(operator.clients.datastore, operator.case)
    assert [(row.generation, row.verdict, row.model_version, row.previous_version, row.reason) for row in history] == [
        (5, "ROLLBACK", one, two, "false alarms"),
        (4, "CANARY", two, two, "careful"),
        (3, "SHADOW", two, two, "a look"),
        (2, "PROMOTE", two, one, "test"),
        (1, "PROMOTE", one, None, "test"),
    ]
    assert all("@" in row.actor for row in history)
    assert (history[1].shadow, history[1].canary) == (standing.shadow, standing.canary)
    now = operator.pointer()
    assert now.canary is None, "a canary was a share of what the old model answered"
    assert now.shadow == standing.shadow


def test_a_candidate_that_is_promoted_is_none_any_more(operator: Operator) -> None:
    """Neither shadow nor canary of itself; and a model that serves cannot become one."""
    operator.promote("one")
    two = operator.model("two")
    model_pointer.shadow(operator.clients, operator.case, two, "a look")
    model_pointer.canary(operator.clients, operator.case, two, "careful")
    model_pointer.promote(operator.clients, operator.case, two, "good")
    now = operator.pointer()
    assert (now.model_version, now.shadow, now.canary) == (two, None, None)
    for move in (model_pointer.shadow, model_pointer.canary, model_pointer.promote):
        with pytest.raises(MoveRefusedError, match="serves"):
            move(operator.clients, operator.case, two, "again")
    assert operator.pointer().generation == 4


def test_none_ends_a_candidate(operator: Operator) -> None:
    """Each by itself."""
    one, two, _ = operator.promote("one", "two", "three")
    model_pointer.shadow(operator.clients, operator.case, one, "x")
    model_pointer.canary(operator.clients, operator.case, two, "x")
    model_pointer.canary(operator.clients, operator.case, None, "x")
    assert operator.pointer().canary is None
    assert operator.pointer().shadow is not None
    model_pointer.shadow(operator.clients, operator.case, None, "x")
    assert operator.pointer().shadow is None


def test_two_rollbacks_go_two_models_back_and_not_to_the_bad_one_again(operator: Operator) -> None:
    """What was rolled back from is off the pile, whatever candidates came between; --to goes anywhere."""
    one, two, three = operator.promote("one", "two", "three")
    model_pointer.shadow(operator.clients, operator.case, one, "x")
    assert model_pointer.rollback(operator.clients, operator.case, "bad").model_version == two
    assert model_pointer.rollback(operator.clients, operator.case, "bad too").model_version == one
    with pytest.raises(MoveRefusedError, match="no model before"):
        model_pointer.rollback(operator.clients, operator.case, "x")
    assert model_pointer.rollback(operator.clients, operator.case, "it was not", to=3).model_version == three
    with pytest.raises(MoveRefusedError, match="no generation 77"):
        model_pointer.rollback(operator.clients, operator.case, "x", to=77)
    with pytest.raises(MoveRefusedError, match="serves now"):
        model_pointer.rollback(operator.clients, operator.case, "x", to=7)


@pytest.mark.parametrize("by_hand", [False, True], ids=["by a command", "by hand, without a history row"])
def test_who_is_slower_moves_nothing(operator: Operator, monkeypatch: pytest.MonkeyPatch, by_hand: bool) -> None:
    """Compare-and-set: of two who read the same pointer one moves it, the other is told; no half of a move stays."""
    operator.promote("one")
    mine, theirs = operator.model("mine"), operator.model("theirs")
    client = operator.clients.datastore

    def meanwhile(*arguments: Any) -> Any:
        monkeypatch.undo()
        if by_hand:
            entity = client.get(client.key("ModelPointer", operator.case))
            entity["model_version"] = theirs
            client.put(entity)
        else:
            model_pointer.promote(operator.clients, operator.case, theirs, "faster")
        return check(*arguments)

    monkeypatch.setattr("lunation.model_folder.check", meanwhile)
    with pytest.raises(MoveRefusedError, match="somebody else moved the pointer"):
        model_pointer.promote(operator.clients, operator.case, mine, "slower")
    assert operator.pointer().model_version == theirs
    assert "slower" not in [row.reason for row in query.promotions(client, operator.case)]


def test_a_folder_that_does_not_fit_is_refused(operator: Operator) -> None:
    """No manifest, a manifest of another model or use case, a file with another hash: the pointer stays."""
    operator.promote("one")
    bare, changed, moved = operator.model("bare"), operator.model("changed"), operator.model("moved")
    operator.blob(bare, "manifest.json").delete()
    operator.blob(changed, "model.onnx").upload_from_string(b"other")
    operator.blob(moved, "manifest.json").upload_from_string(operator.blob(bare, "golden.json").download_as_bytes())
    other = operator.model("other", use_case="trains")
    renamed = operator.model("renamed", model_version="2013-03-01/elsewhere")
    for version, words in (
        (bare, "there is no gs://local-dev-models/models/2013-03-01/.*bare/manifest.json"),
        (changed, "model.onnx has SHA-256"),
        (moved, "cannot be read"),
        (other, "use case trains"),
        (renamed, "holds model 2013-03-01/elsewhere"),
    ):
        for move in (model_pointer.promote, model_pointer.shadow, model_pointer.canary):
            with pytest.raises(FolderRefusedError, match=words):
                move(operator.clients, operator.case, version, "x")
    assert operator.pointer().generation == 1


def test_an_older_model_whose_manifest_was_changed_is_not_rolled_back_to(operator: Operator) -> None:
    """The history keeps the hash of what served; another manifest in its place is another model."""
    one, _ = operator.promote("one", "two")
    blob = operator.blob(one, "manifest.json")
    blob.upload_from_string(json.dumps(json.loads(blob.download_as_bytes()) | {"threshold": 0.9}))
    with pytest.raises(MoveRefusedError, match="is not the one that served as generation 1"):
        model_pointer.rollback(operator.clients, operator.case, "x")


def test_what_the_gate_rejected_answers_only_when_a_person_says_so_twice(operator: Operator) -> None:
    """A shadow may be anything; promote and canary name the gate's reasons and want --despite-verdict."""
    operator.promote("one")
    bad = operator.model("bad", verdict="REJECT", reasons=["log-loss is worse"])
    for move in (model_pointer.promote, model_pointer.canary):
        with pytest.raises(MoveRefusedError, match=r"rejected .*log-loss is worse.*--despite-verdict"):
            move(operator.clients, operator.case, bad, "x")
    model_pointer.shadow(operator.clients, operator.case, bad, "a look")
    model_pointer.promote(operator.clients, operator.case, bad, "I know better", despite_verdict=True)
    assert operator.pointer().model_version == bad


def test_a_pointer_of_before_candidates_still_reads(operator: Operator) -> None:
    """Rows without the fields that were added later are moved on from like any other."""
    one = operator.model("one")
    named = check(operator.clients.storage, BUCKET, one, operator.case).named
    old = datastore.Entity(operator.clients.datastore.key("ModelPointer", operator.case))
    old.update(named.model_dump() | {"use_case": operator.case, "generation": 41, "moved_at": models.MOVED_AT})
    operator.clients.datastore.put(old)
    assert operator.pointer().shadow is None
    assert model_pointer.shadow(operator.clients, operator.case, operator.model("two"), "x").generation == 42


def test_the_commands_move_and_say_what_served_when(operator: Operator) -> None:
    """Promote, canary, shadow, rollback and served-at as a person types them."""
    operator.case = "flights"  # the one in lunation.toml
    one, two = operator.model("one"), operator.model("two")
    assert f"the pointer names {one}" in operator.run("promote", one, "--reason", "first").stdout
    printed = operator.run("canary", two, "--share", "0.2", "--reason", "careful").stdout
    assert f"canary: {two} answers 20% of the record ids" in printed
    assert f"shadow: {two}" in operator.run("shadow", two, "--reason", "a look").stdout
    operator.run("promote", two, "--reason", "good")
    operator.run("rollback", "--reason", "not so good")
    history = query.promotions(operator.clients.datastore, "flights")
    during = f"{history[1].moved_at:%Y-%m-%dT%H:%M:%S.%f}"
    answer = json.loads(operator.run("served-at", during, "--json").stdout)
    assert (answer["model_version"], answer["generation"], answer["reason"]) == (two, 4, "good")
    printed = operator.run("served-at", f"{history[3].moved_at:%Y-%m-%dT%H:%M:%S.%f}").stdout
    assert f"{one} served at" in printed
    assert f"canary: {two} answers 20%" in printed
    assert "0 s before" in printed, "an instance may not have followed yet"
    assert "No model of flights served" in operator.run("served-at", "2013-01-01").stdout
    printed = operator.run("models").stdout
    assert f"The pointer names {one}, generation 5, since" in printed
    assert "serves since" not in printed, "nobody was asked: there are no functions here"
    assert "Whether it serves, nobody says: the target has no functions" in printed
    assert "CANARY flights-two 20%" in printed
    assert "SHADOW flights-two" in printed
    assert "still to come" in operator.run("served-at", "2999-01-01", code=1).stderr
    assert "no run '../x'" in operator.run("promote", "../x", "--reason", "x", code=1).stderr
    assert "say why" in operator.run("rollback", "--reason", " ", code=2).stderr


INPUTS = len(CASE.features.model_fields)
HOT = list(CASE.features.model_fields).index("temp")
UNFIT: dict[str, dict[str, Any]] = {
    "within 20 s": {"model": models.endless_graph(INPUTS)},
    "which is no probability": {"model": models.odd_graph(INPUTS, HOT, 1e300, float("nan"))},
    "golden row 0 gives 0.25": {"golden": [{"features": models.FEATURES, "probability": 0.5}]},
    "golden.json cannot be read": {"golden": [{"features": models.FEATURES | {"weekday": 9.0}, "probability": 0.25}]},
}


@pytest.mark.parametrize("words", UNFIT)
def test_what_no_instance_could_serve_is_never_pointed_to(operator: Operator, words: str) -> None:
    """Promote, canary, shadow and rollback try the model by the code that would serve it, and name what is wrong;
    --despite-verdict is no way round. One that was pointed to all the same is not gone back to."""
    operator.promote("one")
    bad = operator.model("bad", **UNFIT[words])
    model_pointer.promote(operator.clients, operator.case, bad, "x", trial=blindly)
    operator.promote("two")
    if words == "within 20 s":  # once is enough
        with pytest.raises(MoveRefusedError, match=f"no instance could serve {bad}: .*{words}"):
            model_pointer.rollback(operator.clients, operator.case, "x")
        return
    for move in (model_pointer.promote, model_pointer.canary, model_pointer.shadow):
        with pytest.raises(MoveRefusedError, match=f"no instance could serve {bad}: .*{words}"):
            move(operator.clients, operator.case, bad, "x")
    with pytest.raises(MoveRefusedError, match=words):
        model_pointer.promote(operator.clients, operator.case, bad, "x", despite_verdict=True)
    with pytest.raises(MoveRefusedError, match=words):
        model_pointer.rollback(operator.clients, operator.case, "x")
    assert operator.pointer().generation == 3


def break_(operator: Operator, kind: str, name: str, **values: Any) -> None:
    """Write what does not fit into an entity that is there, or make one of it."""
    client = operator.clients.datastore
    entity = client.get(client.key(kind, name)) or datastore.Entity(client.key(kind, name))
    entity.update(values)
    client.put(entity)


def test_a_pointer_that_cannot_be_read_is_replaced_when_a_person_says_so(operator: Operator) -> None:
    """Without --repair the error names kind, key and property, and what to say; with it the next generation is above
    the broken one, which instances may have seen, and the history tells what was repaired."""
    one, _ = operator.promote("one", "two")
    three = operator.model("three")
    break_(operator, "ModelPointer", operator.case, moved_at="yesterday", generation=7)
    for move in (model_pointer.promote, model_pointer.shadow, model_pointer.canary):
        with pytest.raises(MoveRefusedError, match=rf"ModelPointer {operator.case}, property moved_at: .*--repair"):
            move(operator.clients, operator.case, three, "x")
    with pytest.raises(MoveRefusedError, match=r"property moved_at: .*--repair"):
        model_pointer.rollback(operator.clients, operator.case, "x")
    row = model_pointer.promote(operator.clients, operator.case, three, "mend", repair=True)
    assert (row.generation, row.previous_version, row.verdict) == (8, f"2013-03-01/{operator.case}-two", "PROMOTE")
    assert row.reason.startswith(f"mend (repairs ModelPointer {operator.case}, property moved_at: ")
    assert (operator.pointer().generation, operator.pointer().model_version) == (8, three)
    assert query.promotions(operator.clients.datastore, operator.case)[0] == row
    assert model_pointer.rollback(operator.clients, operator.case, "x", to=1).model_version == one


@pytest.mark.parametrize("generation", ["seven", 0, None, 3.5])
def test_a_generation_that_is_none_is_taken_from_the_history(operator: Operator, generation: Any) -> None:
    """By its keys, whose rows may be broken, too; a pointer that fits may be passed by what was written by hand."""
    operator.promote("one", "two")
    break_(operator, "ModelPointer", operator.case, generation=generation)
    break_(operator, "ModelPromotion", ModelPromotion.key_name(operator.case, 41), use_case=7)
    break_(operator, "ModelPromotion", f"{operator.case}:last", use_case=operator.case)
    three = operator.model("3")
    assert model_pointer.promote(operator.clients, operator.case, three, "x", repair=True).generation == 42

    break_(operator, "ModelPromotion", ModelPromotion.key_name(operator.case, 43), use_case=operator.case)
    four = operator.model("four")
    with pytest.raises(
        MoveRefusedError, match=rf"ModelPromotion {operator.case}:0000000043 is there already.*--repair"
    ):
        model_pointer.promote(operator.clients, operator.case, four, "x")
    assert model_pointer.promote(operator.clients, operator.case, four, "x", repair=True).generation == 44


def test_the_commands_name_what_is_broken_and_go_on(operator: Operator) -> None:
    """models, served-at and rollback show and use the rest; promote --repair mends the pointer."""
    operator.case = "flights"  # the one in lunation.toml
    one, two = operator.model("x1"), operator.model("x2")
    for version in (one, two):
        model_pointer.promote(operator.clients, "flights", version, "test", repair=True)
    newest = operator.pointer().generation
    key = ModelPromotion.key_name("flights", newest - 1)
    break_(operator, "ModelPromotion", key, reason=7)
    done = operator.run("models")
    assert f"ModelPromotion {key}, property reason: " in done.stderr
    assert two in done.stdout
    done = operator.run("served-at", f"{operator.pointer().moved_at:%Y-%m-%dT%H:%M:%S.%f}")
    assert f"{two} served at" in done.stdout
    done = operator.run("models", "--json")
    assert [row["property"] for row in json.loads(done.stdout)["broken"]] == ["reason"]

    break_(operator, "ModelPointer", "flights", uri=7)
    done = operator.run("models")
    assert "ModelPointer flights, property uri: " in done.stderr
    assert "`lunation promote --repair MODEL_VERSION --reason …` replaces it" in done.stdout
    assert "--repair" in operator.run("promote", one, "--reason", "x", code=1).stderr
    operator.run("promote", one, "--repair", "--reason", "mend")
    assert operator.pointer().generation == newest + 1
    done = operator.run("rollback", "--reason", "x")
    assert f"ModelPromotion {key}, property reason: " in done.stderr
    assert operator.pointer().model_version == two
    bad = operator.model("bad", golden=[{"features": models.FEATURES, "probability": 0.5}])
    refused = operator.run("promote", bad, "--reason", "x", code=1)
    assert "no instance could serve" in refused.stderr


def test_models_says_what_serves_by_what_an_instance_says(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It serves since when the instance has it; else what serves in its place, what is being loaded, and why."""
    operator.case = "flights"
    version = operator.model("asked")
    model_pointer.promote(operator.clients, "flights", version, "test", repair=True, trial=blindly)
    generation = operator.pointer().generation

    def says(**report: Any) -> Result:
        said = {"model_version": version, "generation": generation, "serving_since": "2013-03-01T10:20:30.5+00:00"}
        troubles = report.pop("troubles", ())
        monkeypatch.setattr("lunation.asked.ask", lambda _: Asked(said | report, troubles))
        return operator.run("models")

    assert f"{version} serves since 2013-03-01 10:20:30 UTC in the instance that was asked." in says().stdout
    old = {"model_version": "2013-01-01/old", "generation": generation - 1}
    done = says(**old, loading=version, troubles=("it had not loaded within 60 s",))
    assert f"2013-01-01/old, generation {generation - 1}, still serves in the instance that was asked." in done.stdout
    assert f"It is loading {version}." in done.stdout
    assert "`lunation rollback` goes back" in done.stdout
    assert "the pointer is not followed: it had not loaded within 60 s" in done.stderr
    assert "serves since" not in done.stdout
