"""Settings of the SQL database, the ledger, and the seller on invoices."""

from decimal import Decimal
from typing import Literal

from pydantic import Field, SecretStr

from core.settings.base import SettingsGroup, health_host, health_port
from core.settings.urls import DatabaseUrl


class DatabaseSettings(SettingsGroup):
    """The SQL database of accounts, prices, the ledger and finished jobs."""

    url: DatabaseUrl = Field(
        default=SecretStr("sqlite+aiosqlite:///.penstock/penstock.db"),
        description="URL of the database: `sqlite+aiosqlite:///FILE` or"
        " `postgresql+psycopg://USER:PASSWORD@HOST/NAME`.",
    )
    timeout_seconds: float = Field(
        default=5.0, gt=0, description="Seconds to wait for a connection or a lock."
    )
    statement_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Maximum seconds of one statement of the API or the ledger (PostgreSQL);"
        " exports may take longer.",
    )
    connections: int = Field(
        default=5, ge=1, description="Maximum number of connections per process (PostgreSQL)."
    )


class BillingSettings(SettingsGroup):
    """The ledger process, and what the tiers cost by default."""

    batch_events: int = Field(
        default=1_000,
        ge=1,
        le=10_000,
        description="Maximum number of usage events in one transaction.",
    )
    claim_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Seconds until another ledger process takes over outbox entries whose reader"
        " died.",
    )
    priority_multiplier: Decimal = Field(
        default=Decimal("1.50"),
        ge=0,
        decimal_places=2,
        description="Factor on prices for tier `priority`, unless `penstock prices set` gives one.",
    )
    flex_multiplier: Decimal = Field(
        default=Decimal("0.50"),
        ge=0,
        decimal_places=2,
        description="Factor on prices for tier `flex`, unless `penstock prices set` gives one.",
    )
    archive_days: int = Field(
        default=30,
        ge=1,
        description="Days that results of finished jobs stay in SQL; the ledger is never deleted.",
    )
    budgets_when_unknown: Literal["refuse", "allow"] = Field(
        default="allow",
        description="What an API process does with jobs until it has read the budgets from SQL"
        " once: `refuse` or `allow`.",
    )
    metric_accounts: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="How many accounts the metrics `penstock_account_*` of a ledger process name,"
        " the first ones that it records; all others are `(other)`. 0: no metrics by account.",
    )
    health_host: str = health_host("ledger process")
    health_port: int = health_port("ledger process", 8082)


class SellerSettings(SettingsGroup):
    """Who issues the invoices. Closing a month copies these values onto its invoices."""

    name: str = Field(default="", description="Name of the seller.")
    address: str = Field(
        default="", description="Address; `|` starts a new line, in all of these settings."
    )
    email: str = Field(default="", description="Email address for questions about an invoice.")
    tax_id: str = Field(default="", description="Tax number.")
    payment: str = Field(default="", description="How to pay: bank, account, terms.")
    due_days: int = Field(default=30, ge=0, description="Days from issue until payment is due.")
