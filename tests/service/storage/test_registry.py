"""The registry: real SQLite, real files, real SIGKILL."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import masks
from service.errors import ConflictError, InvalidRequestError, NotFoundError
from service.storage.database import Database
from service.storage.mask_files import MaskFiles, StoreError
from service.storage.registry import Registry
from tests.service.server import MODEL, ROOT


def make(name="detox", neurons=(1, 2), layer=0):
    return masks.for_model(MODEL, name, neurons={layer: list(neurons)})


def of_another_model(mask):
    base = replace(mask.meta.base, fingerprint="0" * 64)
    return masks.Mask(mask.neurons, {}, {}, replace(mask.meta, base=base))


@pytest.fixture
def open_registry(tmp_path):
    opened = []

    def open_(**kwargs):
        base, parameters = masks.describe(MODEL), masks.parameters(MODEL)
        database = Database(f"sqlite:///{tmp_path / 'excise.db'}")
        opened.append(database)
        return Registry(MaskFiles(tmp_path), database, base, parameters, **kwargs)

    yield open_
    for database in opened:
        database.close()


def test_versions_count_up_by_name_and_the_same_bytes_keep_theirs(open_registry):
    registry = open_registry()
    first, second, other = make(), make(neurons=[3]), make("calm")
    assert (registry.register(masks.dumps(first))[0].version, registry.register(masks.dumps(second))[0].version) == (
        1,
        2,
    )
    assert registry.register(masks.dumps(other))[0].version == 1
    record, created = registry.register(masks.dumps(first))
    assert (record.version, record.digest, created) == (1, first.digest, False)
    assert [r.version for r in registry.list(name="detox")[0]] == [1, 2]


def test_a_registered_mask_reads_back_byte_for_byte_after_a_restart(open_registry):
    mask = make()
    registry = open_registry()
    registry.register(masks.dumps(mask))
    again = open_registry()
    assert again.path(mask.digest).read_bytes() == masks.dumps(mask)
    assert again.load(mask.digest).digest == mask.digest
    assert again.get("detox", 1).description["counts"] == {"neurons": 2, "heads": 0, "weights": 0}
    assert again.get("detox", 1).description["dampened"] == 0


def test_a_page_has_its_slice_and_the_whole_count(open_registry):
    registry = open_registry()
    for i in range(5):
        registry.register(masks.dumps(make(neurons=[i])))
    records, total = registry.list(offset=1, limit=2)
    assert ([r.version for r in records], total) == ([2, 3], 5)


def test_a_broken_file_and_a_mask_of_another_model_leave_nothing(open_registry, tmp_path):
    registry = open_registry()
    with pytest.raises(InvalidRequestError):
        registry.register(masks.dumps(make())[:-1])
    other = of_another_model(make())
    with pytest.raises(ConflictError) as caught:
        registry.register(masks.dumps(other))
    assert "0" * 64 in str(caught.value) and registry.base.fingerprint in str(caught.value)
    assert registry.list() == ([], 0)
    assert list((tmp_path / "masks").iterdir()) == []


def test_a_mask_of_another_model_fits_where_that_is_allowed(open_registry):
    registry = open_registry(allow_other_base=True)
    other = of_another_model(make())
    assert registry.register(masks.dumps(other))[1]


def test_a_file_changed_on_disk_is_never_served(open_registry):
    registry = open_registry()
    registry.register(masks.dumps(make()))
    registry.path(make_digest := registry.get("detox", 1).digest).write_bytes(masks.dumps(make(neurons=[9])))
    with pytest.raises(StoreError, match="changed on disk"):
        registry.load(make_digest)


def test_registering_again_mends_a_damaged_file(open_registry):
    registry, mask = open_registry(), make()
    registry.register(masks.dumps(mask))
    registry.path(mask.digest).write_bytes(b"damaged")
    with pytest.raises(StoreError, match="register it again"):
        registry.load(mask.digest)
    assert not registry.register(masks.dumps(mask))[1]
    assert registry.load(mask.digest) == mask


def test_a_store_opened_with_another_model_serves_none_of_its_masks(open_registry, tmp_path):
    registry, mask = open_registry(), make()
    record, _ = registry.register(masks.dumps(mask))
    assert registry.foreign(record) == ""
    other = replace(masks.describe(MODEL), fingerprint="0" * 64)
    again = Registry(registry.files, registry._database, other, masks.parameters(MODEL))
    assert again.foreign(record) == mask.meta.base.fingerprint
    with pytest.raises(masks.FingerprintMismatch):
        again.load(mask.digest)


def test_many_writers_give_every_mask_one_version(open_registry):
    registry = open_registry()
    data = [
        masks.dumps(make(neurons=[i, 100])) for i in range(6)
    ] * 4  # made once: a mask holds the second it was made in
    with ThreadPoolExecutor(8) as pool:
        records = [record for record, _ in pool.map(registry.register, data)]
    by_digest = {record.digest: record.version for record in records}
    assert sorted(by_digest.values()) == [1, 2, 3, 4, 5, 6]
    assert all(by_digest[record.digest] == record.version for record in records)


def test_an_unknown_version_is_not_found(open_registry):
    with pytest.raises(NotFoundError):
        open_registry().get("detox", 1)


def test_an_unusable_store_says_which(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        MaskFiles(tmp_path / "file")


WRITER = """
import sys
from pathlib import Path
import masks
from service.storage.database import Database
from service.storage.mask_files import MaskFiles
from service.storage.registry import Registry
store, model = Path(sys.argv[1]), sys.argv[2]
database = Database(f"sqlite:///{store / 'excise.db'}")
registry = Registry(MaskFiles(store), database, masks.describe(model), masks.parameters(model))
for i in range(100_000):
    mask = masks.for_model(model, "detox", neurons={0: [i % 512], 1: [i // 512]})
    record, _ = registry.register(masks.dumps(mask))
    print(record.digest, record.version, flush=True)
"""


def test_sigkill_in_the_middle_loses_no_registered_mask_and_leaves_no_half_one(open_registry, tmp_path):
    acknowledged: dict[str, int] = {}
    for delay in (0.15, 0.4):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(MODEL)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        lines = [process.stdout.readline()]
        os.set_blocking(process.stdout.fileno(), True)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.stdout.close()
        process.wait()
        acknowledged |= {line.split()[0]: int(line.split()[1]) for line in lines if line.endswith("\n")}
    registry = open_registry()
    stored = {record.digest: record.version for record in registry.list()[0]}
    assert len(acknowledged) > 3
    assert acknowledged.items() <= stored.items()
    for digest in stored:
        assert registry.load(digest).digest == digest
    assert all(masks.load(path).digest == path.stem for path in (tmp_path / "masks").glob("*.safetensors"))


def weights(name, **cut):
    return masks.for_model(MODEL, name, weights={f"model.layers.0.mlp.{matrix}.weight": w for matrix, w in cut.items()})


def test_a_mask_of_single_weights_is_registered_with_the_rank_that_it_takes(open_registry):
    registry = open_registry()

    def rank(mask):
        return registry.register(masks.dumps(mask))[0].description["rank"]

    assert rank(make()) == 0
    assert rank(weights("row", up_proj=range(128))) == 1
    assert rank(weights("two", up_proj=range(128), down_proj=[0, 513])) == 2
    assert rank(masks.for_model(MODEL, "outside", weights={"model.embed_tokens.weight": [7]})) is None


def unused(connection, record):
    """Nothing stands in the way."""


def test_a_deleted_mask_is_gone_and_its_number_is_never_used_again(open_registry):
    registry, first, second = open_registry(), make(), make(neurons=[3])
    registry.register(masks.dumps(first))
    registry.delete("detox", 1, check=unused)
    with pytest.raises(NotFoundError):
        registry.get("detox", 1)
    assert registry.list() == ([], 0)
    assert registry.digests() == {}
    assert not registry.path(first.digest).exists()
    assert registry.register(masks.dumps(second))[0].version == 2
    with pytest.raises(NotFoundError):
        registry.delete("detox", 1, check=unused)


def test_the_bytes_of_a_deleted_mask_come_back_as_the_version_they_were(open_registry):
    registry, mask = open_registry(), make()
    registry.register(masks.dumps(mask))
    registry.delete("detox", 1, check=unused)
    record, created = registry.register(masks.dumps(mask))
    assert (record.version, created) == (1, True)
    assert registry.load(mask.digest) == mask


def test_what_is_in_use_stays(open_registry):
    def used(connection, record):
        raise ConflictError("in use", code="in_use")

    registry, mask = open_registry(), make()
    registry.register(masks.dumps(mask))
    with pytest.raises(ConflictError):
        registry.delete("detox", 1, check=used)
    assert registry.load(mask.digest) == mask
    assert registry.get("detox", 1).digest == mask.digest


def test_one_mask_too_many_is_refused_and_leaves_no_file(open_registry, tmp_path):
    registry = open_registry(max_masks=2)
    for neuron in (1, 2):
        registry.register(masks.dumps(make(neurons=[neuron])))
    with pytest.raises(ConflictError, match="EXCISE_MAX_MASKS"):
        registry.register(masks.dumps(make(neurons=[3])))
    assert len(list((tmp_path / "masks").iterdir())) == 2
    registry.delete("detox", 1, check=unused)
    assert registry.register(masks.dumps(make(neurons=[3])))[0].version == 3


def test_an_object_store_hands_masks_to_another_replica(tmp_path):
    url, mask = f"file://{tmp_path / 'bucket'}", make()
    first, second = MaskFiles(url), MaskFiles(url)
    first.save(mask)
    assert not second.path(mask.digest).exists()
    assert second.load(mask.digest) == mask
    assert second.path(mask.digest).read_bytes() == masks.dumps(mask)
    first.remove(mask.digest)
    with pytest.raises(StoreError, match="register it again"):
        MaskFiles(url).load(mask.digest)


def test_an_unknown_kind_of_store_says_which():
    with pytest.raises(StoreError, match="nosuch://"):
        MaskFiles("nosuch://bucket")
