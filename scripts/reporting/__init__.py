"""The report of scripts/report.py: pages, pictures, curves and downloads."""
