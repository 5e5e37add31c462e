"""Pure array functions of the method: affinity, eigenvector, bipartition, pooling."""
