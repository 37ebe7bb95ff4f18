import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from attrition import idle
from attrition.errors import Busy, Damaged
from attrition.storage import files
from tests.conftest import ROOT


def write_two(folder, text=b"new"):
    contents = {folder / "a.csv": text, folder / "b.csv": text}
    return files.commit(folder / "record.json", contents, {"inputs": {"x": "1"}})


def test_commit_writes_files_and_a_record_that_names_them(tmp_path):
    record = write_two(tmp_path)
    assert (tmp_path / "a.csv").read_bytes() == b"new"
    assert record["outputs"]["b.csv"] == files.sha256_bytes(b"new")
    assert files.read_record(tmp_path / "record.json") == record
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "b.csv", "record.json"]


def test_files_written_side_by_side_are_committed_as_one_after_the_other(tmp_path):
    meeting = threading.Barrier(
        2, timeout=10
    )  # neither of two jobs ends before the other has begun

    def write(file):
        meeting.wait()
        file.write(b"1")

    def record():
        meeting.wait()
        return {"rows": 1}

    path = tmp_path / "record.json"
    names = [tmp_path / "a", tmp_path / "b"]
    written = files.commit(path, {names[0]: write, names[1]: b"2"}, record, at_once=2)
    assert [name.read_bytes() for name in names] == [b"1", b"2"]
    assert files.read_record(path) == written
    assert (
        files.commit(tmp_path / "one.json", {names[0]: b"1", names[1]: b"2"}, {"rows": 1})
        == written
    )


def test_error_of_one_file_side_by_side_commits_none(tmp_path):
    def fail(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a").write_bytes(b"before")
    contents = {tmp_path / "a": b"after", tmp_path / "b": fail}
    with pytest.raises(OSError, match="No space left"):
        files.commit(tmp_path / "record.json", contents, {}, at_once=2)
    assert (tmp_path / "a").read_bytes() == b"before"
    assert files.read_record(tmp_path / "record.json") is None


def test_error_of_one_file_side_by_side_begins_no_further_one(tmp_path):
    begun = []

    def write(file):
        begun.append(file)
        time.sleep(0.05)

    def fail(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    contents = {tmp_path / "a": fail} | {tmp_path / f"b{i}": write for i in range(20)}
    with pytest.raises(OSError, match="No space left"):
        files.commit(tmp_path / "record.json", contents, {}, at_once=2)
    assert len(begun) < 10


def test_commit_that_never_counted_leaves_the_old_files(tmp_path, monkeypatch):
    write_two(tmp_path, b"old")
    monkeypatch.setattr(os, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        write_two(tmp_path)
    files.finish_commit(tmp_path)
    assert (tmp_path / "a.csv").read_bytes() == b"old"
    assert not (tmp_path / files.STAGING).exists()


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_commit_that_counted_is_finished_by_the_next(tmp_path, monkeypatch, moves):
    write_two(tmp_path, b"old")
    real, left = os.replace, [moves]

    def stop(source, target):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            write_two(tmp_path)
    files.finish_commit(tmp_path)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes() == b"new"
    assert files.read_if_up_to_date(tmp_path / "record.json", {"x": "1"}) is not None
    assert not (tmp_path / files.COMMITTED).exists()


def crash(*_):
    raise KeyboardInterrupt


def test_every_write_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    synced, counted = [], []
    real_fsync, real_rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_ino), real_fsync(fd))
    )
    monkeypatch.setattr(
        os, "rename", lambda a, b: (counted.append(list(synced)), real_rename(a, b))
    )
    write_two(tmp_path)
    inodes = {(tmp_path / name).stat().st_ino for name in ("a.csv", "b.csv", "record.json")}
    assert inodes <= set(counted[0])


def test_fresh_only_with_the_same_inputs_and_whole_outputs(tmp_path):
    write_two(tmp_path)
    record = tmp_path / "record.json"
    assert files.read_if_up_to_date(record, {"x": "1"}) is not None
    assert files.read_if_up_to_date(record, {"x": "2"}) is None
    (tmp_path / "a.csv").write_bytes(b"edited")
    assert files.read_if_up_to_date(record, {"x": "1"}) is None


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b'{"seal": 1', b"\x00" * 10, b"[" * 99_999])
def test_a_damaged_record_is_never_read_as_good(tmp_path, text):
    (tmp_path / "record.json").write_bytes(text)
    with pytest.raises(Damaged):
        files.read_record(tmp_path / "record.json")
    assert files.read_if_up_to_date(tmp_path / "record.json", {}) is None


@pytest.mark.parametrize("record", [{}, {"a": 1}, {"z": 1}, {"a": {"seal": ""}, "z": 2}])
def test_every_byte_of_a_record_counts(tmp_path, record):
    path = tmp_path / "record.json"
    data = files.encode(files.sealed(record))
    path.write_bytes(data)
    assert files.read_record(path) == files.sealed(record)
    for at in range(len(data)):
        for other in (b"", b" ", b",", data[at : at + 1] + b"\n"):
            changed = data[:at] + other + data[at + 1 :]
            if changed != data:
                path.write_bytes(changed)
                with pytest.raises(Damaged):
                    files.read_record(path)


def test_a_changed_figure_breaks_the_seal(tmp_path):
    path = tmp_path / "record.json"
    files.commit(path, {}, {"rows": 3})
    path.write_text(path.read_text().replace('"rows": 3', '"rows": 4'))
    with pytest.raises(Damaged, match="seal"):
        files.read_record(path)


def test_a_flip_that_json_reads_as_the_same_number_breaks_it_too(tmp_path):
    path = tmp_path / "record.json"
    files.commit(path, {}, {"rate": 1e-05})
    path.write_text(path.read_text().replace("1e-05", "1E-05"))
    with pytest.raises(Damaged):
        files.read_record(path)


def test_record_keeps_names_that_are_not_utf8(tmp_path):
    files.commit(tmp_path / "r.json", {}, {"inputs": {os.fsdecode(b"\xff.csv"): "1"}})
    found = files.read_record(tmp_path / "r.json")
    assert found is not None
    assert list(found["inputs"]) == [os.fsdecode(b"\xff.csv")]


def test_lock_is_held_against_another_process_and_freed_after(tmp_path):
    code = (
        "import sys; from pathlib import Path; from attrition.storage import files\n"
        f"with files.run_lock(Path({str(tmp_path / 'lock')!r})): print('held')"
    )
    command = [sys.executable, "-c", code]
    with files.run_lock(tmp_path / "lock"):
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert "Busy" in second.stderr
    third = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert third.stdout == "held\n"


def test_lock_in_the_same_process_is_busy_too(tmp_path):
    with files.run_lock(tmp_path / "lock"), pytest.raises(Busy), files.run_lock(tmp_path / "lock"):
        pytest.fail("the lock was given twice")


def test_arrays_have_the_same_bytes_and_come_back(tmp_path):
    import numpy as np

    data = files.arrays_bytes(a=np.arange(3, dtype="uint64"))
    assert data == files.arrays_bytes(a=np.arange(3, dtype="uint64"))
    files.write_bytes(tmp_path / "x.npz", data)
    assert files.read_arrays(tmp_path / "x.npz")["a"].tolist() == [0, 1, 2]
    files.write_bytes(tmp_path / "x.npz", data[:40])
    with pytest.raises(Damaged):
        files.read_arrays(tmp_path / "x.npz")


def test_folders_and_files_are_not_for_everybody(tmp_path):
    files.write_bytes(tmp_path / "made" / "x", b"1")
    assert (tmp_path / "made").stat().st_mode & 0o007 == 0
    assert (tmp_path / "made" / "x").stat().st_mode & 0o007 == 0


def test_every_folder_above_is_durable_before_what_lies_in_it(tmp_path, monkeypatch):
    synced, real = [], files.fsync_folder
    monkeypatch.setattr(files, "fsync_folder", lambda path: (synced.append(path), real(path)))
    (tmp_path / "other").touch()
    files.make_folder(tmp_path / "a" / "b" / "c")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_folder_of_a_run_killed_before_its_name_was_durable_is_made_durable(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    synced, real = [], files.fsync_folder
    monkeypatch.setattr(files, "fsync_folder", lambda path: (synced.append(path), real(path)))
    files.write_bytes(tmp_path / "a" / "x", b"1")
    assert synced[0] == tmp_path
    assert tmp_path not in synced[1:]


def test_what_a_killed_write_left_is_collected_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", crash)
        files.write_bytes(tmp_path / "x", b"1")
    assert os.listdir(tmp_path) == [".x.1.tmp"]
    monkeypatch.setattr(os, "getpid", lambda: 2)
    files.write_bytes(tmp_path / "x", b"2")
    assert os.listdir(tmp_path) == ["x"]


def test_link_planted_where_a_temporary_file_comes_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"theirs")
    (tmp_path / f".x.{os.getpid()}.tmp").symlink_to(victim)
    files.write_bytes(tmp_path / "x", b"ours")
    assert victim.read_bytes() == b"theirs"
    assert not (tmp_path / "x").is_symlink()


@pytest.mark.parametrize("name", [files.STAGING, files.COMMITTED])
def test_link_planted_where_a_commit_is_staged_is_refused(tmp_path, name):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "a.csv").write_bytes(b"theirs")
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / name).symlink_to(theirs)
    with pytest.raises(Damaged, match=f"{name}: is not the folder of an interrupted run"):
        write_two(ours)
    assert os.listdir(theirs) == ["a.csv"]
    assert os.listdir(ours) == [name]


def test_failed_call_on_a_descriptor_names_the_file(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    (tmp_path / "other").touch()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as failed:
        write_two(tmp_path)
    assert failed.value.filename == str(tmp_path / files.STAGING / "a.csv")
    with pytest.raises(OSError, match="No space") as failed:
        files.fsync_folder(tmp_path)
    assert failed.value.filename == str(tmp_path)


def test_folder_that_cannot_be_removed_is_named_in_full(tmp_path):
    with pytest.raises(OSError, match="No such file") as failed:
        files.remove_folder(tmp_path / "gone")
    assert failed.value.filename == str(tmp_path / "gone")


def test_records_of_equal_content_have_equal_bytes():
    assert files.encode({"b": 1, "a": [2]}) == files.encode({"a": [2], "b": 1})
    assert json.loads(files.encode({"b": 1})) == {"b": 1}


# ---- hashing once


@pytest.fixture
def reads(monkeypatch):
    """The files that were read to be hashed."""
    names, real = [], Path.open

    def spy(path, mode="r", *arguments, **options):
        if mode == "rb":
            names.append(path.name)
        return real(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", spy)
    return names


def test_what_was_just_committed_is_not_read_to_be_hashed(tmp_path, reads):
    record = write_two(tmp_path)
    for name, digest in record["outputs"].items():
        assert files.sha256_file(tmp_path / name) == digest
    assert files.sha256_file(tmp_path / "record.json") == files.sha256_bytes(files.encode(record))
    assert reads == []


def test_content_that_is_written_in_pieces_is_hashed_as_it_is_written(tmp_path, reads):
    contents = {tmp_path / "a": lambda file: file.writelines([b"x" * 100_000, b"y", b""])}
    outputs = files.commit(tmp_path / "r.json", contents, {})["outputs"]
    assert (files.sha256_file(tmp_path / "a"), reads) == (outputs["a"], [])
    assert outputs["a"] == files.sha256_bytes((tmp_path / "a").read_bytes())


@pytest.fixture
def old_file(tmp_path):
    """A file that changed long enough ago to be read once only."""
    path = tmp_path / "a"
    path.write_bytes(b"1")
    time.sleep(2 * idle.STEP_NS / 1e9)
    return path


def test_file_that_has_not_changed_for_a_while_is_hashed_once(old_file, reads):
    assert files.sha256_file(old_file) == files.sha256_file(old_file)
    assert reads == ["a"]


def test_file_that_changed_just_now_is_hashed_each_time(tmp_path, monkeypatch, reads):
    monkeypatch.setattr(idle, "STEP_NS", 10**12)
    (tmp_path / "a").write_bytes(b"1")
    assert files.sha256_file(tmp_path / "a") == files.sha256_file(tmp_path / "a")
    assert reads == ["a", "a"]


def begin_process(folder, seconds_later=0.0):
    """Begin as a process of its own does: with the saved hashes alone."""
    with pytest.MonkeyPatch.context() as patch:
        now = time.time() + seconds_later
        patch.setattr(time, "time", lambda: now)
        files.load_hashes(folder / "hashes.json")


def save_hash(path):
    files.forget_hashes()
    digest = files.sha256_file(path)
    files.save_hashes(path.parent / "hashes.json")
    return digest


def test_next_process_hashes_only_what_was_touched(old_file, reads):
    digest = save_hash(old_file)
    begin_process(old_file.parent)
    assert files.sha256_file(old_file) == digest
    assert reads.count("a") == 1
    old_file.write_bytes(b"2")
    assert files.sha256_file(old_file) == files.sha256_bytes(b"2")


@pytest.mark.parametrize("seconds_later", [files.DAY_S + 1, -3600])
def test_all_is_hashed_again_once_a_day_and_when_the_clock_was_set_back(
    old_file, reads, seconds_later
):
    save_hash(old_file)
    begin_process(old_file.parent, seconds_later)
    files.sha256_file(old_file)
    assert reads.count("a") == 2


@pytest.mark.parametrize("text", [b"", b"{}", b"\x00" * 10])
def test_damaged_hashes_cost_only_time(old_file, reads, text):
    digest = save_hash(old_file)
    (old_file.parent / "hashes.json").write_bytes(text)
    begin_process(old_file.parent)
    assert files.sha256_file(old_file) == digest
    assert reads.count("a") == 2


def test_next_process_does_not_read_back_what_was_committed(tmp_path, reads):
    files.forget_hashes()
    record = write_two(tmp_path)
    files.save_hashes(tmp_path / "hashes.json")
    begin_process(tmp_path)
    assert files.damaged_outputs(tmp_path, record) == []
    assert not {"a.csv", "b.csv"} & set(reads)
    (tmp_path / "a.csv").write_bytes(b"nfw")
    assert files.damaged_outputs(tmp_path, record) == ["a.csv"]


def test_hashes_of_files_that_are_gone_are_not_saved(old_file):
    save_hash(old_file)
    begin_process(old_file.parent)
    old_file.unlink()
    files.save_hashes(old_file.parent / "hashes.json")
    record = files.read_record(old_file.parent / "hashes.json")
    assert record is not None
    assert record["files"] == {}


def test_bit_that_flips_is_noticed_at_once_and_also_where_the_time_is_set_back(tmp_path):
    record, path = write_two(tmp_path), tmp_path / "a.csv"
    before = path.stat()
    path.write_bytes(b"nfw")
    assert files.damaged_outputs(tmp_path, record) == ["a.csv"]
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.damaged_outputs(tmp_path, record) == ["a.csv"]


def test_file_that_is_replaced_by_another_is_noticed(tmp_path):
    record = write_two(tmp_path)
    (tmp_path / "other").write_bytes(b"nfw")
    os.replace(tmp_path / "other", tmp_path / "a.csv")
    assert files.damaged_outputs(tmp_path, record) == ["a.csv"]
    (tmp_path / "a.csv").unlink()
    assert files.sha256_file(tmp_path / "a.csv") == ""


def test_commit_keeps_and_removes_outputs_of_the_record_before(tmp_path):
    record, names = tmp_path / "r.json", ("a", "b", "c")
    files.commit(record, {tmp_path / name: name.encode() for name in names}, {})
    (tmp_path / "other").write_bytes(b"of somebody else")
    kept = {"a": files.sha256_bytes(b"a")}
    written = files.commit(record, {tmp_path / "c": b"new"}, {}, kept=kept)
    assert written["outputs"] == kept | {"c": files.sha256_bytes(b"new")}
    assert sorted(os.listdir(tmp_path)) == ["a", "c", "other", "r.json"]


def test_interrupted_commit_removes_what_its_record_no_longer_names(tmp_path, monkeypatch):
    record = tmp_path / "r.json"
    files.commit(record, {tmp_path / "a": b"a", tmp_path / "b": b"b"}, {})
    with monkeypatch.context() as dying:
        dying.setattr(files, "finish_commit", lambda folder: None)
        files.commit(record, {tmp_path / "c": b"c"}, {}, kept={})
    assert sorted(files.read_record(record)["outputs"]) == ["a", "b"]
    files.finish_commit(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["c", "r.json"]
    assert [*files.read_record(record)["outputs"]] == ["c"]
