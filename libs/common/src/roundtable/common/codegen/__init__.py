"""Build layer: documents and types generated from the schema, so that what is written down is what is checked.

`catalog` names things; `json_schema`, `typescript`, `asyncapi`, `openapi` and `pages` each make one kind of document from
it; `inventory` finds the settings and metrics of whatever is installed. `__main__` writes the files or compares them.
"""
