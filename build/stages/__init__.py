"""The four stages. Each reads and writes shard files, independent of engines and of the other stages."""
