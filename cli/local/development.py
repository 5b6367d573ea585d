"""Prepares the billing database for `penstock up`: tables, a development account and a price.

Invariant: only the tiny model that ships with the project gets a price, and only if it has none;
real prices are set by a person.
"""

import asyncio
from decimal import Decimal

from sqlalchemy.exc import SQLAlchemyError

from accounts.account_rows import ensure_account
from accounts.api_keys import NewKey
from accounts.caller import Role, digest_of
from accounts.directory_factory import directory_of
from billing.money import plain
from billing.pricing.prices import NewPrice, load_prices, set_price
from billing.pricing.rating import Price
from cli.connect.state_dir import StateDir, write_private
from cli.terminal.failures import Unreachable
from core.db.database import Database
from core.db.schema_version import upgrade
from core.settings.engine import TINY_MODEL
from core.settings.tree import Settings

DEV_ACCOUNT = "dev"
PER_MILLION_IN = Decimal("0.20")
PER_MILLION_CACHED = Decimal("0.05")
PER_MILLION_OUT = Decimal("0.30")


async def prepare_database(settings: Settings) -> str:
    """Create the tables and the development account; return the model's price as text.

    Raises:
        Unreachable: the database does not answer.
    """
    try:
        await asyncio.to_thread(upgrade, settings.database)
    except SQLAlchemyError as error:
        text = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise Unreachable(
            "the billing database cannot be used", text, "PENSTOCK_DATABASE__URL names it"
        ) from None
    database = Database(settings.database, "up")
    try:
        await ensure_account(database, DEV_ACCOUNT, "Development")
        price, is_new = await _price(database, settings)
    finally:
        await database.close()
    return _words(price, settings.engine.served_name, is_new=is_new)


async def ensure_dev_key(state_dir: StateDir, settings: Settings) -> str | None:
    """Create a development key unless there is a valid one; return it only if it is new."""
    key = state_dir.read_key()
    async with directory_of(settings, "up") as directory:
        if key is not None and await directory.cache_sync.truth([digest_of(key)]):
            return None
        new = NewKey(DEV_ACCOUNT, "development only", role=Role.ADMIN, operator=True)
        created = await directory.keys.create("penstock up", new)
    write_private(state_dir.key_file, created.secret + "\n")
    return created.secret


async def _price(database: Database, settings: Settings) -> tuple[Price | None, bool]:
    model = settings.engine.served_name
    async with database.read() as connection:
        versions = (await load_prices(connection)).versions(model)
    if versions or settings.engine.model != str(TINY_MODEL):
        return (versions[-1] if versions else None), False
    tiers = settings.billing.priority_multiplier, settings.billing.flex_multiplier
    amounts = PER_MILLION_IN, PER_MILLION_CACHED, PER_MILLION_OUT
    return await set_price(database, NewPrice(model, *amounts, *tiers), "penstock up"), True


def _words(price: Price | None, model: str, *, is_new: bool) -> str:
    if price is None:
        return f"{model} has no price yet: penstock prices set {model} --input ... --output ..."
    kind = "demonstration price" if is_new else "price"
    amounts = f"{price.currency} {plain(price.input)} in, {plain(price.output)} out"
    return f"{kind} of {model}: {amounts} per million tokens"
