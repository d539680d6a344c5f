"""``python -m laptop.dataproc``."""

from laptop.dataproc.server import build
from laptop.service import main

main("dataproc", build)
