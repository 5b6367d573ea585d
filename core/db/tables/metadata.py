"""All tables together, for migrations and other code that needs the whole schema."""

from core.db.tables import accounts, audit, budgets, files, invoices, prices, usage, webhooks
from core.db.tables.base import Base

SUBJECTS = (accounts, prices, usage, budgets, invoices, audit, files, webhooks)

metadata = Base.metadata
