import os

import pytest

from attrition.config import Columns, Numeric
from attrition.errors import AttritionError, Damaged, NoModel
from attrition.operations import releases
from attrition.storage import files

FEATURES = {"numeric": ["a"], "categorical": ["b"]}
LATER = "2026-02-01T00:00:00Z"
COLUMNS = Columns(numeric=(Numeric("a"),), categorical=("b",))


def create(production, second=0, model=b"model", **training):
    """Write a release made at a given second; return its id."""
    training = files.encode(files.sealed({"features": FEATURES} | training))
    contents = {
        releases.MODEL: model,
        releases.EVALUATION_MODEL: model,
        releases.TRAINING: training,
        releases.SCORE: files.encode(files.sealed({"sets": {}})),
        releases.CARD: b"# Model card",
        "latestscore.txt": b"0.5\n",
        "ingestedfiles.txt": b"ingested_at\n",
    }
    stamp = f"2026-01-01T00:00:{second:02}Z"
    return releases.create(production, contents, {"deployed_at": stamp})


@pytest.fixture
def deployed(tmp_path):
    releases.activate(tmp_path, create(tmp_path))
    return tmp_path


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_release_is_read_as_it_was_created(deployed):
    found = releases.read_current(deployed)
    assert found.training["features"] == FEATURES
    assert found.model_sha256 == files.sha256_bytes(b"model")
    assert found.id.startswith("20260101T000000Z-")


def test_a_created_release_is_not_in_production_yet(tmp_path):
    create(tmp_path)
    with pytest.raises(NoModel, match="no model in production yet"):
        releases.read_current(tmp_path)


def test_the_same_release_created_again_is_one_release(tmp_path):
    assert create(tmp_path) == create(tmp_path)
    assert len(releases.list_ids(tmp_path)) == 1


def test_another_model_of_the_same_second_is_another_release(tmp_path):
    assert create(tmp_path, model=b"a") != create(tmp_path, model=b"b")


def test_a_release_that_was_never_finished_is_no_release(tmp_path, monkeypatch):
    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", crash)
        with pytest.raises(KeyboardInterrupt):
            create(tmp_path)
    assert releases.list_ids(tmp_path) == []
    releases.activate(tmp_path, create(tmp_path))
    assert releases.read_current(tmp_path).training["features"] == FEATURES


@pytest.mark.parametrize("place", range(8))
def test_one_flipped_bit_in_any_file_is_noticed(deployed, place):
    folder = releases.read_current(deployed).folder
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 8
    flip_a_byte(folder / names[place])
    with pytest.raises(Damaged):
        releases.read_current(deployed)


@pytest.mark.parametrize("name", [releases.MODEL, releases.MANIFEST, releases.SCORE])
def test_a_missing_file_is_noticed(deployed, name):
    (releases.read_current(deployed).folder / name).unlink()
    with pytest.raises(Damaged, match="roll back"):
        releases.read_current(deployed)


def test_a_damaged_release_is_never_activated(deployed):
    other = create(deployed, second=1)
    flip_a_byte(deployed / "releases" / other / releases.MODEL)
    with pytest.raises(Damaged):
        releases.activate(deployed, other)
    assert releases.current_id(deployed) != other


@pytest.mark.parametrize("name", ["", "..", "../x", "20260101T000000Z-00000000", "a" * 300])
def test_what_is_no_release_cannot_be_read(deployed, name):
    with pytest.raises(NoModel):
        releases.read(deployed, name)


def test_a_pointer_to_nowhere_is_no_model(deployed):
    releases.replace_link(deployed / "current", "releases/20200101T000000Z-00000000")
    with pytest.raises(NoModel):
        releases.read_current(deployed)


def test_a_pointer_that_is_no_link_is_damage(deployed):
    (deployed / "current").unlink()
    (deployed / "current").mkdir()
    with pytest.raises(Damaged, match="is not the link that deployment.py wrote"):
        releases.current_id(deployed)
    with pytest.raises(AttritionError, match="is in the way"):
        releases.activate(deployed, releases.list_ids(deployed)[0])


def test_the_pointer_is_replaced_by_one_rename_and_never_missing(deployed, monkeypatch):
    other, seen, real = create(deployed, second=1), [], os.replace

    def watch(source, target):
        seen.append(releases.current_id(deployed))
        real(source, target)
        seen.append(releases.current_id(deployed))

    before = releases.current_id(deployed)
    monkeypatch.setattr(os, "replace", watch)
    releases.activate(deployed, other)
    assert seen == [before, other]


def test_a_pointer_that_cannot_be_made_is_named_not_its_target(deployed, monkeypatch):
    def full(target, link):
        raise OSError(28, "No space left on device", target, None, link)

    monkeypatch.setattr(os, "symlink", full)
    with pytest.raises(OSError, match="No space left") as failed:
        releases.activate(deployed, releases.list_ids(deployed)[0])
    assert failed.value.filename == str(deployed / "current")


def test_the_links_at_the_root_follow_the_pointer(deployed):
    releases.activate(deployed, create(deployed, second=1, model=b"newer"))
    assert (deployed / releases.MODEL).read_bytes() == b"newer"
    assert (deployed / "latestscore.txt").read_bytes() == b"0.5\n"
    assert os.readlink(deployed / releases.MODEL) == f"current/{releases.MODEL}"


def test_a_file_that_stands_where_a_link_belongs_is_replaced_by_the_link(tmp_path):
    (tmp_path / releases.MODEL).write_bytes(b"put here by hand")
    releases.activate(tmp_path, create(tmp_path))
    assert (tmp_path / releases.MODEL).read_bytes() == b"model"


def test_releases_are_listed_oldest_first(tmp_path):
    made = [create(tmp_path, second) for second in (3, 1, 2)]
    assert releases.list_ids(tmp_path) == sorted(made)
    assert releases.list_ids(tmp_path / "nowhere") == []


def test_old_releases_are_collected_but_never_the_current(tmp_path):
    made = [create(tmp_path, second) for second in range(5)]
    releases.activate(tmp_path, made[0])
    assert releases.collect(tmp_path, keep=2) == made[1:3]
    assert releases.list_ids(tmp_path) == [made[0], *made[3:]]


def test_a_release_that_is_being_deleted_is_none_at_once(tmp_path, monkeypatch):
    made = [create(tmp_path, second) for second in range(3)]
    releases.activate(tmp_path, made[-1])

    def crash(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "remove_folder", crash)
        with pytest.raises(KeyboardInterrupt):
            releases.collect(tmp_path, keep=2)
    assert releases.list_ids(tmp_path) == made[1:]
    releases.collect(tmp_path, keep=2)
    assert sorted(os.listdir(tmp_path / "releases")) == made[1:]


def test_what_a_crash_left_of_a_release_is_collected(deployed):
    left_over = deployed / "releases" / ".20260101T000009Z-00000000"
    left_over.mkdir()
    releases.collect(deployed)
    assert not left_over.exists()


def test_a_model_of_columns_that_are_gone_is_no_model_for_today(deployed):
    assert releases.read_for(deployed, COLUMNS).id == releases.current_id(deployed)
    with pytest.raises(NoModel, match=r"needs b, which config\.json no longer names"):
        releases.read_for(deployed, Columns(numeric=(Numeric("a"), Numeric("c"))))


def test_release_of_an_earlier_version_is_no_model_to_compare_with(deployed):
    release = releases.read_current(deployed)
    contents = {name: (release.folder / name).read_bytes() for name in release.manifest["outputs"]}
    del contents[releases.EVALUATION_MODEL]
    releases.activate(deployed, releases.create(deployed, contents, {"deployed_at": LATER}))
    with pytest.raises(NoModel, match="deployed by an earlier version"):
        releases.read_for(deployed, COLUMNS)


def test_a_feature_that_changed_its_kind_is_gone(deployed):
    with pytest.raises(NoModel):
        releases.read_for(deployed, Columns(numeric=(Numeric("a"), Numeric("b"))))


def test_a_release_that_holds_no_model_is_damaged_when_it_is_loaded(deployed):
    with pytest.raises(Damaged, match="cannot be trusted"):
        releases.load_model(releases.read_current(deployed))


def test_a_release_made_after_the_clock_went_back_is_the_newest(tmp_path):
    made = [create(tmp_path, second, model=bytes([second])) for second in (30, 5, 1, 40)]
    assert releases.list_ids(tmp_path) == made
    assert [release_id[:16] for release_id in made] == [
        *("20260101T000030Z", "20260101T000031Z", "20260101T000032Z", "20260101T000040Z"),
    ]
    manifest = files.read_record(tmp_path / "releases" / made[1] / releases.MANIFEST)
    assert manifest["deployed_at"] == "2026-01-01T00:00:05Z"


def test_releases_of_one_second_keep_their_order(tmp_path):
    made = [create(tmp_path, model=bytes([i])) for i in range(6)]
    assert releases.list_ids(tmp_path) == made


@pytest.mark.parametrize("spoil", ["missing", "file", "elsewhere"])
def test_a_link_at_the_root_that_is_not_what_it_was_is_made_again(deployed, spoil):
    link = deployed / releases.MODEL
    link.unlink()
    if spoil == "file":
        link.write_bytes(b"other")
    elif spoil == "elsewhere":
        link.symlink_to("/etc/hostname")
    assert releases.restore_links(deployed) == [link]
    assert link.read_bytes() == b"model"
    assert releases.restore_links(deployed) == []


def test_before_the_first_deployment_there_are_no_links_to_make(tmp_path):
    assert releases.restore_links(tmp_path) == []


def test_release_of_version_0_1_0_is_read(deployed):
    release = releases.read_current(deployed)
    contents = {name: (release.folder / name).read_bytes() for name in release.manifest["outputs"]}
    joined = b"".join(name.encode() + contents[name] for name in sorted(contents))
    old_id = f"20260101T000000Z-{files.sha256_bytes(joined)[:8]}"
    release.folder.rename(release.folder.with_name(old_id))
    assert old_id != release.id
    assert releases.read(deployed, old_id).model_sha256 == release.model_sha256
