"""Where the node proxy stands: `ground` makes the place, `hooks` attaches the kernel's side of it there.

Import these modules, not names from here: loader.mesh needs the one, and the other needs loader.mesh.
"""
