"""`python -m recrun` is `recrun`."""

import sys

from recrun.cli import main

sys.exit(main())
