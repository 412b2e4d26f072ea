"""Identities with Stripe's prefixes; the same seed gives the same ones in the same order."""

from hashlib import blake2b

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

LENGTHS = {"cus_": 14, "prod_": 14, "si_": 14, "req_": 14, "whsec_": 32}
_LENGTH = 24


class Ids:
    """A source of identities that never repeat within one seed."""

    def __init__(self, seed: str) -> None:
        self._seed = seed.encode()
        self._count = 0

    def next(self, prefix: str) -> str:
        """A fresh identity, such as `cus_…`."""
        self._count += 1
        return prefix + named(self._seed + b"%d" % self._count, LENGTHS.get(prefix, _LENGTH))


def named(name: bytes, length: int = _LENGTH) -> str:
    """The same letters and digits for the same name."""
    number = int.from_bytes(blake2b(name, digest_size=20).digest())
    letters = []
    for _ in range(length):
        number, remainder = divmod(number, 62)
        letters.append(_ALPHABET[remainder])
    return "".join(letters)
