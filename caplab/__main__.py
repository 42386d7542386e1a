"""Make `python -m caplab` the same as `caplab`."""

import sys

from caplab.cli.commands import main

sys.exit(main())
