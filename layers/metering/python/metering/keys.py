"""Composite keys that no choice of parts can make collide.

Joining with a separator fails as soon as a part holds it (`a|b`,`c` against `a`,`b|c`). Here each
part carries its own length, so a key can be read back in one way only.
"""

from hashlib import blake2b


def join(*parts: str) -> str:
    """One text for several parts, unambiguous: `join("a", "bc")` is `1:a2:bc`.

    A leading run of parts is a prefix of the whole: `begins_with(join("a"))` finds `join("a", x)`.
    """
    return "".join([f"{len(part)}:{part}" for part in parts])


def split(joined: str) -> tuple[str, ...]:
    """The parts that `join` was given."""
    parts = []
    start = 0
    while start < len(joined):
        colon = joined.index(":", start)
        end = colon + 1 + int(joined[start:colon])
        parts.append(joined[colon + 1 : end])
        start = end
    return tuple(parts)


def digest(text: str, *, size: int = 16) -> bytes:
    """A stable hash of `size` bytes; unlike `hash()`, the same in every process and for ever."""
    return blake2b(text.encode(), digest_size=size).digest()


def shard_of(text: str, shards: int) -> int:
    """Which of `shards` equal parts a text falls into, stable for ever."""
    return int.from_bytes(digest(text, size=4)) % shards
