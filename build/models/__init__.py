"""The networks: what cuts images into regions, what names regions."""
