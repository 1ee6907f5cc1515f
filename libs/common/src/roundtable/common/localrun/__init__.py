"""Shell layer: `make run`, the whole system on one machine. Knows programs and ports, but nothing of what they say.

`lines` makes log lines readable, `child` keeps one program alive, `plan` says what is to run, `runner` runs it.
"""
