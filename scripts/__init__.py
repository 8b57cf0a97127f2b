"""The scripts of this project, and what several of them share."""
