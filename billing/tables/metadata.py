"""All tables at once, for migrations and whoever else needs the whole schema."""

from billing.tables import accounts, audit, budgets, files, invoices, prices, usage, webhooks
from billing.tables.base import Base

SUBJECTS = (accounts, prices, usage, budgets, invoices, audit, files, webhooks)

metadata = Base.metadata
