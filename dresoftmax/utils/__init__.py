"""Small tools that know nothing of the problem: BLAS threads, atomic writes, tree sums."""
