"""``python -m laptop.functions --state DIR``."""

from laptop.functions import build
from laptop.service import main

if __name__ == "__main__":
    main("functions", build)
