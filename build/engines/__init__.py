"""How the units of a stage are run: here, one after the other on this machine. Engines know no model and no stage."""
