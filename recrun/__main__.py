"""`python -m recrun` is `recrun`."""

import sys

from recrun.cli import main
from recrun.config.local_code import leave_out_working_directory

leave_out_working_directory()
sys.exit(main())
