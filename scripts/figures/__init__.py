"""The figures of the paper, one module per kind; ``scripts/figure.py`` is the program."""
