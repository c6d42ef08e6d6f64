"""What a profiler raises that has no profile to give."""


class ProfileUnavailable(Exception):
    """Why there is none, and what to do about it, in one or two sentences."""
