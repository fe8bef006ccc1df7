"""The privileged part: compile, attach, pin, fill maps, read events. Imports nothing of control or l7proxy."""
