"""The command line as a user has it: arguments, files and servers in; words and exit codes out."""
