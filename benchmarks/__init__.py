"""Side by side with peers, in one run, as ratios: what the README says of speed is made here."""
