"""What goes wrong with the database, in words for the person who runs it."""


class DatabaseError(Exception):
    """The database cannot be used. The message says what to do about it and never holds a password."""
