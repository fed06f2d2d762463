"""Private plumbing that every folder may use: files, names, the terminal, threads.

Nothing here knows what a face is. What only one folder needs stays in that folder.
"""
