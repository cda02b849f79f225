"""One run: what was asked, the network, the cut, the files and the facts, each made from the one before."""
