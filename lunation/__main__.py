"""``python -m lunation``."""

from lunation.cli import app

app(prog_name="lunation")
