"""Schema layer: every type of the contract, for the wire and for the log, on msgspec alone.

`errors`, `basics`, `session`, `canvas`, `presence`, `activity` hold the types; `log` what travels inside; `methods` the
table of methods; `envelope` the codec. Nothing here does I/O, reads a clock or draws a random number.
"""
