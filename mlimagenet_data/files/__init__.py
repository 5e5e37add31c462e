"""Files and folders: atomic writing, reading of untrusted files, listings, and folders that only this project writes."""
