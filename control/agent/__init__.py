"""The node agent: applies what control compiled to the kernel's maps, writes the flow log, answers the commands."""
