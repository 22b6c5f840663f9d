"""Which mask a server is loaded with: a file, a name, several as their union."""

import pytest

import masks
from service.control import Control
from service.errors import ConflictError, NotFoundError
from service.load_time_masks import choose_load_time_mask
from service.settings import parse
from service.storage.database import Database
from service.storage.mask_files import MaskFiles
from service.storage.registry import Registry
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
    version, file = choose_load_time_mask(control, [path])
    assert (version.label, file.stem) == ("one@1", mask.digest)


def test_several_are_their_union_registered_once(control, tmp_path):
    (first, one), (second, two) = saved(tmp_path, "one", [1, 2]), saved(tmp_path, "two", [2, 3])
    choose_load_time_mask(control, [one])
    version, file = choose_load_time_mask(control, ["one@1", two])
    union = masks.load(file)
    assert union.neurons[0].tolist() == [1, 2, 3]
    assert version.digest == union.digest == (first | second).digest
    assert version.label == f"{union.name}@1"
    assert choose_load_time_mask(control, [one, "two"]) == (version, file)
    assert choose_load_time_mask(control, [one, one])[1].stem == first.digest


@pytest.mark.parametrize(("given", "error"), [(["nothing"], NotFoundError), (["base"], ConflictError)])
def test_what_is_no_mask_is_refused(control, tmp_path, given, error):
    _, path = saved(tmp_path, "one", [1])
    with pytest.raises(error, match="--mask"):
        choose_load_time_mask(control, [path, *given])
