"""A project that knows a client in every way, and a reader of all its files; a fixture for tests."""

import hashlib
import io
import json
import shutil
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pypdf
import pytest

import reporting
from attrition import config_file
from attrition.contacts import assignments, log
from attrition.contacts.experiment import Assignment
from attrition.contacts.log import Entry
from attrition.entering.workbook import key_of
from attrition.operations import dependencies
from attrition.rows import forgotten
from attrition.storage import files, history
from tests.conftest import make_rows, run_whole, write_config
from tests.support import put

NAME, LONGER = "Ann Möller", "Ann Möller AG"
HEADER = "corporation,lastmonth_activity,lastyear_activity,number_of_employees,exited"
STATE = ("ingesteddata", "practicemodels", "production_deployment", "reports", "contacts", "access")
AT, DAY = "2026-11-28T08:00:00Z", "2026-11-28"


def forget(config, name, *more):
    return run_whole(config, "--forget", name, *more)


def workbook(text):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("xl/sharedStrings.xml", f"<sst><si><t>{text}</t></si></sst>")
    return data.getvalue()


@pytest.fixture(scope="session")
def knowing(tmp_path_factory):
    """A project with two releases that knows the client in every way; copied, never changed."""
    folder = tmp_path_factory.mktemp("forget")
    config = write_config(folder, contact_capacity=20)
    rows = make_rows(500)
    rows.loc[3, "corporation"] = NAME
    rows.to_csv(config.input_folder / "history.csv", index=False)
    current = make_rows(120, seed=5, prefix="now").assign(exited="")
    current.loc[current["lastmonth_activity"].nlargest(2).index, "corporation"] = [NAME, LONGER]
    current.to_csv(config.input_folder / "current.csv", index=False)
    refused = f"{HEADER}\n{NAME},-3,4,5,0\nother,1,2,3,0\nthird,1,2,3,1\n"
    put(config, "refused.csv", refused)
    make_rows(200, seed=2, prefix="test").to_csv(config.test_folder / "test.csv", index=False)
    note = f"{NAME} called 3 times; {LONGER} did not"
    leaves = Entry(NAME, "override", "Sue", "leaves", note, date="2027-12-31")
    leaves = leaves._replace(key=f"sheet {key_of(config.project, DAY, NAME)} 1")
    entries = [leaves, Entry("now5", "contact", "Sue", note="n")]
    log.append(config.contact_log, entries, AT)
    assigned = Assignment(NAME, "2026-Q4", "treated", AT, "r", 1, 0.5, None, "", 0.2, "0a1b2c3d")
    assignments.append(config.contact_log, [assigned, assigned._replace(client="now5")])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dependencies, "ask_all", dict.fromkeys)
        with patch.context() as past:
            past.setattr(files, "utc_now", lambda: AT)
            assert run_whole(config) == 0
        assert run_whole(config) == 0
    listing = {"at": AT, "made": "x", "client": NAME, "action": "gone", "reason": "no_place"}
    history.save(config.history, "listings", [listing])
    inbox = config.contacts_folder / "inbox" / "read"
    inbox.mkdir(parents=True)
    (inbox / "one.xlsx").write_bytes(workbook(f"{NAME}, {LONGER}"))
    (inbox / "two.csv").write_text(f"client,note\n{NAME},about {NAME}\n", encoding="utf-16")
    with config.diary.open("a", encoding="utf-8") as file:
        file.write(f"client '{NAME}' and {json.dumps(NAME)}\n")
    reporting.write_manager_pages(config, "", AT)
    return config


def copy_of(config, folder):
    shutil.copytree(config.file.parent, folder, symlinks=True)
    return config_file.load(folder / "config.json")


def token_of(config, name=NAME):
    return forgotten.read(config).find(name)


# ---- reading everything


def contents(path):
    """The texts and numbers of a file, unpacked."""
    data = path.read_bytes()
    yield data.decode("utf-8", "replace")
    yield data.decode("utf-16-le", "replace")
    if path.suffix == ".parquet":
        yield from of_table(data)
    elif path.suffix == ".npz":
        for values in np.load(path).values():
            yield values
            if values[:4].tobytes() == b"PAR1":
                yield from of_table(values.tobytes())
    elif path.suffix == ".npy":
        yield np.load(path)["key"]
    elif path.suffix == ".pdf":
        yield "".join(page.extract_text() for page in pypdf.PdfReader(path).pages)
    elif path.suffix in (".xlsx", ".skops"):
        with zipfile.ZipFile(path) as file:
            yield from (file.read(name).decode("utf-8", "replace") for name in file.namelist())


def of_table(data):
    table = pq.read_table(io.BytesIO(data))
    for column in table.columns:
        is_id = pa.types.is_uint64(column.type)
        yield column.to_numpy() if is_id else str(column.to_pylist())


def hashes_of(name):
    text = name.encode()
    first = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
    key = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    return {first, key, int(key).from_bytes(key.to_bytes(8, "little"), "big")}


def find_everywhere(config, name):
    """The files of the state that contain a name, though not as part of the longer one, or a hash."""
    hashes, found = np.array(sorted(hashes_of(name)), "uint64"), set()
    for folder in STATE:
        for path in (config.file.parent / folder).rglob("*"):
            if not path.is_file() or path.is_symlink():
                continue
            for each in contents(path):
                if isinstance(each, str):
                    is_there = name in each.replace(LONGER, "").replace(json.dumps(name), name)
                else:
                    is_there = each.dtype == np.uint64 and np.isin(hashes, each).any()
                if is_there:
                    found.add(path.relative_to(config.file.parent).as_posix())
    return found
