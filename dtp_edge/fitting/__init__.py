"""How a profile comes to be from numbers: rates fitted to measured latencies, with held-out errors."""
