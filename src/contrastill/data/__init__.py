"""From a user's file, a folder or the Hub to rows of a task, and from rows to padded batches.

Nothing is imported here: rows of a file are read where there is no torch.
"""
