"""Why a call cannot be done, in the words of E2B's protocol; the kernel's errors are translated here, once."""

import errno

from execpool.executor.agent_wire import Code

_CODES = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.EEXIST: Code.ALREADY_EXISTS,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
    errno.ENOSPC: Code.NO_SPACE,
    errno.EDQUOT: Code.NO_SPACE,
    errno.EFBIG: Code.TOO_LARGE,
    errno.ENOTDIR: Code.INVALID_ARGUMENT,
    errno.EISDIR: Code.INVALID_ARGUMENT,
    errno.EINVAL: Code.INVALID_ARGUMENT,
    errno.ENAMETOOLONG: Code.INVALID_ARGUMENT,
    errno.ELOOP: Code.FAILED_PRECONDITION,
    errno.ETXTBSY: Code.FAILED_PRECONDITION,
    errno.EMFILE: Code.RESOURCE_EXHAUSTED,
    errno.ENFILE: Code.RESOURCE_EXHAUSTED,
    errno.EAGAIN: Code.RESOURCE_EXHAUSTED,
}


class Trouble(Exception):  # noqa: N818 - the domain's word
    """A call that cannot be done."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def from_kernel(error: OSError, doing: str) -> Trouble:
    """Translate an error of the kernel; `doing` begins the sentence."""
    code = _CODES.get(error.errno or 0, Code.INTERNAL)
    if code is Code.NO_SPACE:
        return Trouble(code, "not enough disk space available")
    return Trouble(code, f"{doing}: {(error.strerror or 'unknown error').lower()}")
