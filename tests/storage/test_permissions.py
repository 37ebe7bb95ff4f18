"""What another user of the machine must not be able to do with our state."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import app as api
import deployment
from attrition.errors import AttritionError, Damaged
from attrition.operations import releases
from attrition.storage import permissions
from attrition.upkeep import integrity
from tests.conftest import ROOT, count_as_asked, run_whole, write_config, write_sources
from tests.support import SCRIPT, run

NOBODY = 65534


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def test_nothing_of_the_state_is_open_to_others_even_under_an_open_umask(tmp_path):
    config = write_sources(tmp_path, 100)
    count_as_asked(config)
    shutil.rmtree(config.reports_folder)
    before = os.umask(0)
    try:
        done = run(config)
    finally:
        os.umask(before)
    assert done.returncode == 0
    paths = [path for folder in integrity.folders(config) for path in folder.rglob("*")]
    contents = [path for path in paths if path.is_file() and not path.is_symlink()]
    assert {config.report, config.diary, config.history} <= {*contents}
    assert not [path for path in contents if mode(path) & 0o137]
    folders = [path for path in paths if path.is_dir() and not path.is_symlink()]
    assert not [path for path in (*integrity.folders(config), *folders) if mode(path) & 0o027]


def test_a_folder_that_stood_open_is_closed_by_the_next_run_with_work(project):
    for folder in integrity.folders(project):
        folder.chmod(0o777)
    assert run_whole(project) == 0
    assert not [folder for folder in integrity.folders(project) if mode(folder) & 0o007]


def test_the_folder_of_the_contact_log_is_closed_too(empty_project):
    empty_project.contacts_folder.mkdir()
    empty_project.contacts_folder.chmod(0o777)
    permissions.close_folders(empty_project)
    assert mode(empty_project.contacts_folder) == 0o770


def test_app_that_may_not_write_the_contact_log_serves_with_a_warning(
    empty_project, monkeypatch, caplog
):
    monkeypatch.setattr(os, "access", lambda path, how: not how & os.W_OK)
    permissions.check_readable(empty_project)
    assert "nothing can be entered" in caplog.text


def test_afterwards_the_umask_is_what_it_was(project):
    before = os.umask(0o077)
    try:
        run_whole(project)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@as_root
def test_root_is_warned_of_a_folder_of_somebody_else(project, caplog):
    os.chown(project.model_folder, NOBODY, -1)
    permissions.close_folders(project)
    assert f"practicemodels: belongs to user {NOBODY}" in caplog.text


@as_root
def test_nobody_else_works_in_a_folder_of_somebody_else(project, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY - 1)
    os.chown(project.model_folder, NOBODY, -1)
    with pytest.raises(AttritionError, match=r"practicemodels: belongs to user 65534.*chown"):
        permissions.close_folders(project)


@pytest.fixture
def open_folder():
    """A folder that other users may enter, whatever another session of the tests does to tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@as_root
def test_another_user_can_run_all_of_it_in_folders_of_its_own(open_folder):
    config = write_sources(open_folder, 100)
    count_as_asked(config)
    for path in (open_folder, *open_folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *SCRIPT]
    command += ["--config", str(config.file), "--quiet"]
    if subprocess.run([*command[:4], sys.executable, "-c", ""], check=False).returncode:
        pytest.skip("this user cannot run the Python of the tests")
    environment = {**os.environ, "HOME": str(open_folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert config.contact_list.stat().st_uid == NOBODY


@as_root
@pytest.mark.parametrize("place", ["production_deployment", "."])
def test_app_started_by_a_user_who_may_not_read_is_one_line_and_exit_1(open_folder, place):
    production = "project/production_deployment"
    config = write_config(open_folder, prod_deployment_path=production)
    config.production_folder.mkdir(parents=True)
    (open_folder / "project" / place).chmod(0o750)
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if subprocess.run([*command, sys.executable, "-c", ""], check=False).returncode:
        pytest.skip("this user cannot run the Python of the tests")
    command += [sys.executable, str(ROOT / "app.py"), "--port", "0"]
    command += ["--config", str(config.file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert f"user {NOBODY} may not" in done.stderr
    assert "start the app as the user who runs fullprocess.py" in done.stderr


@pytest.mark.parametrize("bits", [0o020, 0o002])
@pytest.mark.parametrize("name", ["", releases.MODEL, releases.MANIFEST])
def test_a_release_that_others_could_have_written_is_not_loaded(project, name, bits):
    path = project.releases / releases.current_id(project.production_folder) / name
    path.chmod(mode(path) | bits)
    with pytest.raises(Damaged, match="others may write to it"):
        releases.read_current(project.production_folder)
    assert api.create_app(project).test_client().get("/health").status_code == 503


@as_root
def test_a_release_of_another_user_is_not_loaded(project):
    path = project.releases / releases.current_id(project.production_folder) / releases.MODEL
    os.chown(path, NOBODY, -1)
    with pytest.raises(Damaged, match=f"belongs to user {NOBODY}, expected 0 or root"):
        releases.read_current(project.production_folder)


def test_a_link_in_a_release_is_not_followed(project, tmp_path):
    path = project.releases / releases.current_id(project.production_folder) / releases.MODEL
    path.rename(tmp_path / "model")
    path.symlink_to(tmp_path / "model")
    with pytest.raises(Damaged, match="is a link"):
        releases.read_current(project.production_folder)


def test_rollback_to_a_release_that_others_could_write_is_refused(aged, capsys):
    old, new = releases.list_ids(aged.production_folder)
    (aged.releases / old).chmod(0o777)
    assert deployment.main(["--config", str(aged.file), "--rollback"]) == 1
    assert "others may write to it" in capsys.readouterr().err
    assert releases.current_id(aged.production_folder) == new


# ---- one folder


def test_what_is_made_in_the_block_is_closed_to_others(tmp_path):
    before = os.umask(0)
    try:
        with permissions.private():
            (tmp_path / "a").write_text("")
            (tmp_path / "inner").mkdir()
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert (mode(tmp_path / "a"), mode(tmp_path / "inner")) == (0o640, 0o750)


def test_the_umask_comes_back_after_an_error():
    before = os.umask(0o022)
    try:
        with pytest.raises(KeyError), permissions.private():
            raise KeyError
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_a_folder_that_is_not_there_yet_is_passed_over(empty_project):
    permissions.close_folders(empty_project)
    assert not empty_project.output_folder.exists()


@pytest.mark.parametrize("bits", [0o000, 0o040, 0o004, 0o005])
def test_a_folder_that_others_may_only_read_is_private_enough(tmp_path, bits):
    (tmp_path / "model").write_text("")
    (tmp_path / "model").chmod(0o600 | bits)
    permissions.check_private(tmp_path)


@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_a_file_that_others_may_write_is_refused_with_what_to_do(tmp_path, bits):
    (tmp_path / "model").write_text("")
    (tmp_path / "model").chmod(0o600 | bits)
    with pytest.raises(Damaged, match=rf"model: others may write to it .*chmod -R go-w {tmp_path}"):
        permissions.check_private(tmp_path)


def test_a_link_is_refused_wherever_it_leads(tmp_path):
    (tmp_path / "model").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Damaged, match="model: is a link"):
        permissions.check_private(tmp_path)
