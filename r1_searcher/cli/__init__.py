"""The command `r1-searcher`: each sub-command calls the library or, in a checkout, the room or the flow."""
