"""Personal messages from a template and a table of recipients."""
