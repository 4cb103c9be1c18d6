"""What each command does, from the files it reads to the files it writes."""
