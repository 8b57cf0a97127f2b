"""The steps of a calibration of the metrics; ``scripts/calibrate.py`` is the program."""
