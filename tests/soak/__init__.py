"""`make soak`: every promise of docs/promises.md, tried many more times than `make test` does, in one table.

A promise is a `Row` (`rows.py`); `__main__.py` lists them, runs them and goes on where it was stopped.
"""
