"""The embedded default weights, as package data; a valid Hub repository as it stands."""
