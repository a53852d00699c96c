"""Small tools that know nothing of the problem: BLAS threads, files written whole, sums."""
