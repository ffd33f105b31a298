"""`python -m geomalign` is the command `geomalign`."""

import sys

from geomalign.cli import main

sys.exit(main())
