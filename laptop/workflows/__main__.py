"""``python -m laptop.workflows``."""

from laptop.service import main
from laptop.workflows.server import build

main("workflows", build)
