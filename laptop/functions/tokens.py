"""``google.iam.credentials.v1.IAMCredentials``: identity tokens of service accounts, for whoever calls a function."""

import re
from typing import Any

from google.cloud.iam_credentials_v1 import types

from laptop.errors import invalid
from laptop.identity import Identity

NAME = re.compile(r"projects/-/serviceAccounts/([^/@]+@[^/@]+\.iam\.gserviceaccount\.com)")


class Tokens:
    """RPC handlers.

    Args:
        identity: mints tokens.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    async def generate_id_token(self, request: Any) -> Any:
        """A token for an audience. The one person on this machine may act as every service account."""
        found = NAME.fullmatch(request.name)
        if found is None:
            raise invalid(f"name {request.name!r}: expected projects/-/serviceAccounts/EMAIL")
        if not request.audience:
            raise invalid("audience: for whom is the token? Give the URL of the function")
        return types.GenerateIdTokenResponse.pb()(token=self._identity.token(found[1], request.audience))
