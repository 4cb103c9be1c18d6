"""Parse → one library call → show. One module a command, imported when it is called."""
