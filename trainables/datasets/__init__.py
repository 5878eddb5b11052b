"""The data sets; `load.load` decodes one to uint8 arrays, caches these, and splits them."""
