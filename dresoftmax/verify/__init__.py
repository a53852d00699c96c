"""The claims of the paper and of `dresoftmax.theory`, tested on problems and on the user's data.

Each experiment is a module; `claims` records its outcome, and `report` shows it.
The command is ``dresoftmax verify``.
"""
