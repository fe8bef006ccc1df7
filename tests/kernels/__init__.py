"""Runs the kernel tests on another kernel: Debian's stock one, in software emulation, on this machine's own files."""
