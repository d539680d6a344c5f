"""The SHA-256 of a file's content, by which manifests and pointers vouch for the files of a model's folder."""

import hashlib


def sha256_of(content: bytes) -> str:
    """The SHA-256 of ``content``, as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def hash_mismatch(name: str, content: bytes, expected: str | None) -> str | None:
    """Compare a file with the hash that vouches for it.

    Args:
        name: what the returned text calls the file.
        content: the whole file.
        expected: its SHA-256 in hexadecimal; None if nothing vouches for the file.

    Returns:
        None if the hashes are equal; otherwise a text that names the file and both hashes.
    """
    found = sha256_of(content)
    return None if found == expected else f"{name} has SHA-256 {found}; expected {expected}"
