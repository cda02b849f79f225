"""Networks that packages ship under the names that vendors' tables use: what `network_kernels.py` traces."""
