"""Sources of images: one module per source, one listing for all. Imports `build.config` only."""
