"""A closed window of time becomes page bodies, several requests at a time."""
