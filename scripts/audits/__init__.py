"""The claims of the paper, judged on its own numbers and on ours; ``scripts/audit.py`` is the program."""
