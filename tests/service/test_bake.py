"""Which mask a server is loaded with: a file, a name, several as their union."""

import pytest

import masks
from service.baking import bake
from service.control import Control
from service.database import Database
from service.errors import ConflictError, NotFoundError
from service.files import MaskFiles
from service.registry import Registry
from service.settings import parse
from tests.service.server import MODEL


@pytest.fixture
def control(tmp_path):
    settings = parse(store=tmp_path / "store", scorer="none")
    base, parameters = masks.describe(MODEL, id="demo"), masks.parameters(MODEL)
    files, database = MaskFiles(settings.store), Database(settings.database_url)
    yield Control(settings, database, Registry(files, database, base, parameters), "demo")
    database.close()


def saved(folder, name, neurons):
    mask = masks.for_model(MODEL, name, neurons={0: neurons})
    masks.save(mask, folder / f"{name}.mask")
    return mask, str(folder / f"{name}.mask")


def test_one_file_is_registered_and_chosen(control, tmp_path):
    mask, path = saved(tmp_path, "one", [1, 2])
    version, file = bake(control, [path])
    assert (version.label, file.stem) == ("one@1", mask.digest)


def test_several_are_their_union_registered_once(control, tmp_path):
    (first, one), (second, two) = saved(tmp_path, "one", [1, 2]), saved(tmp_path, "two", [2, 3])
    bake(control, [one])
    version, file = bake(control, ["one@1", two])
    union = masks.load(file)
    assert union.neurons[0].tolist() == [1, 2, 3]
    assert version.digest == union.digest == (first | second).digest
    assert version.label == f"{union.name}@1"
    assert bake(control, [one, "two"]) == (version, file)
    assert bake(control, [one, one])[1].stem == first.digest


@pytest.mark.parametrize(("given", "error"), [(["nothing"], NotFoundError), (["base"], ConflictError)])
def test_what_is_no_mask_is_refused(control, tmp_path, given, error):
    _, path = saved(tmp_path, "one", [1])
    with pytest.raises(error, match="--mask"):
        bake(control, [path, *given])
