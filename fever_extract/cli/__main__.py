"""``python -m fever_extract.cli``, for where the command is not on the path."""

import sys

from fever_extract.cli.main import main

sys.exit(main())
