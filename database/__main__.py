"""`python -m database` installs the engine."""

import sys

from database.errors import DatabaseError
from database.installation import install_engine

try:
    install_engine()
except DatabaseError as error:
    sys.exit(str(error))
