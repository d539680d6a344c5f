"""Tokens on the laptop are signed, expire, and are good for one audience only, as Google's are."""

import base64
import multiprocessing
import stat
import time
from pathlib import Path

import pytest
from google.auth import crypt, jwt

from laptop.identity import ISSUER, LIFETIME_SECONDS, Identity, InvalidTokenError

EMAIL = "pusher@local-dev.iam.gserviceaccount.com"


def test_token_of_one_process_is_good_in_another(tmp_path: Path) -> None:
    """The server that pushes and the front door that checks share nothing but the state folder."""
    token = Identity(tmp_path).token(EMAIL, "https://front.door/classify")

    claims = Identity(tmp_path).verify(token, "https://front.door/classify")

    assert claims["iss"] == "https://accounts.google.com"
    assert claims["aud"] == "https://front.door/classify"
    assert claims["email"] == EMAIL
    assert claims["email_verified"] is True
    assert claims["exp"] - claims["iat"] == LIFETIME_SECONDS
    assert claims["sub"]


def test_wrong_audience_is_refused(tmp_path: Path) -> None:
    """A token for one function does not open another."""
    identity = Identity(tmp_path)
    token = identity.token(EMAIL, "https://front.door/classify")
    with pytest.raises(InvalidTokenError, match="audience"):
        identity.verify(token, "https://front.door/ingest_fast")


def test_expired_token_is_refused(tmp_path: Path) -> None:
    """After an hour it is over."""
    identity = Identity(tmp_path, now=lambda: time.time() - LIFETIME_SECONDS - 60)
    with pytest.raises(InvalidTokenError, match="expired"):
        identity.verify(identity.token(EMAIL, "a"), "a")


def test_a_token_that_was_good_is_refused_when_it_has_expired(tmp_path: Path) -> None:
    """That it was verified once does not make it last longer."""
    clock = [time.time()]
    identity = Identity(tmp_path, now=lambda: clock[0])
    token = identity.token(EMAIL, "a")
    assert identity.verify(token, "a")
    clock[0] += LIFETIME_SECONDS + 1
    with pytest.raises(InvalidTokenError, match="expired"):
        identity.verify(token, "a")


def test_token_of_another_key_is_refused(tmp_path: Path) -> None:
    """A token of somebody else's laptop is worth nothing here."""
    token = Identity(tmp_path / "theirs").token(EMAIL, "a")
    with pytest.raises(InvalidTokenError, match="not found"):
        Identity(tmp_path / "ours").verify(token, "a")


def test_changed_token_is_refused(tmp_path: Path) -> None:
    """Claims cannot be exchanged under a signature."""
    identity = Identity(tmp_path)
    head, _, signature = identity.token(EMAIL, "a").split(".")
    _, other, _ = identity.token("somebody@else", "a").split(".")
    with pytest.raises(InvalidTokenError, match="signature"):
        identity.verify(f"{head}.{other}.{signature}", "a")


@pytest.mark.parametrize("text", ["", "abc", "a.b.c", "e30.e30.e30", "é.ü.ö"])
def test_what_is_no_token_is_refused(tmp_path: Path, text: str) -> None:
    """Anything may stand in a header; nothing but InvalidTokenError comes out."""
    with pytest.raises(InvalidTokenError):
        Identity(tmp_path).verify(text, "a")


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"iss": "https://evil.example"}, "issued by"), ({"email_verified": False}, "email"), ({"email": ""}, "email")],
)
def test_claims_that_google_would_not_make_are_refused(tmp_path: Path, change: dict, reason: str) -> None:
    """The right key is not enough: issuer and verified email address count too."""
    identity = Identity(tmp_path)
    good = jwt.decode(identity.token(EMAIL, "a"), verify=False)
    with pytest.raises(InvalidTokenError, match=reason):
        identity.verify(signed(tmp_path, {**good, **change}), "a")


@pytest.mark.parametrize(
    "change",
    [{"exp": None}, {"exp": "9999999999"}, {"exp": True}, {"exp": float("nan")}, {"exp": float("inf")}, {"exp": [1]},
     {"exp": {}}, {"iat": None}, {"iat": "0"}, {"iat": False}, {"iat": float("nan")}, {"iat": float("-inf")},
     {"iat": []}, {"iat": time.time() + 3600}, {"aud": None}, {"aud": ["a"]}, {"email": 5}],
)  # fmt: skip
@pytest.mark.parametrize("gone", [False, True])
def test_a_claim_that_is_no_number_is_refused(tmp_path: Path, change: dict, gone: bool) -> None:
    """A time that is missing, a text, a truth, NaN or without end would be over never; so is one that begins later."""
    identity = Identity(tmp_path)
    claims = {**jwt.decode(identity.token(EMAIL, "a"), verify=False), **change}
    if gone:
        claims = {name: value for name, value in claims.items() if name not in change}
    with pytest.raises(InvalidTokenError):
        identity.verify(signed(tmp_path, claims), "a")


@pytest.mark.parametrize("part", ["5", "null", "[]", "[" * 40_000, '{"alg": "RS256", "kid": []}', '{"alg": []}', '"x"'])
def test_a_part_of_a_token_may_be_anything(tmp_path: Path, part: str) -> None:
    """It is read before anybody knows who signed it; nothing but InvalidTokenError comes out."""
    identity = Identity(tmp_path)
    head, claims, signature = identity.token(EMAIL, "a").split(".")
    other = base64.urlsafe_b64encode(part.encode()).decode().rstrip("=")
    for token in (f"{other}.{claims}.{signature}", f"{head}.{other}.{signature}", f"{other}.{other}.{signature}"):
        with pytest.raises(InvalidTokenError):
            identity.verify(token, "a")


def signed(state: Path, claims: dict) -> str:
    """A token with the right signature, whatever it claims."""
    key_id = jwt.decode_header(Identity(state).token(EMAIL, "a"))["kid"]
    signer = crypt.RSASigner.from_string((state / "identity" / "key.pem").read_bytes(), key_id)
    return jwt.encode(signer, claims).decode()


def test_token_is_used_again_until_it_gets_old(tmp_path: Path) -> None:
    """Signing costs a millisecond; thousands of pushes a second share one token."""
    clock = [1_000_000.0]
    identity = Identity(tmp_path, now=lambda: clock[0])
    first = identity.token(EMAIL, "a")
    assert identity.token(EMAIL, "a") == first
    assert identity.token(EMAIL, "b") != first
    clock[0] += LIFETIME_SECONDS - 200
    assert identity.token(EMAIL, "a") != first


def _mint(state: Path) -> str:
    return Identity(state).token(EMAIL, "a")


def test_processes_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    """The key appears once and whole, whoever comes first."""
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        tokens = pool.map(_mint, [tmp_path] * 8)
    identity = Identity(tmp_path)
    assert [identity.verify(token, "a")["iss"] for token in tokens] == [ISSUER] * 8
    assert [path.name for path in (tmp_path / "identity").iterdir()] == ["key.pem"]


def test_key_is_for_its_owner_only(tmp_path: Path) -> None:
    """Other users of the machine cannot mint tokens."""
    Identity(tmp_path)
    assert stat.S_IMODE((tmp_path / "identity" / "key.pem").stat().st_mode) == 0o600
