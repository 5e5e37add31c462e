"""What runs a stage's units, and where. Engines know no model, and no stage but by its name."""
