"""All tables at once, for migrations and whoever else needs the whole schema."""

from billing.tables import accounts, audit, budgets, invoices, prices, usage, webhooks
from billing.tables.base import Base

SUBJECTS = (accounts, prices, usage, budgets, invoices, audit, webhooks)

metadata = Base.metadata
