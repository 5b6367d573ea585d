"""Lets signed-in users change their own password."""

from accounts.caller import Caller
from accounts.errors import WrongPassword
from accounts.login_throttle import LoginThrottle
from accounts.users import Users
from core.errors import Forbidden


async def change_own_password(
    users: Users,
    throttle: LoginThrottle,
    caller: Caller,
    passwords: tuple[str, str],
    address: str,
) -> None:
    """Replace the password of a signed-in user; every session of the user ends.

    Args:
        users: Where the user's password is stored.
        throttle: Limits attempts with a wrong password.
        caller: The signed-in user.
        passwords: The current password and the new one.
        address: The client's IP address, for the audit log.

    Raises:
        Forbidden: The caller is an API key.
        TooManySignIns: Too many attempts with a wrong password.
        WrongPassword: The current password is wrong.
        InvalidAccount: The new password is too weak.
    """
    if caller.id != caller.user:
        raise Forbidden("An API key has no password: sign in first")
    current, new = passwords
    await throttle.attempt_change(caller.user)
    if not await users.check(caller.user, current):
        await users.record_wrong_password(caller, address)
        raise WrongPassword("current: the current password is wrong", param="current")
    await throttle.forgive_change(caller.user)
    await users.set_password(caller.id, caller.user, None, new)
