"""How far each shard of a stream is processed, in memory or in a file that a restart finds."""

import json
import threading
from pathlib import Path
from typing import Any

FINISHED = "finished"


class CheckpointError(Exception):
    """The file on disk cannot be used; the message says why and what to do."""


class Checkpoints:
    """Per shard id the last processed sequence number, or `FINISHED`."""

    def __init__(
        self, path: Path | None = None, *, stream: str = "", virtual_shards: int = 1
    ) -> None:
        """Those of one stream, dealt to so many virtual shards.

        Raises:
            CheckpointError: the file is damaged, or was written for another number of virtual
                shards: records would reach the function under other shard ids than before and
                count twice.
        """
        self._path = path
        self._lock = threading.Lock()
        self._stream = stream
        self._virtual_shards = virtual_shards
        self._shards: dict[str, str] = self._read() if path and path.exists() else {}

    def _read(self) -> dict[str, str]:
        kept = self._parsed()
        if kept["stream"] != self._stream:
            return {}  # The table was made anew: another stream, nothing of it processed.
        if kept["virtual_shards"] != self._virtual_shards:
            raise CheckpointError(
                f"{self._path} was written with {kept['virtual_shards']} virtual shards, not "
                f"{self._virtual_shards}; start with that number, or with an empty data folder"
            )
        return dict(kept["shards"])

    def _parsed(self) -> Any:
        assert self._path is not None
        try:
            return json.loads(self._path.read_text())
        except ValueError as damaged:
            raise CheckpointError(
                f"{self._path} is damaged ({damaged}), so nobody knows what was counted already; "
                "put it back or start with an empty data folder"
            ) from None

    def get(self, shard: str) -> str | None:
        """The last processed sequence number, `FINISHED`, or None for a shard never begun."""
        with self._lock:
            return self._shards.get(shard)

    def set(self, shard: str, sequence_number: str) -> None:
        """Remember, on disk too before this returns."""
        with self._lock:
            self._shards[shard] = sequence_number
            if self._path is not None:
                self._write(self._path)

    def _write(self, path: Path) -> None:
        kept = {
            "stream": self._stream,
            "virtual_shards": self._virtual_shards,
            "shards": self._shards,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(kept, indent=1))
        fresh.replace(path)

    def all(self) -> dict[str, str]:
        """Every shard's, for looking at."""
        with self._lock:
            return dict(self._shards)
