"""`python -m kflab`."""

import sys

from kflab.cli import main

sys.exit(main())
