"""What tests share: problems with known answers, forms of data, clusters, faults."""
