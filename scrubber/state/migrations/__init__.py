"""One module per version of the state database, in alembic's form.

A step must bear to be done again after a crash in its middle: MySQL cannot undo a CREATE TABLE.
Old processes go on with the new tables, so a step adds and does not take away.
"""
