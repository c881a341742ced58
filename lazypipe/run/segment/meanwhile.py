"""Why an attempt at a segment ends without an error: something changed meanwhile, and it is tried again."""

from __future__ import annotations

from lazypipe.errors import LazypipeError

__all__ = ["Meanwhile"]


class Meanwhile(LazypipeError):
    """Files have grown while they were read, and are to be read once more with that cut off; or those of the output were rewritten."""
