"""Data sets that are composed of public data at hand, with labels that are exact because they were placed."""
