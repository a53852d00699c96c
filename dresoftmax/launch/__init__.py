"""Launching: from a cluster spec to a connected client, or to a description of the cluster.

`dresoftmax.launch.spec` defines what a spec is, `dresoftmax.launch.security` what is refused and
which defaults are safe.
"""

from dresoftmax.launch.open import describe, local_spec, open_cluster

__all__ = ["describe", "local_spec", "open_cluster"]
