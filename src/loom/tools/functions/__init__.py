"""How ``@tool`` reads a function: signature, docstring and schema, arguments in, results out."""
