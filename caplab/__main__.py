"""Make `python -m caplab` the same as `caplab`."""

import sys

from caplab.cli import main

sys.exit(main())
