"""`python -m contrastill`, for launchers such as torchrun that start modules."""

from contrastill.cli import main

main()
