"""The command line of Music Cloud."""
