"""Who may talk to whom, drawn: from connections to a layout, from a layout to SVG."""
