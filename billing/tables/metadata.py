"""All tables at once, for migrations and whoever else needs the whole schema."""

from billing.tables import accounts, audit, budgets, invoices, prices, usage
from billing.tables.base import Base

SUBJECTS = (accounts, prices, usage, budgets, invoices, audit)

metadata = Base.metadata
