"""One source of networks a file, each by its prefix, such as `timm:NAME`; `sources.registry` finds them."""
