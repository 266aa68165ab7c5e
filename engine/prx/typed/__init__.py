"""Types of a program's own: what an answer, or the arguments of a tool, are to be. Imported by the first call that names one."""
