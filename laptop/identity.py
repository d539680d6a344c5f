"""The identity of service accounts on the laptop: OpenID Connect tokens, signed by a key in the state folder.

Push subscriptions and scheduler jobs present such tokens, the functions' front door checks them, as Google's
servers do: https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions.
"""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import crypt, exceptions, jwt

from laptop import private

ISSUER = "https://accounts.google.com"
LIFETIME_SECONDS = 3600
RENEWED_BEFORE_SECONDS = 300
REMEMBERED_TOKENS = 1000


class InvalidTokenError(ValueError):
    """A token that must not be accepted; the text tells why."""


class Identity:
    """Mints and verifies tokens.

    Args:
        state: the folder of the whole laptop. The key is made in ``state / "identity"`` by whoever comes first; any
            number of processes may do so at the same time.
        now: seconds since 1970.
    """

    def __init__(self, state: Path, now: Callable[[], float] = time.time) -> None:
        self._now = now
        private.folder(state)
        pem = private.once(state / "identity" / "key.pem", _new_key)
        key = serialization.load_pem_private_key(pem, password=None)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self._key_id = hashlib.sha256(public).hexdigest()[:40]
        self._signer = crypt.RSASigner.from_string(pem, self._key_id)
        self._certificates = {self._key_id: public}
        self._minted: dict[tuple[str, str], tuple[float, str]] = {}
        self._verified: dict[tuple[str, str], Mapping[str, Any]] = {}

    def token(self, email: str, audience: str) -> str:
        """A token for the service account ``email``, good for at least five minutes and at most an hour.

        The same one is given out until it gets old.
        """
        now = self._now()
        expires, token = self._minted.get((email, audience), (0.0, ""))
        if expires - now < RENEWED_BEFORE_SECONDS:
            expires = now + LIFETIME_SECONDS
            claims = {
                "iss": ISSUER,
                "aud": audience,
                "azp": email,
                "email": email,
                "email_verified": True,
                "sub": str(int(hashlib.sha256(email.encode()).hexdigest()[:16], 16)),
                "iat": int(now),
                "exp": int(expires),
            }
            token = jwt.encode(self._signer, claims).decode()
            self._minted[email, audience] = expires, token
        return token

    def verify(self, token: str, audience: str) -> Mapping[str, Any]:
        """The claims of ``token``. A token that was found good before costs no second look at its signature.

        Raises:
            InvalidTokenError: it is malformed, signed by another key, expired, or meant for another audience.
        """
        claims = self._verified.get((token, audience))
        if claims is None:
            claims = self._checked(token, audience)
            if len(self._verified) >= REMEMBERED_TOKENS:
                self._verified.clear()
            self._verified[token, audience] = claims
        if self._now() >= claims["exp"]:
            raise InvalidTokenError(f"it has expired {self._now() - claims['exp']:.0f} s ago")
        return claims

    def _checked(self, token: str, audience: str) -> Mapping[str, Any]:
        try:
            if jwt.decode_header(token).get("alg") != "RS256":
                raise InvalidTokenError("it is not signed with RS256")
            claims = jwt.decode(token, certs=self._certificates, audience=audience)
        # What stands in the token, as far as the library reads it before it looks at the signature, can be of any type.
        except (
            ValueError,
            TypeError,
            AttributeError,
            LookupError,
            RecursionError,
            exceptions.GoogleAuthError,
        ) as error:
            raise InvalidTokenError(str(error)) from error
        for name in ("iat", "exp"):
            if not _is_time(claims.get(name)):
                raise InvalidTokenError(f"its {name} is no number of seconds")
        if claims.get("iss") != ISSUER:
            raise InvalidTokenError(f"it is issued by {claims.get('iss')!r}, not by {ISSUER!r}")
        email = claims.get("email")
        if claims.get("email_verified") is not True or not isinstance(email, str) or not email:
            raise InvalidTokenError("it names no verified email address")
        return claims


def _is_time(value: Any) -> bool:
    """Whether a claim is a number of seconds, and not NaN, which is neither before nor after any time."""
    return type(value) is int or (type(value) is float and math.isfinite(value))


def _new_key() -> bytes:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
