"""Access to the state: close folders to other users, and refuse files that another user could write.

A user who can write a model decides every risk, so a release is loaded only if nobody but we or root
could have changed it. Standard library only.
"""

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrition.config import Config
from attrition.errors import AttritionError, Damaged

logger = logging.getLogger(__name__)

UMASK = 0o027
OTHERS = 0o007
WRITABLE = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def private() -> Iterator[None]:
    """Create all files and folders in the block without access for other users."""
    before = os.umask(UMASK)
    try:
        yield
    finally:
        os.umask(before)


def close_folders(config: Config) -> None:
    """Remove the access of other users to our folders.

    Raises: AttritionError if a folder belongs to another user; as root only a warning is logged.
    """
    for folder in (
        config.output_folder,
        config.model_folder,
        config.production_folder,
        config.releases,
        config.reports_folder,
        config.contacts_folder,
    ):
        if not folder.is_dir():
            continue
        about = folder.stat()
        if about.st_uid not in (os.geteuid(), 0):
            text = f"{folder}: belongs to user {about.st_uid}, we are user {os.geteuid()}"
            if os.geteuid() != 0:
                raise AttritionError(f"{text}; run this as its owner, or change it with chown -R")
            logger.warning("%s; new files in it belong to root", text)
        if about.st_mode & OTHERS and about.st_uid == os.geteuid():
            folder.chmod(stat.S_IMODE(about.st_mode) & ~OTHERS)
            logger.info("%s: closed to other users", folder)


def check_readable(config: Config) -> None:
    """Check that this user can read our folders, and may load a release of theirs.

    If the user cannot write the contact log, only a warning is logged.

    Raises: AttritionError that names the user to start the app as.
    """
    us = os.geteuid()
    for folder in (config.production_folder, config.reports_folder, config.output_folder):
        try:
            owner = folder.stat().st_uid
        except FileNotFoundError:
            continue  # before the first run
        except PermissionError as error:
            raise AttritionError(
                f"{error.filename}: user {us} may not go there; start the app as the user who runs "
                "fullprocess.py"
            ) from error
        is_readable = os.access(folder, os.R_OK | os.X_OK)
        if not is_readable or (owner not in (us, 0) and os.path.lexists(config.current)):
            raise AttritionError(
                f"{folder}: belongs to user {owner}, and user {us} may not use what is in it; start "
                "the app as the user who runs fullprocess.py"
            )

    folder = config.contacts_folder
    while not folder.exists():
        folder = folder.parent
    if not os.access(folder, os.W_OK):
        logger.warning("%s: user %d may not write there, so nothing can be entered", folder, us)


def check_private(folder: Path) -> None:
    """Check that no other user could have created or changed a folder or a file in it.

    Raises: Damaged.
    """
    for path in (folder, *sorted(folder.iterdir())):
        check_ours(path)


def check_ours(path: Path) -> None:
    """Check that no other user could have created or changed this file or folder.

    Raises: Damaged; OSError if it does not exist.
    """
    about = path.lstat()
    if stat.S_ISLNK(about.st_mode):
        raise Damaged(f"{path}: is a link, expected the file itself; it is not used")
    if about.st_uid not in (os.geteuid(), 0):
        raise Damaged(
            f"{path}: belongs to user {about.st_uid}, expected {os.geteuid()} or root; it is not "
            "used until it does (chown)"
        )
    if about.st_mode & WRITABLE:
        folder = path if stat.S_ISDIR(about.st_mode) else path.parent
        raise Damaged(
            f"{path}: others may write to it (mode {stat.S_IMODE(about.st_mode):o}); it is not "
            f"used until that is forbidden (chmod -R go-w {folder})"
        )
