from attrition import config_file
from tests.conftest import write_config


def test_two_folders_are_two_projects_and_one_folder_by_two_names_is_one(tmp_path):
    one, two = write_config(tmp_path / "one"), write_config(tmp_path / "two")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    linked = config_file.load(tmp_path / "link" / "config.json")
    assert one.project == linked.project != two.project


def test_file_of_a_segment_and_that_of_its_arrivals_have_the_same_number(tmp_path):
    config = write_config(tmp_path)
    first, last = (config.output_folder / f"finaldata-{n}.parquet" for n in (9, 10))
    outputs = [last.name, "finaldata.parquet", "deliveries-9.npz", first.name]
    assert config.list_segments(outputs) == [config.rows, first, last]
    assert config.deliveries_of(first).name == "deliveries-9.npz"


def test_managers_whose_names_look_alike_have_files_of_their_own(tmp_path):
    config = write_config(tmp_path)
    names = ["Ann/Lee", "Ann Lee", "Ann-Lee"]
    assert len({config.manager_pages(name) for name in names}) == len(names)
    sheets = sorted(map(config.manager_sheet, names))
    assert {sheet.parent for sheet in sheets} == {config.reports_folder}
    config.reports_folder.mkdir(exist_ok=True)
    for sheet in sheets:
        sheet.touch()
    assert config.find_manager_sheets() == sheets
