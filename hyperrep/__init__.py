"""Learning from the weights of a zoo and sampling new networks (to come)."""
