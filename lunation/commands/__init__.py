"""The commands of ``lunation``, one module a group. Each only wires: it reads settings, calls, and prints."""
