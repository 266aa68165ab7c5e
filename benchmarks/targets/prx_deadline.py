"""prx with a deadline for the whole call, which a thread of its own keeps."""

from __future__ import annotations

import functools

from targets import prx_plain

VENV = ""
IMPORT = prx_plain.IMPORT
connect = functools.partial(prx_plain.connect, deadline=600)
