"""Local files that appear whole, under a name that nobody has: by a hard link, or by a rename where a file system has none."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

__all__ = ["appear"]

_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
"""How file systems say that they have no hard links: FAT, exFAT, many network shares and file systems in user space."""
_HERE, _NOREPLACE = -100, 1
"""What ``renameat2`` calls AT_FDCWD and RENAME_NOREPLACE."""


def appear(staged: str | Path, path: str | Path) -> None:
    """Have a staged file appear under another name, whole or not at all; it may be gone under its own.

    Raises
    ------
    FileExistsError
        If a file of that name exists; of several callers one makes it.
    OSError
        If the file system can do neither; says what to do.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.tmp").write_text("a")
    ...     appear(f"{folder}/a.tmp", f"{folder}/a")
    ...     Path(folder, "a").read_text()
    'a'
    """
    try:
        os.link(staged, path)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # an exclusive open could leave half a file after a crash
        failed = _renamed(os.fsencode(staged), os.fsencode(path))
        if failed == errno.EEXIST:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        if failed is not None:
            what = "the file system has no hard links, and cannot rename a file without replacing another"
            raise OSError(error.errno, f"{what}; choose a folder on another one", str(path)) from error


def _renamed(staged: bytes, path: bytes) -> int | None:
    """Rename a file unless another one has the name; return the number of the system's error, None if it is done."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # not Linux, or a C library without it
        return errno.ENOSYS
    done = rename(_HERE, ctypes.c_char_p(staged), _HERE, ctypes.c_char_p(path), ctypes.c_uint(_NOREPLACE))
    return None if done == 0 else ctypes.get_errno()
