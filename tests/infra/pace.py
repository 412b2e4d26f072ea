"""How slow this machine is just now, by an effort that is always the same.

A process's own CPU grows under other people's load, too: they share caches, and often the core.
Imports of Python's own library are slowed as those of a function are.
"""

import subprocess
import sys

QUIET_MS = 90.0
"""CPU of the effort on the machine that the budgets were set on, when it had nothing else to do."""
_MODULES = (
    "asyncio, email.mime.multipart, http.server, importlib.metadata, json, logging.config,"
    " multiprocessing.pool, sqlite3, ssl, tarfile, typing, unittest.mock, urllib.request,"
    " xml.dom.minidom, xmlrpc.client, zipfile"
)
_EFFORT = f"""
import time
began = time.process_time()
import {_MODULES}
print((time.process_time() - began) * 1000)
"""


def slowness() -> float:
    """How many times longer than on the quiet machine the effort takes now; 1 at least."""
    ask = [sys.executable, "-I", "-S", "-c", _EFFORT]
    taken = [float(subprocess.run(ask, capture_output=True, check=True).stdout) for _ in range(3)]
    return max(1.0, min(taken) / QUIET_MS)
