"""The hash check of a model's files."""

import pytest

from schemas.file_hash import hash_mismatch, sha256_of

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""The SHA-256 of ``abc``, from the examples of FIPS 180-2 (appendix B.1)."""


def test_the_hash_is_sha256_in_lower_case_hexadecimal():
    """As every stored manifest has it."""
    assert sha256_of(b"abc") == ABC


def test_a_file_with_the_expected_hash_passes():
    """Nothing is said of it."""
    assert hash_mismatch("model.onnx", b"abc", ABC) is None


@pytest.mark.parametrize("expected", ["0" * 64, ABC.upper(), "", None])
def test_any_other_hash_is_refused_with_the_name_and_both_hashes(expected: str | None):
    """A file that nothing vouches for is refused too."""
    assert hash_mismatch("model.onnx", b"abc", expected) == f"model.onnx has SHA-256 {ABC}; expected {expected}"
