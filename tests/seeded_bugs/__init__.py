"""The checkers checked: bugs of the kind that they are for, each put into a copy of the code."""
