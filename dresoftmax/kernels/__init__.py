"""The fused loops over rows, compiled by Numba."""
