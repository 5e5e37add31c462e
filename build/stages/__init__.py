"""The four stages. Each reads shard files and writes shard files; they know neither engines nor each other."""
