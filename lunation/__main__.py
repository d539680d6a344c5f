"""``python -m lunation``."""

from lunation.cli import main

main()
