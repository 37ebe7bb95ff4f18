"""Damage that a run cannot repair by itself is found before it writes anything."""

import pytest

from attrition.operations import integrity


@pytest.mark.parametrize("name", ["final_data", "training_record", "history", "report"])
@pytest.mark.parametrize("spoil", ["folder", "link"])
def test_a_folder_or_link_in_place_of_a_file_is_found(empty_project, tmp_path, name, spoil):
    path = getattr(empty_project, name)
    path.parent.mkdir(exist_ok=True)
    path.mkdir() if spoil == "folder" else path.symlink_to(tmp_path / "elsewhere")
    damage = list(integrity.find_in_the_way(empty_project))
    assert [(each.path, each.follows) for each in damage] == [(path, False)]


def test_folders_and_pointers_are_not_files_of_ours(empty_project):
    paths = integrity.our_files(empty_project)
    assert not {empty_project.releases, empty_project.current} & {*paths}
    assert not {*integrity.folders(empty_project)} & {*paths}
