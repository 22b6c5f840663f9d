"""Which mask a server is loaded with: a file, a name, several as their union."""

import pytest

import masks
from service.baking import bake
from service.bootstrap import Service
from service.database import Database
from service.errors import ConflictError, NotFoundError
from service.files import MaskFiles
from service.registry import Registry
from service.settings import parse
from tests.service.server import MODEL


@pytest.fixture
def service(tmp_path):
    settings = parse(store=tmp_path / "store", scorer="none")
    base, parameters = masks.describe(MODEL, id="demo"), masks.parameters(MODEL)
    files, database = MaskFiles(settings.store), Database(settings.database_url)
    yield Service(settings, database, Registry(files, database, base, parameters), "demo", gated=True)
    database.close()


def saved(folder, name, neurons):
    mask = masks.for_model(MODEL, name, neurons={0: neurons})
    masks.save(mask, folder / f"{name}.mask")
    return mask, str(folder / f"{name}.mask")


def test_one_file_is_registered_and_chosen(service, tmp_path):
    mask, path = saved(tmp_path, "one", [1, 2])
    assert bake(service, [path]).stem == mask.digest
    assert service.abilities.baked.label == "one@1"


def test_several_are_their_union_registered_once(service, tmp_path):
    (first, one), (second, two) = saved(tmp_path, "one", [1, 2]), saved(tmp_path, "two", [2, 3])
    bake(service, [one])
    baked = bake(service, ["one@1", two])
    union = masks.load(baked)
    assert union.neurons[0].tolist() == [1, 2, 3]
    assert service.abilities.baked.digest == union.digest == (first | second).digest
    assert service.abilities.baked.label == f"{union.name}@1"
    assert bake(service, [one, "two"]) == baked
    assert service.abilities.baked.label == f"{union.name}@1"
    assert bake(service, [one, one]).stem == first.digest


@pytest.mark.parametrize(("given", "error"), [(["nothing"], NotFoundError), (["base"], ConflictError)])
def test_what_is_no_mask_is_refused(service, tmp_path, given, error):
    _, path = saved(tmp_path, "one", [1])
    with pytest.raises(error, match="--mask"):
        bake(service, [path, *given])
