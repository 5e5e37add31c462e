"""What the benchmarks run, apart from their command lines, which import nothing that takes long."""
