"""Replay a recorded run in memory, and say what each death would have left on the disk.

The shim recorded every call that changed the project, with its data. From that follow, exactly and
without running anything again, the trees that a kill or a power cut at the k-th call leaves. The model
of durability is the strict one of POSIX: data counts once its file was fsynced, a name (made, moved or
removed) once its folder was. `power_cut` keeps the names and loses the data, `lost_names` loses both.
"""

import functools
import hashlib
import os
import shutil
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

OPEN, WRITE, FSYNC, RENAME, UNLINK, MKDIR, RMDIR, SYMLINK, LINK, TRUNCATE, CHMOD = range(1, 12)
NAMES = "- open write fsync rename unlink mkdir rmdir symlink link truncate chmod".split()
ENTRY = struct.Struct("<QQqIIIIII")
CRASHES = ("kill_before", "kill_after", "torn", "power_cut", "lost_names")

# path below the project -> (kind, mode, content or target)
Tree = dict[str, tuple[str, int, bytes]]


@dataclass(frozen=True)
class Call:
    """One call that was made: `path` as it was given, data or the other path where it has one."""

    k: int
    op: int
    inode: int
    mode: int
    number: int
    path: str
    other: str
    data: bytes

    @property
    def name(self) -> str:
        return NAMES[self.op]


def read_calls(log: Path) -> list[Call]:
    """Read what the shim recorded, in the order of the calls."""
    raw, at, calls = log.read_bytes(), 0, []
    while at < len(raw):
        k, inode, number, op, mode, n_path, n_other, n_data, _ = ENTRY.unpack_from(raw, at)
        at += ENTRY.size
        path, other = raw[at : at + n_path], raw[at + n_path : at + n_path + n_other]
        at += n_path + n_other
        data, at = raw[at : at + n_data], at + n_data
        calls.append(Call(k, op, inode, mode, number, os.fsdecode(path), os.fsdecode(other), data))
    return sorted(calls, key=lambda call: call.k)


@dataclass(eq=False)
class Node:
    """A file, folder or link: what it holds now, and what a power cut would leave of that."""

    kind: str
    mode: int
    content: bytes = b""
    durable: bytes = b""
    names: dict[str, "Node"] = field(default_factory=dict)
    durable_names: dict[str, "Node"] = field(default_factory=dict)


class Disk:
    """The project as the calls so far have left it; what was there before them is durable."""

    def __init__(self, project: Path) -> None:
        self.project = str(project)
        self.inodes: dict[int, Node] = {}
        self.root = self._load(project)

    def _load(self, path: Path) -> Node:
        about = path.lstat()
        mode = stat.S_IMODE(about.st_mode)
        if path.is_symlink():
            target = os.fsencode(os.readlink(path))
            node = Node("link", 0o777, target, target)
        elif path.is_dir():
            names = {child.name: self._load(child) for child in path.iterdir()}
            node = Node("folder", mode, names=names, durable_names=dict(names))
        else:
            data = path.read_bytes()
            node = Node("file", mode, data, data)
        self.inodes[about.st_ino] = node
        return node

    def _parent(self, path: str) -> tuple[Node, str]:
        """Find the folder that holds a name; links on the way are followed."""
        path = os.path.normpath(path)
        assert path.startswith(self.project + "/"), path
        *above, name = path[len(self.project) + 1 :].split("/")
        node = self.root
        for i, part in enumerate(above):
            node = node.names[part]
            if node.kind == "link":
                target = [self.project, *above[:i], os.fsdecode(node.content)]
                return self._parent("/".join([*target, *above[i + 1 :], name]))
        return node, name

    def _find(self, path: str) -> Node:
        folder, name = self._parent(path)
        return folder.names[name]

    def apply(self, call: Call, *, share: float = 1.0) -> None:
        """Make a call's change; of a write only a share of its bytes."""
        if call.op in (OPEN, MKDIR, SYMLINK):
            self._make(call)
        elif call.op == WRITE:
            data = call.data[: int(len(call.data) * share)]
            node = self.inodes[call.inode]
            node.content = _written(node.content, data, call.number)
        elif call.op == FSYNC:
            node = self.inodes[call.inode]
            node.durable, node.durable_names = node.content, dict(node.names)
        elif call.op == RENAME:
            folder, name = self._parent(call.path)
            target, new_name = self._parent(call.other)
            target.names[new_name] = folder.names.pop(name)
        elif call.op in (UNLINK, RMDIR):
            folder, name = self._parent(call.path)
            del folder.names[name]
        elif call.op == LINK:
            folder, name = self._parent(call.other)
            folder.names[name] = self._find(call.path)
        elif call.op == TRUNCATE:
            node = self.inodes[call.inode]
            node.content = node.content[: call.number].ljust(call.number, b"\0")
        elif call.op == CHMOD:
            self.inodes[call.inode].mode = stat.S_IMODE(call.mode)

    def _make(self, call: Call) -> None:
        if call.op == OPEN and call.number != 1:
            if call.number == 2:
                self.inodes[call.inode].content = b""
            return
        kind = {OPEN: "file", MKDIR: "folder", SYMLINK: "link"}[call.op]
        mode = 0o777 if kind == "link" else stat.S_IMODE(call.mode)
        target = os.fsencode(call.other)
        node = Node(kind, mode, target, target)  # a link's target comes with its name
        folder, name = self._parent(call.path)
        folder.names[name] = self.inodes[call.inode] = node

    def tree(self, death: str = "kill") -> Tree:
        """Return what is on the disk after a kill, a power_cut, or one with lost_names."""
        found: Tree = {}

        def walk(node: Node, path: str) -> None:
            if node.kind == "folder":
                found[path] = ("folder", node.mode, b"")
                names = node.durable_names if death == "lost_names" else node.names
                for name, child in names.items():
                    walk(child, f"{path}/{name}" if path else name)
            else:
                content = node.content if death == "kill" else node.durable
                found[path] = (node.kind, node.mode, content)

        walk(self.root, "")
        return found


def _written(content: bytes, data: bytes, offset: int) -> bytes:
    return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data) :]


def crash_trees(
    disk: Disk, calls: list[Call], points: set[int], crashes: set[str]
) -> Iterator[tuple[int, str, Call, Tree]]:
    """Yield (k, crash, call, tree) for the crashes at the chosen calls.

    A power cut at k comes right before the call; a torn call is a write cut in half, any other one
    dies when it is done.
    """
    for call in calls:
        wanted = crashes if call.k in points else set()
        if "kill_before" in wanted:
            yield call.k, "kill_before", call, disk.tree()
        for cut in ("power_cut", "lost_names"):
            if cut in wanted:
                yield call.k, cut, call, disk.tree(cut)
        if "torn" in wanted and call.op == WRITE:
            node = disk.inodes[call.inode]
            whole = node.content
            disk.apply(call, share=0.5)
            yield call.k, "torn", call, disk.tree()
            node.content = whole
        disk.apply(call)
        if "kill_after" in wanted:
            yield call.k, "kill_after", call, disk.tree()
        if "torn" in wanted and call.op != WRITE:
            yield call.k, "torn", call, disk.tree()


def digest(tree: Tree) -> str:
    """Hash a tree: two deaths that leave the same need only one recovery."""
    whole = hashlib.sha256()
    for path, (kind, mode, content) in sorted(tree.items()):
        inner = _sha256(content)
        whole.update(f"{path}\0{kind}\0{mode:o}\0{inner}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


@functools.lru_cache(4096)
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_tree(project: Path) -> Tree:
    """Read what is really there."""
    return Disk(project).tree()


def difference(one: Tree, other: Tree) -> list[str]:
    """Name the paths in which two trees differ."""
    return sorted(path for path in {*one, *other} if one.get(path) != other.get(path))


def write_tree(project: Path, tree: Tree) -> None:
    """Make a folder hold just this; it is emptied before."""
    empty(project)
    for path, (kind, mode, content) in tree.items():
        target = project / path
        if kind == "folder":
            target.mkdir(exist_ok=True)
            target.chmod(mode)
        elif kind == "link":
            os.symlink(os.fsdecode(content), target)
        else:
            target.write_bytes(content)
            target.chmod(mode)


def empty(folder: Path) -> None:
    """Remove all that is in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
