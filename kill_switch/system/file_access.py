"""Open files in the state and runtime directories with owners and modes that all processes concerned can use.

The journal, latch files and the write-ahead note use this. Root and the daemon's user both write there: `fire --direct`
from a root shell, with any umask, beside a daemon that is not root. Files that root creates get the directory's owner,
and root never follows a link there.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MODE = 0o640  # the group may read the journal, other users nothing
_TRIES = 5  # because a file may appear or vanish between two system calls


def open_ours(path: Path, flags: int, mode: int = MODE) -> int:
    """Open a regular file, and create it if `flags` has `O_CREAT`; return the descriptor, or raise `OSError`.

    If others than root can write to the directory, a file that root creates gets the directory's owner and group. Its
    mode is `mode`, whatever the umask. The call never waits for the other end of a pipe.
    """
    flags |= os.O_CLOEXEC | os.O_NONBLOCK
    try:
        directory = path.parent.stat()
        shared = os.geteuid() == 0 and (directory.st_uid != 0 or directory.st_mode & stat.S_IWGRP)
        fd = _open_as_root(path, flags, mode, directory) if shared else os.open(path, flags, mode)
    except PermissionError as error:
        raise PermissionError(error.errno, _owner_words(path, error), str(path)) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a file", str(path))
    return fd


def _open_as_root(path: Path, flags: int, mode: int, directory: os.stat_result) -> int:
    """Open or create a file as root in a directory where another user may have placed a link to one of root's files."""
    flags |= os.O_NOFOLLOW
    for _ in range(_TRIES):
        try:
            fd = os.open(path, flags & ~os.O_CREAT)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
        else:
            status = os.fstat(fd)
            if status.st_nlink > 1 and status.st_uid == 0:
                os.close(fd)
                raise OSError(errno.EPERM, "a file of root's that has another name elsewhere", str(path))
            return fd
        try:
            fd = os.open(path, flags | os.O_EXCL, mode)
        except FileExistsError:
            continue
        try:
            os.fchmod(fd, mode | (directory.st_mode & stat.S_IWGRP))
            os.fchown(fd, directory.st_uid, directory.st_gid)
        except OSError:
            pass  # because a file that only root can use is better than none
        return fd
    raise OSError(errno.EBUSY, "it appears and vanishes repeatedly", str(path))


def _owner_words(path: Path, error: OSError) -> str:
    """Return the error's text; if the file's owner is the cause, with the `chown` that mends it."""
    why = error.strerror or "no"
    try:
        file, directory = os.lstat(path), path.parent.stat()
    except OSError:
        return why
    if file.st_uid == os.geteuid():
        return why
    return f"{why}: {path.name} belongs to uid {file.st_uid}; chown {directory.st_uid}:{directory.st_gid} {path}"
