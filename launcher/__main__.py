"""``python -m launcher`` is ``axr``."""

import sys

from launcher.cli import main

sys.exit(main())
