"""Every option of a build, its checks, presets, and the command line made from them. Imports nothing else of `build`."""
