"""Files and folders: atomic writing, reading of foreign files, listings, output folders, and text that is safe to print."""
