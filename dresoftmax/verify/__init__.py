"""The claims of the paper and of `dresoftmax.theory`, tried on problems and on the user's data.

One room for each experiment, `claims` for what it comes to, `report` for how that is shown.
The command is ``dresoftmax verify``.
"""
