"""Who may read `/metrics`: any client, or only one that sends the token of the settings.

Invariant: comparing takes the same time however much of a token is right.
"""

from hmac import compare_digest

from pydantic import SecretStr

CHALLENGE = 'Bearer realm="metrics"'
REFUSAL = "/metrics needs the token of PENSTOCK_METRICS__TOKEN: Authorization: Bearer ..."


def may_read_metrics(authorization: str | None, token: SecretStr | None) -> bool:
    """Return whether a request may read the metrics.

    Args:
        authorization: Its `Authorization` header.
        token: The token of the settings; None if none is needed.
    """
    if token is None:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    right = compare_digest(given.strip().encode(), token.get_secret_value().encode())
    return scheme.lower() == "bearer" and right
