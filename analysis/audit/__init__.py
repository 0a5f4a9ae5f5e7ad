"""Whether networks are new: `novelty`."""
