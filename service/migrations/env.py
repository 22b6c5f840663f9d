"""Alembic's environment: the revisions run on the connection, and in the transaction, of who called `upgrade`."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
