"""What networks of one library need besides being networks: one file `of_NAME.py` each, found by itself.

Such a file knows its library's classes by their names and imports the library only where one is at hand. See
`library.Library` for what it says.
"""
